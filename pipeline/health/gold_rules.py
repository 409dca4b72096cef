"""Rules on over-optimisation, by scores that are not trained on: the gold score, or a check on held-out prompts.

Past some KL the score of a learnt reward rises while the gold score falls (Gao et al. 2023, arXiv:2210.10760).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline.health.figures import SURE, WINDOW, Figures
from pipeline.health.findings import Facts, Rule, Seen
from pipeline.results.metrics import Logged
from pipeline.statistics.overoptimisation_rule import LOST, evaluated, turned_at

# The best of many windows is partly so by chance. Of 200 constant runs of 300 updates with a scatter of a fifth of
# the rise, 5 standard errors were exceeded in 2, 4 in 18.
FALL_SURE = 5.0
SCORE_SURE = 2.0
# Updates, of which thirds are compared.
PARTED_BY = 18
# Share of its gain that the score makes in the last third; less is a plateau.
WENT_ON = 0.15


def over_optimised(figures: Figures, facts: Facts) -> Seen | None:
    return _gold_falls(figures) or _check_falls(figures)


def _gold_falls(figures: Figures) -> Seen | None:
    """Compare the best window of the sampled completions with the last one."""
    gold, scores = figures.column(Logged.GOLD), figures.column(Logged.SCORES)
    if gold.peak is None or len(gold.values) < 3 * WINDOW or gold.updates != scores.updates:
        return None
    best, begin = gold.peak
    then, now = slice(begin, begin + WINDOW), slice(-WINDOW, None)
    fall, gained = best - mean(gold.values[now]), best - mean(gold.values[:WINDOW])
    if fall <= FALL_SURE * figures.scatter(Logged.GOLD) * math.sqrt(2 / WINDOW) or fall < LOST * gained:
        return None
    score_then, score_now = mean(scores.values[then]), mean(scores.values[now])
    if score_now - score_then <= SCORE_SURE * figures.scatter(Logged.SCORES) * math.sqrt(2 / WINDOW):
        return None
    kl = figures.column(Logged.KL).values[then]
    return Seen(
        f"The gold score fell from {best:.3g} (updates {gold.updates[begin]} to {gold.updates[begin + WINDOW - 1]}"
        f"{f', KL {mean(kl):.1f}' if kl else ''}) to {best - fall:.3g}, while the score rose from "
        f"{score_then:.3g} to {score_now:.3g}.",
        gold.updates[begin + WINDOW - 1],
    )


def _check_falls(figures: Figures) -> Seen | None:
    """Compare the best held-out evaluation with the last two, by the rule that ends a run."""
    check, error, scores = map(figures.column, (Logged.CHECK, Logged.CHECK_ERROR, Logged.HELD_SCORES))
    if not check.values or not check.updates == error.updates == scores.updates:
        return None
    falls = figures.column(Logged.CHECK_FALL_ERROR)
    paired = dict(zip(falls.updates, falls.values, strict=True))
    evaluations = evaluated(check.values, scores.values, error.values, [paired.get(u) for u in check.updates])
    at = turned_at(evaluations)
    if at is None:
        return None
    kl = figures.column(Logged.HELD_KL).values
    return Seen(
        f"The check on held-out prompts fell from {check.values[at]:.3g} (update {check.updates[at]}"
        f"{f', KL {kl[at]:.1f}' if len(kl) > at else ''}) to {check.values[-1]:.3g}, while the score there rose "
        f"from {scores.values[at]:.3g} to {scores.values[-1]:.3g}.",
        check.updates[at],
    )


def vindicated(figures: Figures, facts: Facts) -> bool:
    """Whether the gold score or the check rose, so that changed texts may be what the task asks for.

    The updates of a short run may be too few to be sure of it where the evaluation is.
    """
    gold = figures.moved(Logged.GOLD)
    if gold is not None:
        return (gold.rose or facts.gold_gained) and _gold_falls(figures) is None
    checks = figures.column(Logged.CHECK).values
    if len(checks) < 2:
        return False
    return checks[-1] - checks[0] > (1 - LOST) * (max(checks) - checks[0]) > 0


def judged(figures: Figures) -> bool | None:
    """Whether there is a gold score or check; None where there are too few values yet."""
    if figures.has(Logged.GOLD):
        return True if figures.moved(Logged.GOLD) is not None else None
    if figures.has(Logged.CHECK):
        return True if len(figures.column(Logged.CHECK).values) > 1 else None
    return False


def left_behind(figures: Figures, facts: Facts) -> Seen | None:
    """The score rises and the gold score does not: since the start, or over the last third of the run."""
    gold, scores = figures.column(Logged.GOLD), figures.column(Logged.SCORES)
    n = len(gold.values)
    if n < PARTED_BY or gold.updates != scores.updates or over_optimised(figures, facts) is not None:
        return None
    third = n // 3
    start, middle, late = slice(0, WINDOW), slice(n - 2 * third, n - third), slice(n - third, n)
    rise = mean(scores.values[late]) - mean(scores.values[start])
    gained = mean(gold.values[late]) - mean(gold.values[start])
    spread = figures.start(Logged.SCORES_STD)
    by_chance = figures.scatter(Logged.GOLD) * math.sqrt(1 / WINDOW + 1 / third)
    if spread and rise > spread and gained <= by_chance / 2:
        return Seen(
            f"The score rose from {mean(scores.values[start]):.3g} to {mean(scores.values[late]):.3g}, the gold "
            f"score from {mean(gold.values[start]):.3g} to {mean(gold.values[late]):.3g}.",
            gold.updates[late][0],
        )
    went_on = mean(scores.values[late]) - mean(scores.values[middle])
    came_along = mean(gold.values[late]) - mean(gold.values[middle])
    error = math.sqrt(2 / third)
    if rise <= 0 or went_on < WENT_ON * rise or went_on <= SURE * figures.scatter(Logged.SCORES) * error:
        return None
    due = gained * went_on / rise
    if came_along >= due / 3 or due - came_along <= FALL_SURE * figures.scatter(Logged.GOLD) * error:
        return None
    return Seen(
        f"The score went on from {mean(scores.values[middle]):.3g} to {mean(scores.values[late]):.3g}, the gold "
        f"score from {mean(gold.values[middle]):.3g} to {mean(gold.values[late]):.3g}; at the pace of before it "
        f"would have gained {due:.2g}.",
        gold.updates[late][0],
    )


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


RULES = (
    Rule(
        "over-optimisation",
        "serious",
        (f"{Logged.GOLD}|{Logged.CHECK_ERROR}", "objective/scores|eval/scores"),
        over_optimised,
        "The reward is being hacked: past some KL the score rises while the gold score falls.",
        "Take the earlier policy, which ppo.keep_best: true publishes (with ppo.eval_strategy: steps). "
        "ppo.fall_patience: 2 ends such a run, and so does ppo.kl_budget at the KL of the best one. Then label "
        "completions of this policy.",
    ),
    Rule(
        "gold-left-behind",
        "watch",
        (Logged.GOLD, Logged.SCORES),
        left_behind,
        "The gain in score is no longer a gain in gold score, which may fall next.",
        "Read the latest completions beside their scores. End the run here: ppo.kl_budget at this KL, or "
        "ppo.keep_best. Then label completions of this policy.",
    ),
)
