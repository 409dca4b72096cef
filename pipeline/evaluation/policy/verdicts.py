"""From a judge's answers to a win rate. Leaves out asking: answers and scores come in.

A judge that cannot answer abstains. An abstention is counted and left out; it is never a loss.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.statistics.bootstrap import as_finite, wilson

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from pipeline.scoring.llm_judge import Answer


def outcomes_by_score(before: ArrayLike, after: ArrayLike) -> NDArray[np.float64]:
    """(n,) 1 where ``after`` is higher, 0 where it is lower, .5 where they are equal."""
    difference = as_finite(after, "policy scores") - as_finite(before, "base scores")
    return (np.sign(difference) + 1) / 2


def win_rate_of(outcomes: ArrayLike, per_prompt: int = 1, level: float = 0.95) -> dict[str, Any]:
    """Share won, ties half, with Wilson's interval over prompts.

    A prompt's completions are averaged first, so its part of a win may be any fraction; the interval is then a
    little too wide, as averages scatter less than coins do.

    Args:
        outcomes: (n,) 1, .5 or 0 for the policy; NaN for no answer.
        per_prompt: completions per prompt, which stand together.
    Returns:
        value, low, high, n (prompts with an answer), and wins, ties, losses (completions).
    """
    found = np.asarray(outcomes, np.float64)
    known = found[~np.isnan(found)]
    grouped = found.reshape(-1, per_prompt)
    grouped = grouped[~np.isnan(grouped).all(1)]
    share = wilson(float(np.nanmean(grouped, 1).sum()) if len(grouped) else 0.0, len(grouped), level)
    counts = {
        "wins": int((known == 1).sum()),
        "ties": int((known == 0.5).sum()),
        "losses": int((known == 0).sum()),
    }
    return {**share.as_dict(), **counts}


@dataclass(frozen=True)
class Verdicts:
    """What two answers on each pair, in the two orders, come to.

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


def both_orders(policy_first: Sequence[Answer], base_first: Sequence[Answer]) -> Verdicts:
    """Put together what the judge said of each pair in either order.

    Who prefers a place says "first" twice, which is a contradiction about the completions: a tie (Zheng et al.
    2023, arXiv:2306.05685, section 3.4).
    """
    n = len(policy_first)
    outcomes, first = np.full(n, math.nan), np.full(n, math.nan)
    disagree = np.zeros(n, dtype=np.bool_)
    reasons: list[str | None] = []
    for i, (one, other) in enumerate(zip(policy_first, base_first, strict=True)):
        reasons.append(one.reason or other.reason)
        if one.choice is None or other.choice is None:
            continue
        says = {"first": 1.0, "second": 0.0, "tie": 0.5}[one.choice]
        again = {"first": 0.0, "second": 1.0, "tie": 0.5}[other.choice]
        disagree[i] = says != again
        outcomes[i] = 0.5 if disagree[i] else says
        if "tie" not in (one.choice, other.choice):
            first[i] = ((one.choice == "first") + (other.choice == "first")) / 2
    return Verdicts(outcomes, reasons, first, disagree)


def verdict_stats(verdicts: Verdicts, asked: Sequence[bool], level: float = 0.95) -> dict[str, Any]:
    """How far the judge is to be trusted, as plain JSON.

    Args:
        asked: (n,) False where the two completions were the same text, which is a tie without asking.
    Returns:
        pairs, asked, abstentions (by reason), position_bias (share of decided answers that named the completion
        shown first, with Wilson's interval over pairs decided in both orders; .5 is none), disagreement (share of
        pairs answered in both orders on which the orders disagree).
    """
    was_asked = np.asarray(asked, dtype=np.bool_)
    answered = was_asked & ~np.isnan(verdicts.outcomes)
    decided = verdicts.first[was_asked & ~np.isnan(verdicts.first)]
    return {
        "pairs": len(was_asked),
        "asked": int(was_asked.sum()),
        "abstentions": dict(Counter(r for r in verdicts.reasons if r is not None)),
        "position_bias": wilson(float(decided.sum()), len(decided), level).as_dict(),
        "disagreement": wilson(int(verdicts.disagree[answered].sum()), int(answered.sum()), level).as_dict(),
    }
