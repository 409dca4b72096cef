"""Reading rows: every kind of file gives the same rows, and every broken one gives one line that says where."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.base.errors import DataError
from pipeline.sources import row_files
from pipeline.sources.row_sources import located_rows, rename_columns, require_columns
from tests.helpers.read_rows import rows_of

ROWS: list[dict[str, Any]] = [
    {"prompt": "Où?", "chosen": 'a "quoted", one', "rejected": "two\nlines"},
    {"prompt": "When?", "chosen": "é", "rejected": " x"},
    {"prompt": "Who?", "chosen": "日本", "rejected": "]}"},
]


def jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def separated(delimiter: str) -> str:
    def quote(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    lines = [list(ROWS[0]), *([quote(v) for v in row.values()] for row in ROWS)]
    return "".join(delimiter.join(line) + "\r\n" for line in lines)


def write(path: Path, content: str | bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def parquet(path: Path, rows: list[dict[str, Any]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


def read(source: str, **options: Any) -> list[dict[str, Any]]:
    return list(rows_of(source, where="collect.annotator_args.dataset", **options))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", jsonl(ROWS)),
        ("a.ndjson", "\ufeff" + jsonl(ROWS).replace("\n", "\n\n")),
        ("a.JSONL", jsonl(ROWS)),
        ("a.jsonl.gz", gzip.compress(jsonl(ROWS).encode())),
        ("a.json", json.dumps(ROWS)),
        ("b.json", "\ufeff" + json.dumps(ROWS, indent=2, ensure_ascii=False)),
        ("c.json", jsonl(ROWS)),
        ("a.csv", separated(",")),
        ("b.csv", "\ufeff" + separated(",") + "\n"),
        ("a.tsv", separated("\t")),
        ("a.csv.gz", gzip.compress(separated(",").encode())),
    ],
)
def test_every_text_format_gives_the_same_rows(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert read(write(tmp_path / name, content)) == ROWS


def test_parquet_and_arrow(tmp_path: Path) -> None:
    import datasets

    assert read(parquet(tmp_path / "a.parquet", ROWS)) == ROWS
    datasets.Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "saved"))
    assert read(str(tmp_path / "saved")) == ROWS


def test_text_lines(tmp_path: Path) -> None:
    source = write(tmp_path / "a.txt", "one\r\n\n two \n")
    located = list(located_rows(source, where="x"))
    assert located == [(f"{source}:1", {"text": "one"}), (f"{source}:3", {"text": " two "})]


def test_places_are_lines_of_the_file(tmp_path: Path) -> None:
    # Catches: counting records instead of lines (a blank line and a line break inside quotes shift them).
    source = write(tmp_path / "a.jsonl", '{"a": 1}\n\n{"a": 2}\n')
    assert [place for place, _ in located_rows(source, where="x")] == [f"{source}:1", f"{source}:3"]
    source = write(tmp_path / "a.csv", 'a\n"x\ny"\nz\n')
    assert [place for place, _ in located_rows(source, where="x")] == [f"{source}:2", f"{source}:4"]
    source = write(tmp_path / "a.json", '[\n{"a": 1},\n\n{"a":\n 2},{"a": 3}]')
    assert [place for place, _ in located_rows(source, where="x")] == [f"{source}:{n}" for n in (2, 4, 5)]


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64])
def test_json_in_small_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    # Catches: decoding each piece on its own (a UTF-8 character cut in two), parsing a value before its end.
    monkeypatch.setattr(row_files, "_CHUNK", chunk)
    assert read(write(tmp_path / "a.json", json.dumps(ROWS, ensure_ascii=False))) == ROWS


def test_offset_of_a_character_that_two_pieces_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Catches: counting from the piece instead of from the bytes still pending.
    monkeypatch.setattr(row_files, "_CHUNK", 1)
    with pytest.raises(DataError, match="byte 0xc3 at offset 11"):
        read(write(tmp_path / "a.json", b'[{"a": "caf\xc3("}]'))


def test_a_long_value_is_parsed_a_few_times_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Catches: growing by one piece per attempt, which is quadratic in the size of a value.
    monkeypatch.setattr(row_files, "_CHUNK", 16)
    calls: list[int] = []

    class Counting(json.JSONDecoder):
        def raw_decode(self, s: str, idx: int = 0) -> Any:
            calls.append(len(s))
            return super().raw_decode(s, idx)

    monkeypatch.setattr(row_files.json, "JSONDecoder", Counting)
    rows = [{"a": "x" * 20_000}]
    assert read(write(tmp_path / "a.json", json.dumps(rows))) == rows
    assert len(calls) < 20


def test_rows_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", jsonl(ROWS[:1]) + "broken\n")
    assert next(rows_of(source, where="x")) == ROWS[0]


BROKEN: list[tuple[str, str | bytes, str, str, str]] = [
    # name, content, place (after the path), the fact, the mend
    ("a.jsonl", '{"a": 1}\n{"a": \n', ":2:", "is not JSON", "one JSON object per line"),
    ("a.jsonl", '{"a": 1}\n[1, 2]\n', ":2:", "is an array, not an object", '{"prompt": "..."}'),
    ("a.jsonl", '{"a": 1}\n"text"\n', ":2:", "is a text, not an object", '{"prompt": "..."}'),
    ("a.jsonl", "[" * 100_000, ":1:", "nested too deeply", "Expected"),
    ("a.jsonl", b'{"a": 1}\n{"a": "caf\xe9"}\n', ":2:", "byte 0xe9 at offset 19", "iconv"),
    ("a.json", b'[{"a": "caf\xe9"}]', ":", "byte 0xe9 at offset 11", "iconv"),
    ("a.csv", b"a,b\nx,caf\xe9\n", ":2:", "byte 0xe9 at offset 9", "iconv"),
    ("a.txt", "text\n".encode("utf-16"), ":1:", "is UTF-16", "iconv -f UTF-16"),
    ("a.json", '[{"a": 1},\n{"a": }]', ":2:", "is not JSON", "array of objects"),
    ("a.json", '[{"a": 1}\n', ":2:", 'ends before the closing "]"', "again"),
    ("a.json", '[{"a": 1}, 7]', ":1:", "where an object should start", "array of objects"),
    ("a.csv", "a,b\n1,2\n1,2,3\n", ":3:", "has 3 fields, the header 2", "Quote"),
    ("a.csv", "a,b\n1\n", ":2:", "has 1 fields, the header 2", "Quote"),
    ("a.csv", 'a,b\n1,"2\n', ":2:", "is not valid CSV", '""'),
    ("a.csv", "a,b,a\n1,2,3\n", ":1:", 'names "a" twice', "Rename"),
    ("a.jsonl", "", ":", "is empty", "at least one row"),
    ("a.csv", "a,b\n", ":", "is empty", "at least one row"),
    ("a.json", "[]", ":", "is empty", "at least one row"),
    ("a.parquet", b"PAR1 not really", ":", "not a readable Parquet file", "again"),
    ("a.parquet", "", ":", "not a readable Parquet file", "again"),
    ("a.arrow", b"nothing of the sort", ":", "not a readable Arrow file", "again"),
    ("a.jsonl.gz", b"not gzip", ":", "truncated or corrupt", "again"),
    ("a.jsonl.gz", gzip.compress(jsonl(ROWS * 99).encode())[:-9], ":", "truncated or corrupt", "again"),
    ("a.xlsx", b"PK", ":", 'cannot read a ".xlsx" file', ".jsonl"),
]


@pytest.mark.parametrize(
    ("name", "content", "place", "fact", "mend"), BROKEN, ids=[f"{n}-{case[0]}" for n, case in enumerate(BROKEN)]
)
def test_broken_files(
    tmp_path: Path,
    one_line: Callable[[BaseException], str],
    name: str,
    content: str | bytes,
    place: str,
    fact: str,
    mend: str,
) -> None:
    source = write(tmp_path / name, content)
    with pytest.raises(DataError) as caught:
        read(source)
    said = one_line(caught.value)
    assert said.startswith(source + place)
    assert fact in said
    assert mend in said


@pytest.fixture
def one_line() -> Callable[[BaseException], str]:
    def check(err: BaseException) -> str:
        assert "\n" not in str(err)
        assert len(str(err)) < 700
        return str(err)

    return check


def test_parquet_cut_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet(path, [{"a": str(n)} for n in range(5000)])
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes(2000) + content[2100:])
    with pytest.raises(DataError, match=r"a\.parquet.*not a readable Parquet"):
        read(str(path))


def test_missing_file_names_who_asked_and_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "pairs.jsonl", jsonl(ROWS))
    with pytest.raises(DataError, match=r'^collect\.annotator_args\.dataset: no file .*Did you mean ".*pairs'):
        rows_of(str(tmp_path / "pair.jsonl"), where="collect.annotator_args.dataset")  # at once, not when read


# Seen failing: ``data look "$FILE"`` with FILE unset read every file below the working directory as one set.
def test_an_empty_name_is_not_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "pairs.jsonl", jsonl(ROWS))
    monkeypatch.chdir(tmp_path)
    assert read(".") == ROWS
    for source in ("", " "):
        with pytest.raises(DataError, match="no file is named"):
            read(source)


def test_a_local_typo_does_not_go_to_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.load_dataset", lambda *a, **k: pytest.fail("asked the Hub"))
    (tmp_path / "data").mkdir()
    for source in ("data/typo", "./nothing/here", "file.csv", "org/file.parquet", "name@v3"):
        with pytest.raises(DataError, match="no file or directory"):
            read(source)


# Directories


def test_hub_layout_splits_and_subsets(tmp_path: Path) -> None:
    parquet(tmp_path / "data" / "train-00000-of-00002.parquet", ROWS[:1])
    parquet(tmp_path / "data" / "train-00001-of-00002.parquet", ROWS[1:2])
    parquet(tmp_path / "data" / "train_prefs-00000-of-00001.parquet", ROWS[2:])
    parquet(tmp_path / "data" / "validation-00000-of-00001.parquet", ROWS[:2])
    for other in ("manifest.json", "notes.json", "README.md", ".cache/train.jsonl"):
        write(tmp_path / other, '{"prompt": "not a row"}\n')
    assert read(str(tmp_path)) == ROWS[:2]
    assert read(str(tmp_path), split="train") == ROWS[:2]
    assert read(str(tmp_path), split="train_prefs") == ROWS[2:]
    assert read(str(tmp_path), split="val") == ROWS[:2]
    assert read(str(tmp_path), subset="data", split="dev") == ROWS[:2]
    with pytest.raises(DataError, match=r'no split "test".*one of: train, train_prefs, validation'):
        read(str(tmp_path), split="test")
    with pytest.raises(DataError, match=r'no subset "helpful".*data'):
        read(str(tmp_path), subset="helpful")


def test_directory_of_files_without_split_names(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", jsonl(ROWS[:1]))
    write(tmp_path / "b.jsonl", "")  # an empty shard among others is no error
    write(tmp_path / "c.csv", separated(","))
    assert read(str(tmp_path)) == [ROWS[0], *ROWS]
    write(tmp_path / "test.jsonl", jsonl(ROWS[2:]))
    assert read(str(tmp_path)) == [ROWS[0], *ROWS]
    assert read(str(tmp_path), split="test") == ROWS[2:]


def test_several_splits_none_of_them_train(tmp_path: Path) -> None:
    write(tmp_path / "test.jsonl", jsonl(ROWS))
    assert read(str(tmp_path)) == ROWS
    write(tmp_path / "dev.jsonl", jsonl(ROWS))
    with pytest.raises(DataError, match="Set split to one of: validation, test"):
        read(str(tmp_path))


def test_saved_dataset_dict(tmp_path: Path) -> None:
    import datasets

    saved = datasets.DatasetDict(
        {"train": datasets.Dataset.from_list(ROWS), "odd": datasets.Dataset.from_list(ROWS[:1])}
    )
    saved.save_to_disk(str(tmp_path))
    assert read(str(tmp_path)) == ROWS
    assert read(str(tmp_path), split="odd") == ROWS[:1]


def test_versions_are_not_mixed(tmp_path: Path) -> None:
    for version in ("v000001", "v000002"):
        parquet(tmp_path / "versions" / version / "data" / "train-00000-of-00001.parquet", ROWS)
    (tmp_path / "refs").mkdir()
    with pytest.raises(DataError, match=r"holds versions, not rows.*v000002"):
        read(str(tmp_path))
    assert read(str(tmp_path / "versions" / "v000001")) == ROWS


@pytest.mark.parametrize(
    ("options", "fact"),
    [({"revision": "main"}, "no revisions"), ({"split": "test"}, "no split"), ({"subset": "x"}, "no subset")],
)
def test_options_that_a_single_file_cannot_have(tmp_path: Path, options: dict[str, str], fact: str) -> None:
    with pytest.raises(DataError, match=fact):
        read(write(tmp_path / "a.jsonl", jsonl(ROWS)), **options)


def test_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no file of rows"):
        read(str(tmp_path))


# Columns


def test_missing_column_names_the_columns_and_the_map() -> None:
    with pytest.raises(
        DataError, match=r'^a.csv:2: no column "prompt"; the columns are: prompts, good\. .*columns'
    ) as e:
        require_columns({"prompts": 1, "good": 2}, ["prompt"], "a.csv:2")
    assert "{prompt: prompts}" in str(e.value)


def test_rename_columns() -> None:
    row = {"question": "q", "prompt": "old", "x": 1}
    assert rename_columns(row, {"prompt": "question", "tie": "draw"}) == {"prompt": "q", "x": 1}
    assert rename_columns({"a": 1, "b": 2}, {"a": "b", "b": "a"}) == {"a": 2, "b": 1}


def test_import_is_light() -> None:
    code = "import sys, pipeline.formats.detect; print({'pyarrow', 'datasets', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_of_a_version_only_the_training_rows_are_read(tmp_path: Path) -> None:
    for config in ("data", "votes"):
        parquet(tmp_path / config / "train-00000-of-00001.parquet", [{"config": config}])
    (tmp_path / "manifest.json").write_text("{}")
    assert read(str(tmp_path)) == [{"config": "data"}]
    assert read(str(tmp_path), subset="votes") == [{"config": "votes"}]


# What other programs write


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ";"), ("a.csv", "\t"), ("a.csv", "|"), ("a.tsv", ",")])
def test_other_separators_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, delimiter: str
) -> None:
    assert read(write(tmp_path / name, separated(delimiter))) == ROWS
    assert "fields are separated by" in caplog.text


def test_a_separator_that_the_file_names(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", "sep=;\r\n" + separated(";"))
    assert read(source) == ROWS
    assert next(place for place, _ in located_rows(source, where="x")) == f"{source}:3"


@pytest.mark.parametrize("header", ["prompt", '"a;b"', '"a;b",c', "a,b;c", "text with\ttab,b"])
def test_what_is_no_other_separator(tmp_path: Path, caplog: pytest.LogCaptureFixture, header: str) -> None:
    fields = 1 + ("," in header)
    (row,) = read(write(tmp_path / "a.csv", f"{header}\n{','.join('x' * fields)}\n"))
    assert len(row) == fields
    assert caplog.text == ""


TABLES: dict[str, Any] = {
    "columns": {name: {str(i): row[name] for i, row in enumerate(ROWS)} for name in ROWS[0]},
    "index": {str(i): row for i, row in enumerate(ROWS)},
    "split": {"columns": list(ROWS[0]), "index": [0, 1, 2], "data": [list(row.values()) for row in ROWS]},
    "table": {"schema": {"fields": [], "pandas_version": "1.4.0"}, "data": ROWS},
    "list": {name: [row[name] for row in ROWS] for name in ROWS[0]},
}


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize("layout", TABLES)
def test_a_table_in_one_object(tmp_path: Path, caplog: pytest.LogCaptureFixture, layout: str, name: str) -> None:
    source = write(tmp_path / name, json.dumps(TABLES[layout]) + "\n")
    located = list(located_rows(source, where="x"))
    assert [row for _, row in located] == ROWS
    assert located[1][0] == f"{source}: row 2"
    assert "one table as pandas writes it" in caplog.text


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize(
    "row",
    [
        {"chosen": ["a", "b"], "rejected": ["c"]},  # lists of other lengths
        {"fields": {"prompt": "p"}, "metadata": {"x": 1}},
        {"data": {"0": "x"}, "annotations": []},
        {"columns": ["a"], "index": [0], "data": [["x", "y"]]},
        {"prompt": [{"role": "user"}], "chosen": [{"role": "assistant"}]},
    ],
)
def test_one_object_that_is_no_table(tmp_path: Path, name: str, row: dict[str, Any]) -> None:
    assert read(write(tmp_path / name, json.dumps(row))) == [row]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_rows_of_equally_long_lists_are_rows_where_there_are_several(tmp_path: Path, name: str) -> None:
    # Catches: the first of many rows taken for a whole table.
    rows = [{"chosen": ["a", "b"], "rejected": ["c", "d"]}, {"chosen": ["e"], "rejected": ["f"]}] * 2
    assert read(write(tmp_path / name, jsonl(rows))) == rows


def test_an_array_of_arrays_names_the_mend(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="orient="):
        read(write(tmp_path / "a.json", "[[1, 2], [3, 4]]"))


# Catches: a blank line before the header read as a row without columns, lines counted without those in quotes.
def test_blank_lines_and_line_breaks_in_a_csv_keep_their_places(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'\n\na,b\n1,2\n\n3,"x\ny"\n4,5\n')
    rows = list(row_files.read_file(path))
    assert rows == [
        (f"{path}:4", {"a": "1", "b": "2"}),
        (f"{path}:6", {"a": "3", "b": "x\ny"}),
        (f"{path}:8", {"a": "4", "b": "5"}),
    ]
    path.write_bytes(b"\xef\xbb\xbfa,b\n1,2\n3,\xff\n")
    with pytest.raises(DataError, match=r"a\.csv:3: is not UTF-8: byte 0xff"):
        list(row_files.read_file(path))


def test_blanks_after_the_commas_of_a_header_are_none_of_the_names(tmp_path: Path) -> None:
    text = 'prompt, chosen , rejected\nWhy?, "So, yes", "No"\n'
    assert read(write(tmp_path / "a.csv", text)) == [{"prompt": "Why?", "chosen": "So, yes", "rejected": "No"}]
    kept = "prompt,chosen\nWhy?, So\n"  # a blank that begins a text
    assert read(write(tmp_path / "b.csv", kept)) == [{"prompt": "Why?", "chosen": " So"}]


def test_columns_without_a_name_are_numbered_and_empty_lines_are_no_rows(tmp_path: Path) -> None:
    spreadsheet = "prompt,chosen,,\nWhy?,So,,\n,,,\n"
    assert read(write(tmp_path / "a.csv", spreadsheet)) == [
        {"prompt": "Why?", "chosen": "So", "column 3": "", "column 4": ""}
    ]
    index = ",prompt\n0,Why?\n"
    assert read(write(tmp_path / "b.csv", index)) == [{"column 1": "0", "prompt": "Why?"}]


def test_lines_that_end_in_cr_alone_are_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"prompt,chosen\rWhy?,So\r")
    assert read(str(path)) == [{"prompt": "Why?", "chosen": "So"}]
