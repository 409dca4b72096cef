"""Gold and proxy against sqrt(KL): the laws of Gao et al., where gold turns, which checkpoint is the best.

Over-optimisation is Goodhart's law at work on a learnt reward (Gao et al. 2023, arXiv:2210.10760). Leaves out
measuring: points come in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline.statistics.bootstrap import Estimate, as_finite, bootstrap_mean, finite
from pipeline.statistics.overoptimised import PATIENCE, evaluated, falls, paired_error

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

LawName = Literal["best_of_n", "rl"]
FEWEST_POINTS = 3
"""Two coefficients need one point more to say how well they fit."""

TOO_CLOSE = 0.05
"""Points with less d = sqrt(KL) than this are left out of a fit: k1's noise is as large as their KL."""


def fit_law(d: ArrayLike, gain: ArrayLike, law: LawName, seed: int = 0, level: float = 0.95) -> dict[str, Any]:
    """Least squares of Gao et al.'s law for the gain over the base at distance d = sqrt(KL).

    ``best_of_n``: d (alpha - beta d). ``rl``: d (alpha - beta log d). Both are linear in alpha and beta, so least
    squares needs no search, and where every prompt has a curve of its own, the coefficients of the mean curve are
    the mean of the prompts' coefficients: their interval is the bootstrap's over prompts. Where only means are
    known, it is Student's t from the residuals' covariance, which takes errors of different points for
    independent. Over a run they are not quite (the same prompts at every point), and it is a little off.

    Args:
        d: (P,) distances; those below ``TOO_CLOSE`` are not used.
        gain: (P,) means, or (m, P) of m prompts; the base's score is already subtracted.
    Returns:
        law, alpha, beta (each value, low, high, n), r2, points, peak (d, kl, gain, within: whether the points
        reach it; None unless beta is surely above 0), reason (why there is no fit, else None).
    """
    at = as_finite(d, "d")
    values = np.asarray(gain, np.float64)
    used = at >= TOO_CLOSE
    at, values = at[used], values[..., used]
    out: dict[str, Any] = {"law": law, "alpha": None, "beta": None, "r2": None, "points": len(at), "peak": None}
    if len(np.unique(at)) < FEWEST_POINTS:
        few = f"{len(np.unique(at))} distances from the base; a fit needs {FEWEST_POINTS}"
        return {**out, "reason": few}
    design = np.stack([at, -at * (at if law == "best_of_n" else np.log(at))], axis=1)
    solve = np.linalg.pinv(design)
    if values.ndim == 2:
        as_finite(values, "gain")
        each = values @ solve.T
        alpha, beta = (bootstrap_mean(column, seed, level) for column in each.T)
        values = values.mean(0)
    else:
        alpha, beta = _from_residuals(design, as_finite(values, "gain"), level)
    left = values - design @ [alpha.value, beta.value]
    spread = float(((values - values.mean()) ** 2).sum())
    return {
        **out,
        "alpha": alpha.as_dict(),
        "beta": beta.as_dict(),
        "r2": finite(1 - float((left**2).sum()) / spread) if spread > 0 else None,
        "peak": _peak(alpha.value, beta.value, law, float(at.max())) if beta.low > 0 else None,
        "reason": None,
    }


def law_gain(d: ArrayLike, alpha: float, beta: float, law: LawName) -> NDArray[np.float64]:
    """(P,) the law's gain at ``d``; 0 at 0."""
    at = np.asarray(d, np.float64)
    bend = at if law == "best_of_n" else np.log(np.where(at > 0, at, 1.0))
    return at * (alpha - beta * bend)


def _from_residuals(
    design: NDArray[np.float64], values: NDArray[np.float64], level: float
) -> tuple[Estimate, Estimate]:
    from scipy.stats import t

    solve = np.linalg.pinv(design)
    coefficients = solve @ values
    freedom = len(values) - 2
    variance = float(((values - design @ coefficients) ** 2).sum()) / freedom
    half = float(t.ppf((1 + level) / 2, freedom)) * np.sqrt(variance * np.diag(solve @ solve.T))
    first, second = (
        Estimate(float(c), float(c - h), float(c + h), len(values))
        for c, h in zip(coefficients, half, strict=True)
    )
    return first, second


