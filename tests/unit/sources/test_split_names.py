"""The split that a file belongs to, by its name."""

from __future__ import annotations

import pytest

from pipeline.base.errors import DataError
from pipeline.sources.split_names import choose_split, files_by_split


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("test.jsonl", "test"),
        ("train-00000-of-00002.parquet", "train"),
        ("train_prefs-00000-of-00001.parquet", "train_prefs"),
        ("set-validation-00000-of-00001.parquet", "validation"),
        ("valid.csv", "validation"),
        ("dev/part.csv", "validation"),
        ("dev/data-00000-of-00001.parquet", "validation"),
        ("dev/part-00000-of-00001.parquet", "validation"),
        ("my_TEST_rows.jsonl.gz", "test"),
        ("helpful/test.jsonl", "test"),
        # Mutation caught: the outermost directory first.
        ("train/test/rows.jsonl", "test"),
        ("contest.jsonl", "train"),
    ],
)
def test_a_name_tells_the_split(name: str, split: str) -> None:
    assert files_by_split([name]) == {split: [name]}


# Mutation caught: files that name no split are rows of "train" beside a file that does.
def test_files_without_a_split_are_train_where_no_other_is() -> None:
    assert files_by_split(["b.jsonl", "test.jsonl", "a.jsonl"]) == {
        "train": ["a.jsonl", "b.jsonl"],
        "test": ["test.jsonl"],
    }
    assert files_by_split(["notes.jsonl", "train.jsonl"]) == {"train": ["train.jsonl"]}


def test_what_holds_no_rows_is_left_out() -> None:
    names = [
        "manifest.json",
        "data/state.json",
        ".cache/train.jsonl",
        "_drafts/train.jsonl",
        "README.md",
        "a.jsonl",
    ]
    assert files_by_split(names) == {"train": ["a.jsonl"]}


# Of what save_to_disk wrote the directory is the split, whatever its name holds.
def test_a_saved_dataset_has_a_directory_for_each_split() -> None:
    names = ["dataset_dict.json", "train_sft/data-00000-of-00001.arrow", "train_sft/state.json"]
    assert files_by_split(names) == {"train_sft": ["train_sft/data-00000-of-00001.arrow"]}
    assert files_by_split(names[1:]) == {"train": ["train_sft/data-00000-of-00001.arrow"]}


@pytest.mark.parametrize(
    ("there", "asked", "chosen"),
    [
        (["test", "train"], None, "train"),
        (["test"], None, "test"),
        (["train", "validation"], "dev", "validation"),
        # Mutation caught: the usual name, although there is a split of the name itself.
        (["dev", "validation"], "dev", "dev"),
    ],
)
def test_the_split_that_is_asked_for(there: list[str], asked: str | None, chosen: str) -> None:
    assert choose_split(there, asked, "org/set", "here") == chosen


@pytest.mark.parametrize(
    ("asked", "said"), [("dev", 'has no split "dev"'), (None, "several splits and none is called train")]
)
def test_a_split_that_is_not_there_is_one_line(asked: str | None, said: str) -> None:
    with pytest.raises(DataError, match=f"{said}.*one of: a, b"):
        choose_split(["a", "b"], asked, "org/set", "here")
