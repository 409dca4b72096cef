"""Win rates from scores, or from a judge's answers.

A judge that cannot answer abstains. An abstention is counted and left out; it is never a loss.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.results.policy import JudgeTrust, WinRate
from pipeline.statistics.bootstrap import as_finite, wilson

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from pipeline.scoring.llm_judge import Answer

POLICY_FIRST = {"first": 1.0, "second": 0.0, "tie": 0.5}
"""The outcome of an answer where the policy's completion was shown first."""


def outcomes_by_score(before: ArrayLike, after: ArrayLike) -> NDArray[np.float64]:
    """(n,) 1 where ``after`` is higher, 0 where it is lower, .5 where they are equal."""
    difference = as_finite(after, "policy scores") - as_finite(before, "base scores")
    return (np.sign(difference) + 1) / 2


def win_rate(outcomes: ArrayLike, per_prompt: int = 1, level: float = 0.95) -> WinRate:
    """Share won, ties half, with Wilson's interval over prompts.

    A prompt's completions are averaged first, so its part of a win may be any fraction; the interval is then a
    little too wide, as averages scatter less than coins do.

    Args:
        outcomes: (n,) 1, .5 or 0 for the policy; NaN for no answer.
        per_prompt: completions per prompt, which stand together.
    """
    each = np.asarray(outcomes, np.float64)
    grouped = each.reshape(-1, per_prompt)
    grouped = grouped[~np.isnan(grouped).all(1)]
    share = wilson(float(np.nanmean(grouped, 1).sum()) if len(grouped) else 0.0, len(grouped), level)
    wins, ties, losses = (int((each == outcome).sum()) for outcome in (1, 0.5, 0))
    return WinRate(**vars(share), wins=wins, ties=ties, losses=losses)


@dataclass(frozen=True)
class JudgedPairs:
    """The combined result of a judge's two answers on each pair, one in each order.

    Attributes:
        outcomes: (n,) 1 for the policy, 0 for the base, .5 for a tie or a disagreement, NaN for an abstention.
        reasons: (n,) why there was no answer, None where there was one.
        first: (n,) share of a pair's two decided answers that named the completion shown first; NaN where not both
            were decided.
        disagree: (n,) True where both orders were answered and say different things.
    """

    outcomes: NDArray[np.float64]
    reasons: list[str | None]
    first: NDArray[np.float64]
    disagree: NDArray[np.bool_]


def combine_orders(policy_first: Sequence[Answer], base_first: Sequence[Answer]) -> JudgedPairs:
    """Combine the judge's answers on each pair in the two orders.

    Answers that contradict each other, as of a judge that prefers a position, are a tie (Zheng et al. 2023,
    arXiv:2306.05685, section 3.4).
    """
    n = len(policy_first)
    outcomes, first = np.full(n, math.nan), np.full(n, math.nan)
    disagree = np.zeros(n, dtype=np.bool_)
    for i, answers in enumerate(zip(policy_first, base_first, strict=True)):
        choices = [answer.choice for answer in answers if answer.choice is not None]
        if len(choices) < 2:
            continue
        as_policy, as_base = POLICY_FIRST[choices[0]], 1 - POLICY_FIRST[choices[1]]
        disagree[i] = as_policy != as_base
        outcomes[i] = 0.5 if disagree[i] else as_policy
        if "tie" not in choices:
            first[i] = choices.count("first") / 2
    reasons = [a.reason or b.reason for a, b in zip(policy_first, base_first, strict=True)]
    return JudgedPairs(outcomes, reasons, first, disagree)


def judge_trust(judged: JudgedPairs, asked: Sequence[bool], level: float = 0.95) -> JudgeTrust:
    """Measures of the judge's reliability.

    Args:
        asked: (n,) False where the two completions were the same text, which is a tie without asking.
    """
    was_asked = np.asarray(asked, dtype=np.bool_)
    answered = was_asked & ~np.isnan(judged.outcomes)
    decided = judged.first[was_asked & ~np.isnan(judged.first)]
    return JudgeTrust(
        pairs=len(was_asked),
        asked=int(was_asked.sum()),
        abstentions=dict(Counter(reason for reason in judged.reasons if reason is not None)),
        position_bias=wilson(float(decided.sum()), len(decided), level),
        disagreement=wilson(int(judged.disagree[answered].sum()), int(answered.sum()), level),
    )