def _peak(alpha: float, beta: float, law: LawName, reached: float) -> dict[str, Any] | None:
    """Where the law's gain is largest: the derivative's zero, alpha - 2 beta d or alpha - beta (1 + log d)."""
    if (law == "best_of_n" and alpha <= 0) or alpha / beta > 20:  # at the base, or at e^20
        return None
    d = alpha / (2 * beta) if law == "best_of_n" else math.exp(alpha / beta - 1)
    return {"d": d, "kl": d * d, "gain": float(law_gain(d, alpha, beta, law)), "within": d <= reached}


def turning_point(
    gold: ArrayLike,
    proxy: ArrayLike,
    errors: ArrayLike | None = None,
    paired: Sequence[float | None] | None = None,
) -> dict[str, Any]:
    """Where gold falls while the proxy rises, by the rule that ends a run of PPO (statistics/overoptimised.py).

    The best is the turning point where the last two points have fallen from it: one alone may be bad luck, and
    gold that recovers has not turned.

    Args:
        gold: (P,) means with their standard ``errors`` (P,), or (m, P) of m prompts; in the order of optimisation.
        proxy: (P,) means.
        paired: (P,) of means, the standard error of each difference to the best before, paired by prompt; where it
            is not known the error is taken as if prompts were not shared, which is too large.
    Returns:
        index (of the turning point, None without one), falls (how many points at the end have fallen), reason.
    """
    values, score = np.asarray(gold, np.float64), as_finite(proxy, "proxy").tolist()
    means = as_finite(values.mean(0) if values.ndim == 2 else values, "gold").tolist()
    if values.ndim == 1 and errors is None:
        return {"index": None, "falls": 0, "reason": "the error of the gold scores is not known"}
    if values.ndim == 2:
        paired = _paired_errors(values, means)
    known = [0.0] * len(means) if errors is None else as_finite(errors, "errors").tolist()
    best, fallen = falls(evaluated(means, score, known, paired))
    if fallen >= PATIENCE:
        return {"index": best, "falls": fallen, "reason": None}
    left = len(means) - 1 - best
    if left < PATIENCE:
        reason = (
            f"the best is the last of {len(means)} points" if left == 0 else "one point after the best is too few"
        )
    else:
        reason = "gold has not fallen measurably while the proxy rose"
    return {"index": None, "falls": fallen, "reason": reason}


def _paired_errors(values: NDArray[np.float64], means: Sequence[float]) -> list[float | None]:
    """(P,) standard errors of the differences of (m, P) values to the best column before."""
    found: list[float | None] = []
    best = 0
    for now in range(len(means)):
        found.append(paired_error(values[:, now].tolist(), values[:, best].tolist()))
        best = now if means[now] > means[best] else best
    return found


def over_training(history: Sequence[Mapping[str, Any]], level: float = 0.95) -> dict[str, Any] | None:
    """Gold and proxy over a run of PPO, from the rows of its metrics.jsonl.

    Held-out evaluations (``eval/*``, the same prompts and randomness every time) where there are enough of them
    for a fit, else the updates' own completions (``objective/*``). The first point is the base itself.

    Returns:
        source, gold (whether there is gold or a check), points (update, kl_k1, d, score, gold, gold_error), law
        (on the gain over the first point), turning_point; None without any point.
    """
    held = _points(history, "eval/kl", "eval/scores", "eval/check")
    # What update u samples is the policy after u - 1 of them.
    updates = [
        {**p, "update": p["update"] - 1}
        for p in _points(history, "objective/kl", "objective/scores", "objective/gold_scores")
    ]
    source, points = ("eval", held) if len(held) > FEWEST_POINTS else ("objective", updates)
    if not points:
        return None
    known = all(p["gold"] is not None for p in points)
    law = (
        fit_law([p["d"] for p in points], [p["gold"] - points[0]["gold"] for p in points], "rl", level=level)
        if known
        else None
    )
    if source == "objective":
        turned = {"index": None, "falls": 0, "reason": "no held-out evaluations; set ppo.eval_strategy: steps"}
    elif not known:
        turned = {"index": None, "falls": 0, "reason": "neither a gold score nor a check"}
    else:
        errors = [p["gold_error"] for p in points]
        means = [p["gold"] for p in points]
        known_errors = None if None in errors else errors
        paired = [p["gold_fall_error"] for p in points]
        turned = turning_point(means, [p["score"] for p in points], known_errors, paired)
    return {"source": source, "gold": known, "points": points, "law": law, "turning_point": turned}


