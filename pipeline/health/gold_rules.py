"""Is the reward being hacked? By scores that are not trained on: the gold score, or a check on held-out prompts.

Over-optimisation is Goodhart's law at work on a learnt reward (Gao et al. 2022, arXiv:2210.10760): past some KL
the score goes on rising and what it stands for falls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline.health.figures import SURE, WINDOW, Figures
from pipeline.health.findings import Facts, Rule, Seen
from pipeline.results.metrics import Logged
from pipeline.statistics.overoptimised import LOST, evaluated, turned_at

# The best of many windows is the best by chance too. Of 200 runs of 300 updates that stayed where they were at a
# scatter of a fifth of their rise, 5 standard errors were exceeded in 2; 4 in 18.
FALL_SURE = 5.0
SCORE_SURE = 2.0
# Thirds of a run are compared, of at least six updates each.
PARTED_BY = 18
# Of all that the score has gained, in the last third: less is a plateau.
WENT_ON = 0.15


def over_optimised(figures: Figures, facts: Facts) -> Seen | None:
    return _gold_falls(figures) or _check_falls(figures)


def _gold_falls(figures: Figures) -> Seen | None:
    """The best window of what was sampled for training, against the last one."""
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
    """The best held-out evaluation, against the last two, by the rule that ends a run."""
    check, error, scores = (
        figures.column(Logged.CHECK),
        figures.column(Logged.CHECK_ERROR),
        figures.column(Logged.HELD_SCORES),
    )
    if not check.values or not check.updates == error.updates == scores.updates:
        return None
    known = figures.column(Logged.CHECK_FALL_ERROR)
    paired = dict(zip(known.updates, known.values, strict=True))
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


def vindicated(figures: Figures) -> bool:
    """Whether a score that is not trained on rose: a changed form is then what the task asks for."""
    gold = figures.moved(Logged.GOLD)
    if gold is not None:
        return gold.rose and _gold_falls(figures) is None
    checks = figures.column(Logged.CHECK).values
    if len(checks) < 2:
        return False
    return checks[-1] - checks[0] > (1 - LOST) * (max(checks) - checks[0]) > 0


def judged(figures: Figures) -> bool | None:
    """Whether a score that is not trained on is there; None where there is one, and too little of it to tell."""
    if figures.has(Logged.GOLD):
        return True if figures.moved(Logged.GOLD) is not None else None
    if figures.has(Logged.CHECK):
        return True if len(figures.column(Logged.CHECK).values) > 1 else None
    return False


def left_behind(figures: Figures, facts: Facts) -> Seen | None:
    """The score rises and what it stands for does not: from the start, or over the last third of the run."""
    gold, scores = figures.column(Logged.GOLD), figures.column(Logged.SCORES)
    n = len(gold.values)
    if n < PARTED_BY or gold.updates != scores.updates or over_optimised(figures, facts) is not None:
        return None
    third = n // 3
    start, middle, late = slice(0, WINDOW), slice(n - 2 * third, n - third), slice(n - third, n)
    rise = mean(scores.values[late]) - mean(scores.values[start])
    gained = mean(gold.values[late]) - mean(gold.values[start])
    spread, by_chance = (
        figures.start(Logged.SCORES_STD),
        figures.scatter(Logged.GOLD) * math.sqrt(1 / WINDOW + 1 / third),
    )
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
        "The reward is being hacked: past some KL the score goes on rising while what it stands for falls.",
        "Take the policy of before, which ppo.keep_best: true publishes (with ppo.eval_strategy: steps). "
        "ppo.fall_patience: 2 ends such a run, and so does ppo.kl_budget at the KL of the best one. Then label "
        "completions of this policy.",
    ),
    Rule(
        "gold-left-behind",
        "watch",
        (Logged.GOLD, Logged.SCORES),
        left_behind,
        "What the score still gains is no longer what it stands for; falling comes next.",
        "Read the latest completions beside their scores. End the run here: ppo.kl_budget at this KL, or "
        "ppo.keep_best. Then label completions of this policy.",
    ),
)
