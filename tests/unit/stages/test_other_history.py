"""Replies after the history of another conversation: what is exchanged, and what it measures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.base.errors import ConfigError, DataError
from pipeline.stages.evaluate.other_history import exchanged_histories, history_sentence, measure_other_history
from pipeline.statistics.bootstrap import Resampling

CONFIG = cast("Any", SimpleNamespace(path="x.yaml"))
GOLD = cast("Any", SimpleNamespace(gold_name="truth"))


def chatml(*said: str) -> str:
    roles = ("user", "assistant") * len(said)
    turns = "".join(f"<|im_start|>{r}\n{t}<|im_end|>\n" for r, t in zip(roles, said, strict=False))
    return f"{turns}<|im_start|>assistant\n"


def plain(*said: str) -> str:
    roles = ("User", "Assistant") * len(said)
    return "\n\n".join([*(f"{r}: {t}" for r, t in zip(roles, said, strict=False)), "Assistant:"])


# Mutations caught: the first place where the last turn's words stand; the same history again.
@pytest.mark.parametrize("write", [chatml, plain])
def test_the_last_turn_follows_another_history(write: Any) -> None:
    prompts = [
        write("I am Ada. What is my name?", "I see.", "What is my name?"),
        write("I am Ada. What is my name?", "I see.", "Who am I?"),
        write("Hello."),
        write("I am Ben.", "Good.", "Tell me my name."),
    ]
    exchanged = exchanged_histories(GOLD, prompts, CONFIG)
    assert exchanged.own == [0, 1, 3]
    assert exchanged.prompts == [
        write("I am Ben.", "Good.", "What is my name?"),
        write("I am Ben.", "Good.", "Who am I?"),
        write("I am Ada. What is my name?", "I see.", "Tell me my name."),
    ]


@pytest.mark.parametrize("prompts", [[], ["The lamp is"], [chatml("hi")], [chatml("a", "b", "c")] * 3])
def test_without_histories_there_is_nothing_to_exchange(prompts: list[str]) -> None:
    with pytest.raises(DataError, match=r"x.yaml: evaluate.other_history: needs conversations of several turns"):
        exchanged_histories(GOLD, prompts, CONFIG)


def test_it_needs_a_truth() -> None:
    with pytest.raises(ConfigError, match="needs a gold score"):
        exchanged_histories(cast("Any", SimpleNamespace(gold_name=None)), ["x"], CONFIG)


# Mutations caught: judged by the history that the reply followed; the gain with the other sign.
def test_the_gain_is_what_the_own_history_brings() -> None:
    prompts = [plain(f"I am {n}.", "Good.", "Who am I?") for n in range(40)]
    exchanged = exchanged_histories(GOLD, prompts, CONFIG)
    names = {prompt: str(n) for n, prompt in enumerate(prompts)}

    def gold_scores(asked: list[str], completions: list[str]) -> list[float]:
        return [float(names[p] == c) for p, c in zip(asked, completions, strict=True)]

    task = cast("Any", SimpleNamespace(gold_scores=gold_scores))
    # The policy goes by the history, whosever it is; the base says 3 to everybody. Two draws of each.
    after = [["3"] * 80, [str((n + 1) % 40) for n in range(40) for _ in "ab"]]
    rows = [[SimpleNamespace(completion=c) for c in side] for side in after]
    gold = [
        gold_scores([p for p in prompts for _ in "ab"], side)
        for side in (after[0], [n for n in names.values() for _ in "ab"])
    ]
    samples = SimpleNamespace(
        prompts=prompts, base=SimpleNamespace(gold_scores=gold[0]), policy=SimpleNamespace(gold_scores=gold[1])
    )
    measured = measure_other_history(task, cast("Any", samples), exchanged, cast("Any", rows), 2, Resampling(0))
    assert measured.gold_score.base.value == pytest.approx(1 / 40)
    assert (measured.gold_score.policy.value, measured.gain.policy.value, measured.gain.base.value) == (0, 1, 0)
    assert "the policy's gold score is 0.00" in history_sentence(measured)
