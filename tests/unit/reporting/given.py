"""Figures by hand, as an evaluation and a reward model publish them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from pipeline.results.calibration import Calibration
from pipeline.results.policy import Evaluation
from pipeline.results.reward import PairwiseMetrics, PointwiseMetrics, RewardMetrics, reward_metrics
from pipeline.results.stats import from_json, to_json
from pipeline.statistics.intervals import Estimate


def entry(
    value: float | None, low: float | None = None, high: float | None = None, n: int = 200
) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": n}


def change(base: float, policy: float, low: float, high: float) -> dict[str, Any]:
    return {
        "base": entry(base, base - 0.1, base + 0.1),
        "policy": entry(policy, policy - 0.1, policy + 0.1),
        "difference": entry(round(policy - base, 9), low, high),
    }


def wins(value: float, low: float, high: float) -> dict[str, Any]:
    return {**entry(value, low, high), "wins": 150, "ties": 20, "losses": 30}


def stats_json(**more: Any) -> dict[str, Any]:
    """What every evaluation has had from the first version on."""
    out: dict[str, Any] = {
        "n": 200,
        "level": 0.95,
        "gold_score": change(0.11, 0.57, 0.40, 0.52),
        "score": change(0, 2, 1.8, 2.2),
        "length": change(20, 22, 1, 3),
        "win_rate": {"gold_score": wins(0.8, 0.7, 0.9), "score": None},
        "kl_k1": {**entry(4.0, 3.8, 4.2), "standard_error": 0.1},
        "kl_k3": None,
        "ended": {"base": entry(0.9, 0.8, 1.0), "policy": entry(0.95, 0.9, 1.0)},
        "unique": {"base": 1.0, "policy": 0.5},
        "distinct_1": {"base": None, "policy": None},
    }
    return {**out, **more}


def law(alpha: float, beta: float, name: str, peak: dict[str, Any] | None = None) -> dict[str, Any]:
    coefficients = {"alpha": entry(alpha, alpha - 0.1, alpha + 0.1), "beta": entry(beta, beta - 0.1, beta + 0.1)}
    return {"law": name, **coefficients, "r2": 0.9, "points": 5, "peak": peak, "reason": None}


def newer_json(**more: Any) -> dict[str, Any]:
    """An evaluation with best-of-n, judges, and a run in which gold turned at d = 2 (update 8, KL 4)."""
    rows = [
        {
            "n": n,
            "kl_bound": d * d,
            "d": d,
            "gold_score": entry(gold, gold - 0.1, gold + 0.1),
            "score": entry(score),
        }
        for n, d, gold, score in ((1, 0.0, 0.1, 0.5), (4, 0.8, 0.3, 1.5), (16, 1.4, 0.4, 2.5))
    ]
    yardstick = {
        "policy": entry(0.5, 0.4, 0.6, 64),
        "policy_kl_k1": 4.0,
        "d": 2.0,
        "n_needed": 120,
        "within": False,
        "best_of_n": None,
        "difference": None,
        "largest": {"n": 16, "kl_bound": 1.96, "difference": entry(0.1, -0.05, 0.25, 64)},
    }
    points = [
        {"update": u, "kl_k1": d * d, "d": d, "score": 0.5 + d, "gold": g}
        for u, d, g in ((0, 0.0, 0.2), (4, 1.0, 0.5), (8, 2.0, 0.7), (12, 3.0, 0.5), (16, 4.0, 0.3))
    ]
    no_value = {**entry(None), "slope": None, "reason": "the policy's completions are longer almost everywhere"}
    judged = {"win_rate": wins(0.7, 0.6, 0.8), "length_controlled_win_rate": no_value}
    asked = {"pairs": 400, "asked": 390, "abstentions": {"timed out": 3}, "position_bias": entry(0.6, 0.5, 0.7)}
    return {
        **stats_json(),
        "completions_per_prompt": 2,
        "length_controlled_win_rate": {"gold_score": {**entry(0.6, 0.5, 0.7), "reason": None}, "score": no_value},
        "degenerate": {
            "base": {**entry(0.0, 0.0, 0.02), "kinds": {}},
            "policy": {**entry(0.25, 0.2, 0.3), "kinds": {"loop": 50}},
        },
        "entropy": change(1.4, 1.2, -0.3, -0.1),
        "kl_k1_per_token": entry(0.2, 0.1, 0.3),
        "seeds": [
            {"seed": 0, "kl_k1": 4.0, "gold_score": 0.4, "score": 2.0},
            {"seed": 1, "kl_k1": 4.0, "gold_score": 0.5, "score": 2.0},
        ],
        "judges": {
            "classifier": {"kind": "scorer", "score": change(0, 1, 0.5, 1.5), **judged},
            "a-language-model": {"kind": "llm", **asked, "disagreement": entry(0.2, 0.1, 0.3), **judged},
        },
        "best_of_n": {
            "prompts": 64,
            "samples": 16,
            "reason": None,
            "rows": rows,
            "laws": {"gold_score": law(0.3, 0.05, "best_of_n"), "score": law(1.4, 0.0, "best_of_n")},
            "yardstick": {"gold_score": yardstick, "score": yardstick},
        },
        "policy": {"ref": "demo-policy@v000002", "kl_coef": 0.05, "kl_target": None},
        "overoptimisation": {
            "training": {
                "source": "eval",
                "gold": True,
                "points": points,
                "law": law(0.4, 0.2, "rl", {"d": math.e, "kl": math.e**2, "gain": 0.54, "within": True}),
                "turning_point": {"index": 2, "falls": 2, "reason": None},
            },
            "sweep": {
                "points": [
                    {"ref": ref, "kl_coef": coef, "kl_target": None, "kl_k1": d * d, "d": d, "score": score,
                     "gold": gold}
                    for ref, coef, d, score, gold in (
                        ("demo-policy@v000001", 0.2, 1.0, 1.2, 0.41),
                        ("demo-policy@v000002", 0.05, 2.0, 2.0, 0.57),
                    )
                ],
                "law": None,
                "turning_point": {"index": None, "falls": 0, "reason": "no"},
            },
        },
        "best_checkpoint": {"update": 8, "by": "check", "value": 0.7, "kl_k1": 4.0, "score": 2.5, "kept": 16,
                            "kept_value": 0.3, "is_kept": False},
        **more,
    }  # fmt: skip


def evaluation(stats: dict[str, Any]) -> Evaluation:
    """As a report reads it."""
    return from_json(Evaluation, stats, "demo-evaluation@v000001")


def stats(**more: Any) -> Evaluation:
    return evaluation(stats_json(**more))


def newer(**more: Any) -> Evaluation:
    return evaluation(newer_json(**more))


def estimate(value: float | None, low: float | None = None, high: float | None = None, n: int = 200) -> Estimate:
    return from_json(Estimate, entry(value, low, high, n), "by hand")


def both(base: float, policy: float, **more: Any) -> dict[str, Any]:
    numbers = {"base": entry(base, base * 0.9, base * 1.1), "policy": entry(policy, policy * 0.9, policy * 1.1)}
    ratio = policy / base
    return numbers | {"ratio": entry(ratio, ratio * 0.9, ratio * 1.1), "at": 400, **more}


def favourite(text: str, share: float, other: float) -> dict[str, Any]:
    return {
        "text": text,
        "count": int(400 * share),
        "share": entry(share, share - 0.01, share + 0.01),
        "share_of_other": entry(other, other, other),
    }


def varied_json(collapsed: bool = True, **more: Any) -> dict[str, Any]:
    """Diversity of a policy that ends half of its texts in one sentence, or that is as varied as its base."""
    closings = both(83, 4.5 if collapsed else 79, coverage={"base": 0.93, "policy": 0.99})
    own = favourite("My friends <loved> it.", 0.52, 0.01) if collapsed else favourite("It works.", 0.05, 0.04)
    ends = {"base": favourite("It works.", 0.06, 0.02), "policy": own}
    fall = {"place": "end", "text": own["text"], "share": 0.52, "share_before": 0.06, "before": 83.0, "now": 4.5}
    rows = [
        {"n": n, "kl_bound": 0.1 * n, **both(38, left), "closings": entry(left, left - 1, left + 1),
         "closing": {"text": "It works.", "share": 0.1}}
        for n, left in ((1, 38.0), (4, 30.0), (16, 25.0))
    ]  # fmt: skip
    return {
        "completions": 400,
        "prompts": 200,
        "level": 0.95,
        "closings": closings,
        "openings": both(90, 88, coverage={"base": 0.9, "policy": 0.9}),
        "ngrams": both(1865, 996),
        "closing": ends,
        "opening": ends,
        "sentence": ends,
        "common": [{"text": own["text"], "base": entry(0.01, 0.0, 0.02), "policy": entry(0.52, 0.5, 0.54)}],
        "similar_within": change(0.1, 0.4, 0.2, 0.4),
        "similar_across": change(0.1, 0.3, 0.1, 0.3),
        "embedding_model": None,
        "characters": {"base": 0.0, "policy": 0.0},
        "words": None,
        "collapse": fall if collapsed else None,
        "best_of_n": {"prompts": 64, "rows": rows, "policy": rows[0] | {"closings": entry(4.0, 3.0, 5.0)}},
        **more,
    }


CALIBRATION_JSON: dict[str, Any] = {
    "rows": [
        {"low": 0.5, "high": 0.55, "confidence": 0.53, "accuracy": entry(0.5, 0.3, 0.7), "count": 12},
        {"low": 0.7, "high": 0.75, "confidence": 0.72, "accuracy": entry(0.8, 0.6, 0.9), "count": 34},
    ],
    "ece": 0.05,
    "brier": 0.2,
    "temperature": None,
    "temperature_reason": "no pair is wrong",
}
REWARD_JSON: dict[str, Any] = {
    "n": 240,
    "level": 0.95,
    "ties": 1,
    "accuracy": entry(0.6, 0.53, 0.66, 240),
    "margin": entry(0.3, 0.1, 0.5, 240),
    "baselines": [
        {"name": "bag of words", "accuracy": None, "reason": "3 training pairs, fewer than 20"},
        {"name": "longer wins", "accuracy": entry(0.55, 0.5, 0.6, 240), "reason": None},
    ],
    "gold": {
        "n": 200,
        "gold_ties": 0,
        "accuracy": entry(0.6, 0.5, 0.7),
        "labels": entry(0.9, 0.8, 1.0),
        "label_noise": entry(0.1, 0.0, 0.2),
    },
    "calibration": CALIBRATION_JSON,
    "length_correlation": {"spearman": -0.2, "pearson": None, "n": 480},
    "clears_baselines": False,
    "verdict": "The reward model does not clear the best baseline.",
}


def reward(stats: dict[str, Any]) -> RewardMetrics:
    """A reward model's metrics, from ``evaluation`` in its stats."""
    metrics = reward_metrics({"evaluation": stats}, "given")
    assert metrics is not None
    return metrics


