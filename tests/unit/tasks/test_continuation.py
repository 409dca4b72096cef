"""Continuation: openings as prompts, sides that do not leak, an even sample, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import ConfigError, DataError
from pipeline.tasks import Task, load_task
from tests.helpers.refusals import refusal


def write(path: Path, texts: list[Any]) -> str:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


def task(dataset: str, **args: Any) -> Task:
    return load_task("continuation", {"dataset": dataset, **args}, "configs/x.yaml")


def stories(n: int) -> list[str]:
    return [f"Story {i} begins here and then goes on for some words." for i in range(n)]


def test_prompts_are_openings_of_the_texts(tmp_path: Path) -> None:
    texts = ["  One two\nthree  four five six seven eight. ", "Nine ten one two three four five six"]
    both = task(write(tmp_path / "a.jsonl", [*texts, "too short to use", *stories(20)]), prompt_words=3)
    prompts = both.prompts("train", None, 0) + both.prompts("test", None, 0)
    # White space between the words is kept.
    assert sorted(prompts) == sorted(["Nine ten one", "One two\nthree", *(f"Story {i} begins" for i in range(20))])


# Catches: a text without blanks that is all prompt, or one word and therefore too short.
def test_openings_of_scripts_without_blanks_are_characters(tmp_path: Path) -> None:
    texts = [f"第{c}个故事从这里开始，然后继续。" for c in "一二三四五六七八九十百千万上下左右"]
    both = task(write(tmp_path / "a.jsonl", texts), prompt_words=4)
    prompts = both.prompts("train", None, 0) + both.prompts("test", None, 0)
    assert sorted(prompts) == sorted(text[:4] for text in texts)


def test_corpus_holds_no_text_whose_prompt_is_tested(tmp_path: Path) -> None:
    # Catches: the whole set as corpus. Two texts share each prompt.
    texts = stories(200) + [s.replace("some", "many") for s in stories(200)]
    t = task(write(tmp_path / "a.jsonl", texts), test_share=0.25)
    test = t.prompts("test", None, 0)
    corpus = t.corpus(0)
    assert corpus is not None
    assert not [text for text in corpus for prompt in test if text.startswith(prompt + " ")]
    assert len(corpus) == 2 * len(t.prompts("train", None, 0)) == 400 - 2 * len(test)
    assert 25 <= len(test) <= 75


def test_draws_are_by_seed_and_repeat_only_when_needed(tmp_path: Path) -> None:
    t = task(write(tmp_path / "a.jsonl", stories(60)))
    there = t.prompts("train", None, 0)
    assert len(set(there)) == len(there)
    assert t.prompts("train", 10, 0) == there[:10]
    assert t.prompts("train", 10, 1) != there[:10]
    many = t.prompts("train", 2 * len(there) + 1, 0)
    assert sorted(many[: len(there)]) == sorted(many[len(there) : -1]) == sorted(there)
    assert many[: len(there)] != many[len(there) : -1]
    assert t.prompts("test", 0, 0) == []


def test_named_test_split_holds_nothing_of_train(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", stories(10))
    write(tmp_path / "test.jsonl", stories(13))
    t = task(str(tmp_path), test_split="test")
    assert sorted(t.prompts("test", None, 0)) == [f"Story {i} begins here" for i in (10, 11, 12)]
    assert len(t.prompts("train", None, 0)) == 10
    assert len(t.corpus(0) or []) == 10


def test_max_texts_is_an_even_sample(tmp_path: Path) -> None:
    # A set sorted by label: the first 100 would all be bad. Binomial(100, 1/2): 3.3 standard deviations are 16.5.
    texts = [f"Bad {text}" for text in stories(500)] + [f"Good {text}" for text in stories(500)]
    t = task(write(tmp_path / "a.jsonl", texts), max_texts=100, test_share=0.01)
    drawn = t.prompts("train", None, 0) + t.prompts("test", None, 0)
    assert abs(sum(p.startswith("Good") for p in drawn) - len(drawn) / 2) <= 16.5
    assert len(drawn) <= 100


def test_gold(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", stories(30))
    assert task(path).gold_scores(["It is"], [" good"]) is None
    assert task(path).gold_name is None
    t = task(path, gold="vader")
    assert t.gold_name == "VADER's opinion (-1..1)"
    # The prompt counts: "not good" is worse than "good". Catches: scoring the completion alone.
    not_good, good = t.gold_scores(["It is not", "It is"], [" good.", " good."]) or []
    assert -1 <= not_good < 0 < good <= 1


def refused(dataset: str, kind: type[Exception] = DataError, **args: Any) -> str:
    return refusal(kind, lambda: task(dataset, **args).prompts("train", 1, 0))


def test_bad_input(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", stories(3))
    assert refused(str(tmp_path / "b.jsonl")).startswith("task_args.dataset: no file")
    said = refused(path, text_column="body")
    assert said.startswith(f'{path}:1: no column "body"; the columns are: text.')
    assert "task_args.text_column" in said
    assert "Lower task_args.min_words" in refused(path, min_words=50)
    assert "3 distinct prompts" in refused(path, test_share=1e-9)
    assert "Raise task_args.test_share" in refused(path, test_share=1e-9)
    same = write(tmp_path / "same.jsonl", [f"The same four words and then number {i}" for i in range(9)])
    assert "one distinct prompt ('The same four words'). At least 2" in refused(same)
    assert refused(write(tmp_path / "c.jsonl", [["list"]])).startswith(f"{tmp_path / 'c.jsonl'}:1: ")


def test_train_and_test_that_are_the_same(tmp_path: Path) -> None:
    for name in ("train", "test"):
        write(tmp_path / f"{name}.jsonl", stories(5))
    assert "every prompt of the test split is in train" in refused(str(tmp_path), test_split="test")


@pytest.mark.parametrize(
    ("args", "fact"),
    [
        ({"min_words": 4}, "min_words = 4"),
        ({"gold": "bleu"}, "vader, none"),
        ({"gold_name": "mine"}, "unknown key"),
    ],
    ids=str,
)
def test_refused_options(args: dict[str, Any], fact: str) -> None:
    assert fact in refused("a.jsonl", ConfigError, **args)


@pytest.mark.parametrize("text", ["['a b c d e f g h', 'i']", '[{"role": "user", "content": "a b c d e f g h"}]'])
def test_a_list_written_as_text_is_no_text(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:3: text is a (list|conversation)"):
        task(write(tmp_path / "a.jsonl", [*stories(2), text])).prompts("train", None, 0)
