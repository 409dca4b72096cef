"""Two runs on shared prompts, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.evaluation.policy.across_runs import on_shared_prompts


def row(prompt: str, gold: float | None, length: int = 10) -> dict[str, Any]:
    return {
        "prompt": prompt,
        "policy_gold_score": gold,
        "policy_score": 1.0,
        "policy_length": length,
        "policy_kl_k1": 2.0,
    }


# Catches: second and first swapped, prompts paired by place, completions of one prompt counted as prompts.
def test_the_difference_is_second_less_first_by_prompt() -> None:
    first = [row("a", 0.1), row("a", 0.3), row("b", 0.5), row("only here", 9.0)]
    second = [row("b", 0.6), row("b", 0.8), row("a", 0.4, 20), row("only there", -9.0)]
    found = on_shared_prompts(first, second)
    assert found.prompts == 2
    gold = found.measures["gold_score"]
    assert gold.first.value == pytest.approx((0.2 + 0.5) / 2)
    assert gold.second.value == pytest.approx((0.4 + 0.7) / 2)
    assert gold.difference.value == pytest.approx(0.2)
    assert gold.difference.n == 2
    # Both prompts differ by .2, however far apart they are: a paired interval has no width.
    assert gold.difference.low == pytest.approx(0.2)
    assert gold.difference.high == pytest.approx(0.2)
    assert found.measures["length"].difference.value == pytest.approx(5.0)


def test_what_a_side_does_not_know_is_left_out() -> None:
    found = on_shared_prompts([row("a", 0.1)], [row("a", None)])
    assert "gold_score" not in found.measures
    assert found.measures["score"].difference.value == 0
    older = [{k: v for k, v in row("a", 0.1).items() if k != "policy_kl_k1"}]
    assert "kl_k1" not in on_shared_prompts(older, older).measures


def test_no_shared_prompt_is_no_comparison() -> None:
    found = on_shared_prompts([row("a", 0.1)], [row("b", 0.1)])
    assert (found.prompts, found.measures) == (0, {})
