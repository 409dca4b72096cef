"""The task of short requests: enough of them, varied, two sides apart, written as the base's template wants."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from pipeline.base.errors import ConfigError, ModelError
from pipeline.tasks import load_task
from pipeline.tasks.requests import Task
from tests.conftest import tiny_tokenizer
from tests.helpers.refusals import refusal

TEMPLATE = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}<assistant>"


@pytest.fixture
def chat(tmp_path: Path) -> str:
    """A tokenizer with a chat template."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(tmp_path / "chat")
    return str(tmp_path / "chat")


def test_there_are_enough_and_no_two_are_alike():
    rows = Task()._rows
    assert Counter(row["split"] for row in rows) == {"train": 560, "test": 140}
    assert len(Counter(row["domain"] for row in rows)) == 14
    plain = [re.sub(r"[^a-z ]", "", row["request"].lower()) for row in rows]
    assert len(set(plain)) == len(plain) == 700
    openings = Counter(" ".join(text.split()[:3]) for text in plain)
    assert max(openings.values()) < 0.26 * 700  # "how do i"
    assert all(15 <= len(row["request"]) <= 90 for row in rows)


def test_the_template_of_the_base_writes_the_turns(chat: str):
    task = load_task("requests", {"chat_template": "base", "system": "Be kind."}, "x.yaml", chat)
    for split, n in (("train", 560), ("test", 140)):
        prompts = task.prompts(split, None, 0)  # type: ignore[arg-type]
        assert len(set(prompts)) == n
        assert all(p.startswith("<system>Be kind.<user>") and p.endswith("<assistant>") for p in prompts)
    with_default = load_task("requests", {"chat_template": chat}, "x.yaml").prompts("test", 1, 0)
    assert with_default[0].startswith("<user>")


def test_without_a_base_there_is_no_template_of_it():
    task = load_task("requests", {"chat_template": "base"}, "x.yaml")
    assert "Set base_model" in refusal(ModelError, task.prompts, "train", 1, 0)


def test_the_gold_score_is_of_the_request_alone(chat: str):
    task = Task(chat_template=chat, system="You are a helpful person who likes gardens, cakes and tea.")
    [prompt] = [p for p in task.prompts("train", None, 0) if "keep ants out" in p]
    reply = "A helpful person likes gardens and cakes and makes some tea for other people all day."
    assert task.gold_scores([prompt], [reply]) == task.gold_scores(
        ["How do I keep ants out of the kitchen?"], [reply]
    )
    assert task.gold_scores([prompt], [reply]) < task.gold_scores(["gardens, cakes and tea"], [reply])


def test_domains():
    task = Task(domains=["food", "pets"])
    assert len(task.prompts("train", None, 0)) == 80
    assert "Choose of: home, food" in refusal(ConfigError, Task(domains=["cars"]).prompts, "train", None, 0)
