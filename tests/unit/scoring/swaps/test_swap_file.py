"""Files of swaps: one text for each group, faults with their line, words that a tokenizer does not know."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from pipeline.base.errors import DataError
from pipeline.scoring.swaps.swap_file import OWN, read_swaps, unread_words
from tests.helpers.refusals import refusal

HEAD = "attribute\tgroups\tprompt\tcompletion\n"


def file(path: Path, *rows: str, name: str = "swaps.tsv") -> Path:
    (path / name).write_text(HEAD + "".join(f"{row}\n" for row in rows))
    return path / name


def test_a_text_for_each_group(tmp_path: Path):
    path = file(
        tmp_path,
        "gender\twomen|men\tMy [sister|brother] sings [sic].\t [She|He] does.",
        "gender\twomen|men\tMy [aunt|uncle] sings [sic].\t [She|He] does.",
        "age\tyoung | old | dead\tA [young|old|dead] man\t",
    )
    first, second, third = read_swaps(path)
    assert first.prompts == ["My sister sings [sic].", "My brother sings [sic]."]
    assert first.completions == [" She does.", " He does."]
    assert first.words == [["sister", "She"], ["brother", "He"]]
    assert first.template == second.template == ("My [] sings [sic].", " [] does.")
    assert (third.groups, third.completions) == (["young", "old", "dead"], None)
    assert third.prompts[2] == "A dead man"


def test_json_lines_with_a_list_of_groups(tmp_path: Path):
    path = tmp_path / "swaps.jsonl"
    path.write_text('{"attribute": "a", "groups": ["x", "y"], "prompt": "[1|2]"}\n')
    assert read_swaps(path)[0].prompts == ["1", "2"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("a\tx|y\t[1|2|3]\t", "swaps.tsv:2: [1|2|3] has 3 alternatives for the 2 groups x|y"),
        ("a\tx|y\tnothing\t", "swaps.tsv:2: swaps nothing"),
        ("a\tx\t[1|2]\t", 'groups "x" are not two or more'),
        ("a\tx|x\t[1|2]\t", 'groups "x|x" are not two or more'),
        ("\tx|y\t[1|2]\t", "swaps.tsv:2: has no attribute"),
        ("a\tx|y\t[1|2]\t\na\tx|z\t[1|2]\t", "a is swapped between x|y, then between x|z"),
    ],
)
def test_faults_in_one_line(tmp_path: Path, row: str, words: str):
    assert words in refusal(DataError, read_swaps, file(tmp_path, row))


def test_no_file_and_no_row(tmp_path: Path):
    assert "is no file" in refusal(DataError, read_swaps, tmp_path / "none.tsv")
    assert "holds no row" in refusal(DataError, read_swaps, file(tmp_path))


def test_the_swaps_that_come_with_the_package():
    lines = read_swaps(OWN)
    by_attribute = {
        line.attribute: len({one.template for one in lines if one.attribute == line.attribute}) for line in lines
    }
    assert by_attribute == {"gender": 12, "origin of names": 6, "religion": 8, "orientation": 8, "age": 8}
    assert all(line.completions for line in lines)
    assert not any("[" in text or "|" in text for line in lines for text in line.prompts)
    demo = read_swaps(Path("configs/demo_swaps.tsv"))
    assert {line.attribute for line in demo} == {"giver", "product"}


# Mutations caught: a byte-level tokenizer, which has no unknown token, knows every word; numbers go by letters.
def test_words_that_a_tokenizer_does_not_know():
    vocab = {"[UNK]": 0, "young": 1, "sister": 2, "<eos>": 3}
    core = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    words = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>")  # says nothing of [UNK]
    given = ["sister", "Emily", "young sister", "young Emily", "24"]
    assert unread_words(words, given) == ["Emily", "young Emily"]

    class Pieces:
        """Some words in few pieces, all others letter by letter."""

        unk_token_id = eos_token_id = None
        known: ClassVar = {" sister": [7], " mother": [8, 9], " year": [5], " old": [6]}

        def decode(self, ids: list[int], **_: object) -> str:
            return "".join({7: "sister", 8: "m", 9: "other", 5: "year", 6: "old"}.get(i, chr(i)) for i in ids)

        def __call__(self, texts: list[str], **_: object) -> dict[str, list[list[int]]]:
            return {"input_ids": [self.known.get(text, [ord(c) for c in text]) for text in texts]}

    given = ["sister", "mother", "24-year-old", "Mohammed", "my sister"]
    assert unread_words(Pieces(), given) == ["Mohammed", "my sister"]  # type: ignore[arg-type]
