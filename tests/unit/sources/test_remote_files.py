"""Rows of files elsewhere: in memory, on a double of the Hub, and where nothing is to be had."""

from __future__ import annotations

import gzip
import io
import random
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfFileSystem

from pipeline.base.errors import DataError
from pipeline.sources import hub as hub_module
from pipeline.sources import remote_files
from pipeline.sources.remote_files import content_mark
from pipeline.sources.row_files import read_file
from pipeline.sources.row_sources import check_source, hub_dataset, located_rows
from pipeline.workflow.graph import data_marks, hub_datasets
from tests.helpers.hub_double import COMMIT, ask_the_double, hub
from tests.helpers.read_rows import rows_of
from tests.helpers.refusals import refusal

ROWS = [{"prompt": f"q{i}", "chosen": "a", "rejected": "b"} for i in range(3000)]


def parquet(rows: list[dict[str, Any]], group: int = 1000) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=group)
    return sink.getvalue()


@pytest.fixture
def bucket() -> str:
    """A place of its own in fsspec's file system in memory."""
    return f"memory:///{uuid.uuid4().hex}"


def put(url: str, content: bytes) -> str:
    with fsspec.open(url, "wb") as file:
        file.write(content)  # type: ignore[union-attr]
    return url


def test_every_kind_of_file_is_read_as_from_the_disk(bucket: str, tmp_path: Path) -> None:
    sink = io.BytesIO()
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    contents = {
        "a.parquet": parquet(ROWS),
        "b.arrow": sink.getvalue(),
        "c.jsonl": b'{"prompt": "x"}\n{"prompt": "y"}\n',
        "d.csv.gz": gzip.compress(b"prompt,chosen\nx,y\n"),
        "e.json": b'[{"prompt": "x"}]',
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        url = put(f"{bucket}/{name}", content)
        here = [(place.replace(str(tmp_path), bucket), row) for place, row in read_file(tmp_path / name)]
        assert [*located_rows(url, where="x")] == here
    assert here == [(f"{bucket}/e.json:1", {"prompt": "x"})]


def test_a_pattern_and_a_directory_with_splits(bucket: str) -> None:
    for name, part in {"train-00000": ROWS[:10], "train-00001": ROWS[10:20], "test-00000": ROWS[20:30]}.items():
        put(f"{bucket}/data/{name}-of-0000{2 if 'train' in name else 1}.parquet", parquet(part))
    put(f"{bucket}/data/README.md", b"no rows")
    assert [*rows_of(f"{bucket}/data/train*.parquet", where="x")] == ROWS[:20]
    assert [*rows_of(f"{bucket}/data", where="x")] == ROWS[:20]
    assert [*rows_of(f"{bucket}/data/", split="test", where="x")] == ROWS[20:30]
    assert [*rows_of(bucket, split="test", subset="data", where="x")] == ROWS[20:30]
    assert "several splits" not in refusal(DataError, located_rows, bucket, split="dev", where="c.yaml")
    pattern = f"{bucket}/data/*.parquet"
    assert "names files; they have no split 'test'" in refusal(
        DataError, located_rows, pattern, split="test", where="c.yaml"
    )


# Mutations caught: reading the file as a whole (``system.cat``), or a row group at once.
def test_no_more_than_pieces_are_read(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [{"prompt": random.Random(i).randbytes(1000).hex()} for i in range(4000)]
    content = parquet(texts, group=4000)
    url = put(f"{bucket}/a.parquet", content)
    asked: list[int] = []

    class Spied(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            asked.append(len(content) if size is None or size < 0 else size)
            return super().read(size)

        def readinto(self, buffer: Any) -> int:
            asked.append(len(buffer))
            return super().readinto(buffer)

    monkeypatch.setattr(remote_files.RemoteFile, "open", lambda self, mode="rb": Spied(content))
    rows = rows_of(url, where="x")
    assert next(rows) == texts[0]
    assert max(asked) <= 1 << 20
    read_for_one = sum(asked)
    assert [*rows] == texts[1:]
    assert read_for_one < sum(asked)


def test_what_is_not_there_is_said_in_one_line(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = f"{bucket}/none.parquet"
    assert f'c.yaml: there is no file "{missing}".' in refusal(DataError, located_rows, missing, where="c.yaml")
    empty = put(f"{bucket}/a.md", b"x").removesuffix("/a.md")
    assert "holds no file of rows" in refusal(DataError, located_rows, empty, where="c.yaml")
    assert "has no revisions" in refusal(DataError, located_rows, missing, revision="v1", where="c.yaml")
    unknown = refusal(DataError, check_source, "nfs4://a/b.parquet", "c.yaml")
    assert "the protocol nfs4:// is not known" in unknown
    url = put(f"{bucket}/broken.parquet", b"PAR1 and nothing else")
    assert f"{url}: is not a readable Parquet file" in refusal(DataError, list, rows_of(url, where="x"))
    text = put(f"{bucket}/broken.jsonl", b'{"a": 1}\nno\n')
    assert f"{text}:2: is not JSON" in refusal(DataError, list, rows_of(text, where="x"))

    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("Unable to locate credentials\nand more")

    monkeypatch.setattr(remote_files.RemoteFile, "open", refuse)
    assert "cannot be read (Unable to locate credentials)" in refusal(DataError, list, rows_of(text, where="x"))
    monkeypatch.setattr(fsspec.implementations.memory.MemoryFileSystem, "find", refuse)
    assert "Check the URL, the network and the credentials." in refusal(DataError, located_rows, text, where="x")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(protocol: str) -> Any:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "filesystem", none)
    line = refusal(DataError, check_source, "s3://bucket/pairs.parquet", "c.yaml: collect.annotator_args.dataset")
    assert line.endswith('"s3://bucket/pairs.parquet" needs s3fs, which is not installed. Run: pip install s3fs')


def test_other_content_is_other_work(bucket: str) -> None:
    url = put(f"{bucket}/a.parquet", parquet(ROWS[:1]))
    before = data_marks({"annotator_args": {"dataset": url}, "sampler": {"url": "http://nowhere.invalid/v1/"}})
    assert before == [content_mark(url)]
    put(url, parquet(ROWS[:2]))
    assert before == data_marks([{"dataset": url}])  # one process reads one state of it
    content_mark.cache_clear()
    assert before != data_marks([{"dataset": url}])
    content_mark.cache_clear()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A double of the Hub with a dataset of two Parquet files."""
    root = tmp_path / "set"
    (root / "data").mkdir(parents=True)
    for number in range(2):
        part = ROWS[number * 10 : number * 10 + 10]
        (root / "data" / f"train-0000{number}-of-00002.parquet").write_bytes(parquet(part))
    (root / "README.md").write_text("# a set\n")
    with hub() as server:
        server.repos["datasets/org/pairs"] = root
        ask_the_double(monkeypatch, server, tmp_path)
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        HfFileSystem.clear_instance_cache()
        yield server
    HfFileSystem.clear_instance_cache()
    hub_module._ask.cache_clear()


def test_files_of_the_hub_are_read_where_they_are(served: Any) -> None:
    url = "hf://datasets/org/pairs/data/*.parquet"
    found = [*located_rows(url, where="x")]
    assert [row for _, row in found] == ROWS[:20]
    assert found[0][0] == f"hf://datasets/org/pairs@{COMMIT}/data/train-00000-of-00002.parquet: row 1"
    assert [*rows_of(f"hf://datasets/org/pairs@{COMMIT}/data", where="x")] == ROWS[:20]
    assert hub_dataset(url) == hub_dataset("hf://datasets/org/pairs") == "org/pairs"
    named = [{"dataset": "org/pairs", "revision": "main", "commit": COMMIT}]
    assert hub_datasets({"dataset": "hf://datasets/org/pairs@main/data"}) == named
    line = refusal(DataError, located_rows, "hf://datasets/org/pairs@main/data", revision="v1", where="c.yaml")
    assert "names a revision" in line
    assert not any("train" in str(p) for p in Path(hub_module._constants().HF_HUB_CACHE).rglob("*.parquet")), (
        "nothing is downloaded"
    )