REWARD: PairwiseMetrics = from_json(PairwiseMetrics, REWARD_JSON, "given")
CALIBRATION = from_json(Calibration, CALIBRATION_JSON, "given")


def of_completions(area: Estimate, pairs: PairwiseMetrics | None = None) -> PointwiseMetrics:
    """A reward model of single completions."""
    stats = {
        "n": area.n,
        "likes": 20,
        "level": 0.95,
        "threshold": {"offset": 0.1, "accuracy": entry(0.6), "majority": {"name": "m", "accuracy": entry(0.5)}},
        "calibration": {"rows": [], "ece": None, "brier": None, "brier_base_rate": None},
        "length_correlation": {"spearman": None, "pearson": None, "n": area.n},
        "clears_baselines": False,
        "verdict": "",
        "auc": to_json(area),
    }
    return replace(from_json(PointwiseMetrics, stats, "given"), pairs=pairs)


def sliced() -> dict[str, Any]:
    """A reward model measured by slices and on a further set."""
    rows = [
        {"name": "longer chosen", "accuracy": entry(0.7, 0.6, 0.8, 130), "ties": 0},
        {"name": "shorter chosen", "accuracy": entry(0.4, 0.3, 0.5, 108), "ties": 0},
    ]
    mean = entry(0.55, 0.5, 0.6, 238)
    length = {"rows": rows, "micro": entry(0.6, 0.5, 0.7, 238), "macro": mean, "unknown": 2}
    found: dict[str, Any] = {
        **REWARD_JSON,
        "slices": {"length": length},
        "items": None,
        "notes": ["It goes by length."],
    }
    return {**found, "sets": {"hard": {**found, "set": {"dataset": "hard.jsonl"}}}}
