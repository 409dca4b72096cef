"""Histories of training made by formula: healthy ones, and one for every illness that the doctor knows."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable

from pipeline.health import Facts, diagnose
from pipeline.results.reward import Baseline, PairwiseMetrics
from tests.unit.reporting.given import REWARD, estimate

Row = dict[str, float]
Bend = Callable[[int, float], float]
GOLD = "objective/gold_scores"
UPDATES = 60


def healthy(
    updates: int = UPDATES, seed: int = 0, batch: int = 64, noise: float = 1.0, gold: bool = True
) -> list[Row]:
    """A run like those of the demo: what rises rises to a plateau, with the scatter of a batch.

    Args:
        noise: times the scatter of 64 completions.
    """
    rng, of_texts = random.Random(seed), random.Random(f"texts {seed}")

    def about(mean: float, scatter: float, rng: random.Random = rng) -> float:
        return mean + rng.gauss(0, 1) * scatter * noise * math.sqrt(64 / batch)

    rows: list[Row] = []
    for i in range(updates):
        done = 1 - math.exp(-3 * i / updates)
        kl, spread = 5 * done, 1.0 - 0.3 * done
        score, length = about(2.2 * done, 0.12), about(22, 1.2)
        row = {
            "update": i + 1,
            "episode": batch * (i + 1),
            "lr": 1e-3 * (1 - i / updates),
            "objective/scores": score,
            "objective/scores_std": abs(about(spread, 0.1)),
            "objective/kl": about(kl, 0.02 + 0.06 * kl),
            "objective/kl_k3": abs(about(kl, 0.02 + 0.2 * kl)),
            "objective/rlhf_reward": score - 0.06 * kl - 0.1,
            "policy/entropy_avg": about(1.4 - 0.1 * done, 0.05),
            "policy/clipfrac_avg": max(about(0.02 * (1 - i / updates), 0.004), 0.0),
            "val/explained_variance": about(0.05, 0.05),
            "val/returns_var": abs(about(0.42 - 0.17 * done, 0.05)),
            "val/clipfrac_avg": abs(about(0.03, 0.03)),
            "val/advantages_var": abs(about(0.4 - 0.2 * done, 0.05)),
            "val/ratio_first": 1.0 + rng.gauss(0, 1e-6),
            "loss/value_avg": abs(about(0.15, 0.02)),
            "length/mean": length,
            "eos_rate": min(max(about(0.94, 0.03), 0.0), 1.0),
            "text/repetition": abs(about(0.02, 0.01)),
        }
        if i > 2:  # four updates make a window
            row |= {
                "diversity/closings": about(55, 1.5, of_texts),
                "diversity/openings": about(180, 4, of_texts),
                "diversity/trigrams": about(760, 10, of_texts),
                "diversity/common_closing": abs(about(0.07, 0.005, of_texts)),
                "diversity/spread": abs(about(0.03, 0.005, of_texts)),
                "diversity/sentences": about(3.3, 0.03, of_texts),
                "diversity/patterns": about(45, 1.5, of_texts),
                "diversity/common_pattern": abs(about(0.2, 0.01, of_texts)),
            }
        row["objective/kl_per_token"] = row["objective/kl"] / length
        if gold:
            row[GOLD] = about(0.15 + 0.7 * done, 0.05)
        rows.append(row)
    return rows


def optimum(updates: int = 100, seed: int = 0) -> list[Row]:
    """As on the random walks: scores end at their maximum, and much that is bad elsewhere goes with it."""
    rows = healthy(updates, seed)
    for i, row in enumerate(rows):
        left = math.exp(-i / 5)
        row |= {
            "objective/scores": 1 - 0.65 * left,
            GOLD: 1 - 0.65 * left,
            "objective/scores_std": 0.01 + 0.4 * left,
            "policy/entropy_avg": 0.06 + 0.55 * left,
            "length/mean": 5 + 4.5 * left,
            "val/returns_var": 0.002 + 0.11 * left,
            "val/explained_variance": -0.8 + left,
        }
    return rows


def bent(rows: list[Row], bends: dict[str, Bend]) -> list[Row]:
    """``rows`` with each named figure as its function of the update (1, 2, ...) and its healthy value says."""
    return [
        row | {name: bend(int(row["update"]), row[name]) for name, bend in bends.items() if name in row}
        for row in rows
    ]


def from_update(begin: int, value: float) -> Bend:
    return lambda update, old: value if update >= begin else old


def drifting(begin: int, end: float) -> Bend:
    """From what it was to ``end``, in twenty updates."""
    return lambda update, old: old + (end - old) * min(max(update - begin, 0) / 20, 1.0)


def always(value: float) -> Bend:
    return lambda update, old: value


def names(rows: list[Row], facts: Facts | None = None) -> set[str]:
    return {f.rule for f in diagnose(rows, facts)}


@dataclasses.dataclass
class Ill:
    """Figures bent that measure one thing; the rules that must and may go off; between which updates it begins."""

    rules: set[str]
    bends: dict[str, Bend]
    since: tuple[int, int]
    gold: bool = False
    facts: Facts = dataclasses.field(default_factory=Facts)
    may: frozenset[str] = frozenset()


def falling_gold(update: int, old: float) -> float:
    return old - 0.04 * max(update - 30, 0)


def falling(begin: int) -> Bend:
    return lambda update, old: old - 0.1 * max(update - begin, 0)


RISING_KL = {
    "objective/kl": drifting(10, 30.0),
    "objective/kl_k3": drifting(10, 30.0),
    "objective/kl_per_token": drifting(10, 1.3),
}
ONE_CLOSING = {
    "diversity/closings": drifting(10, 4.0),
    "diversity/common_closing": drifting(10, 0.5),
    "diversity/trigrams": drifting(10, 350.0),
}
ONE_PATTERN: dict[str, Bend] = {
    "diversity/patterns": drifting(10, 8.0),
    "diversity/common_pattern": drifting(10, 0.6),
}
STILL = dict.fromkeys(("objective/kl", "objective/kl_k3", "objective/kl_per_token"), always(1e-7))

ILL = {
    "nan": Ill({"not-finite"}, {"loss/value_avg": from_update(7, math.nan)}, (7, 7)),
    "infinity": Ill({"not-finite"}, {"policy/clipfrac_avg": from_update(7, math.inf)}, (7, 7)),
    "another policy": Ill({"ratio-not-1"}, {"val/ratio_first": from_update(4, 0.95)}, (4, 4)),
    "k3 below 0": Ill({"negative-k3"}, {"objective/kl_k3": from_update(12, -0.01)}, (12, 12)),
    "k1 below 0": Ill({"negative-kl"}, {"objective/kl": from_update(20, -3.0)}, (20, 20)),
    "kl": Ill({"kl-runs-away"}, RISING_KL, (12, 24)),
    "kl over its target": Ill({"kl-runs-away"}, {}, (10, 30), facts=Facts(kl_target=1.0)),
    "entropy": Ill({"entropy-collapse"}, {"policy/entropy_avg": drifting(10, 0.01)}, (25, 31)),
    "loops": Ill({"repetition"}, {"text/repetition": drifting(20, 0.6)}, (24, 32), gold=True),
    "longer": Ill({"length-drift"}, {"length/mean": drifting(20, 48.0)}, (26, 34)),
    "shorter": Ill({"length-drift"}, {"length/mean": drifting(20, 6.0)}, (26, 34)),
    "rarely ended": Ill({"eos-falling"}, {"eos_rate": drifting(20, 0.5)}, (26, 36), gold=True),
    "cut": Ill({"eos-falling", "all-cut"}, {"eos_rate": drifting(20, 0.0)}, (22, 42), gold=True),
    "never ended": Ill({"never-ends"}, {"eos_rate": always(0.01)}, (1, 1), gold=True),
    "harmful value": Ill({"value-not-learning"}, {"val/explained_variance": from_update(30, -0.4)}, (29, 30)),
    "no value": Ill({"value-not-learning"}, {"val/explained_variance": always(0.0)}, (1, 25)),
    "clipped": Ill({"clipped-often"}, {"policy/clipfrac_avg": from_update(15, 0.45)}, (15, 15)),
    "still": Ill({"policy-stands-still"}, STILL, (1, 1)),
    "one score": Ill({"score-constant"}, {"objective/scores_std": always(0.0)}, (1, 1)),
    "saturated": Ill({"score-saturation"}, {"objective/scores_std": drifting(10, 0.001)}, (25, 31)),
    "no advantages": Ill({"advantages-vanish"}, {"val/advantages_var": from_update(20, 1e-9)}, (20, 20)),
    "worse": Ill(
        {"score-falls"},
        {"objective/scores": falling(25), "objective/rlhf_reward": falling(25)},
        (35, 60),
    ),
    "gold falls": Ill(
        {"over-optimisation"}, {GOLD: falling_gold}, (24, 40), gold=True, may=frozenset({"gold-left-behind"})
    ),
    "gold stays": Ill({"gold-left-behind"}, {GOLD: always(0.2)}, (12, 45), gold=True),
    "one closing": Ill({"sentences-collapse"}, ONE_CLOSING, (14, 26), gold=True),
    "few words": Ill({"ngrams-collapse"}, {"diversity/trigrams": drifting(10, 120.0)}, (22, 30), gold=True),
    "one pattern": Ill({"patterns-collapse"}, ONE_PATTERN, (16, 28), gold=True),
    "one phrase": Ill({"phrase-spreads"}, {"diversity/spread": drifting(10, 0.5)}, (18, 26), gold=True),
}


def evaluated(rows: list[Row], check: Callable[[int], float], error: float | None = 0.03) -> list[Row]:
    """``rows`` with a held-out evaluation before the first and at every eighth."""

    def held(update: int) -> Row:
        found = {
            "eval/scores": 2.2 * (1 - math.exp(-update / 20)),
            "eval/kl": update / 10,
            "eval/check": check(update),
        }
        return found | ({} if error is None else {"eval/check_error": error})

    return [held(0), *(row | (held(u) if (u := int(row["update"])) % 8 == 0 else {}) for row in rows)]


def figures(updates: int = 30, batch: int = 64, **columns: Callable[[int], float]) -> list[Row]:
    named = {name.replace("__", "/"): column for name, column in columns.items()}
    return [
        {"update": i, "episode": batch * i} | {n: c(i) for n, c in named.items()} for i in range(1, updates + 1)
    ]


def measured(value: float, low: float, high: float, n: int = 400, clears: bool = True) -> PairwiseMetrics:
    bag = Baseline("bag of words", estimate(0.7, 0.65, 0.75, n), None)
    unknown = Baseline("longer wins", None, "no test pairs")
    empty = Baseline("shorter wins", estimate(None, n=0), None)
    return dataclasses.replace(
        REWARD,
        accuracy=estimate(value, low, high, n),
        baselines=(unknown, empty, bag),
        clears_baselines=clears,
        gold=None,
    )