def over_sweep(policies: Sequence[Mapping[str, Any]], seed: int = 0, level: float = 0.95) -> dict[str, Any] | None:
    """Gold and proxy over several policies of one base and reward, as from a sweep of KL coefficients.

    Args:
        policies: each kl_k1 and score (means) and gold (m,) of the same prompts, or None; base_gold (m,) likewise;
            whatever else is known of it is passed on.
    Returns:
        points in order of KL (with d and gold as a mean), law, turning_point; None with fewer than two policies.
    """
    if len(policies) < 2:
        return None
    ordered = sorted(policies, key=lambda p: p["kl_k1"])
    known = all(p["gold"] is not None for p in ordered)
    depths = [math.sqrt(max(p["kl_k1"], 0.0)) for p in ordered]
    points = [
        {
            **{k: v for k, v in p.items() if k not in ("gold", "base_gold")},
            "d": d,
            "gold": float(np.mean(p["gold"])) if known else None,
        }
        for p, d in zip(ordered, depths, strict=True)
    ]
    if not known:
        turned = {"index": None, "falls": 0, "reason": "no gold score"}
        return {"points": points, "law": None, "turning_point": turned}
    gold = np.stack([np.asarray(p["gold"], np.float64) for p in ordered], axis=1)
    base = np.asarray(ordered[0]["base_gold"], np.float64)[:, None]
    scores = [p["score"] for p in ordered]
    return {
        "points": points,
        "law": fit_law(depths, gold - base, "rl", seed, level),
        "turning_point": turning_point(gold, scores),
    }


def best_checkpoint(
    history: Sequence[Mapping[str, Any]], kl_budget: float | None, kept: int | None
) -> dict[str, Any] | None:
    """The update with the best held-out check, or score where there is no check, within the KL budget.

    Args:
        history: rows of metrics.jsonl; the evaluation before the first update has no ``update`` and counts as 0.
        kept: the update whose policy was published.
    Returns:
        update, by (check or scores), value, kl_k1, score, kept, kept_value (None where that update was not
        evaluated), is_kept; None without held-out evaluations within the budget.
    """
    held = _points(history, "eval/kl", "eval/scores", "eval/check")
    within = [p for p in held if kl_budget is None or p["kl_k1"] <= kl_budget]
    if not within:
        return None
    by = "check" if all(p["gold"] is not None for p in held) else "scores"
    key = "gold" if by == "check" else "score"
    best = max(within, key=lambda p: p[key])  # the earliest of equals, as the trainer keeps it
    ours = next((p for p in held if p["update"] == kept), None)
    return {
        "update": best["update"],
        "by": by,
        "value": best[key],
        "kl_k1": best["kl_k1"],
        "score": best["score"],
        "kept": kept,
        "kept_value": None if ours is None else ours[key],
        "is_kept": best["update"] == kept,
    }


def _points(history: Sequence[Mapping[str, Any]], kl: str, score: str, gold: str) -> list[dict[str, Any]]:
    """The rows that have a KL and a score."""
    return [
        {
            "update": int(row.get("update", 0)),
            "kl_k1": float(row[kl]),
            "d": math.sqrt(max(float(row[kl]), 0.0)),
            "score": float(row[score]),
            "gold": None if row.get(gold) is None else float(row[gold]),
            "gold_error": None if row.get(f"{gold}_error") is None else float(row[f"{gold}_error"]),
            "gold_fall_error": row.get(f"{gold}_fall_error"),
        }
        for row in history
        if row.get(kl) is not None and row.get(score) is not None and math.isfinite(float(row[kl]))
    ]
