"""Rules on learning: the value model, the scores and the advantages."""

from __future__ import annotations

import math

from pipeline.health.figures import WINDOW, Figures
from pipeline.health.findings import Facts, Rule, Seen
from pipeline.health.gold_rules import vindicated
from pipeline.results.metrics import Logged

# A constant explains 0. In good runs a head on the policy's states explained 0.02 to 0.1, with 0.05 between
# updates, so limits are low and have to be missed by three standard errors.
HARMS, EXPLAINS_NOTHING = (-0.1, 10, 20), (Logged.EXPLAINED.about.low, 20, 30)
"""Limit, updates of the window, and the number of updates from which on it is applied."""
VALUE_SURE = 3.0
# Below this share of their first variance the returns have converged, and only noise is left to explain.
RETURNS_LEFT = 0.5
# The spread of equal scores in fp32, and the share of the first spread that counts as little.
SAME_SCORE, SPREAD_LEFT = 1e-6, 0.05
# Share of the scores' spread by which the mean has to fall.
SCORE_LOST = 0.5


def value_not_learning(figures: Figures, facts: Facts) -> Seen | None:
    name = Logged.EXPLAINED
    at_first, spread = figures.start(Logged.RETURNS_VAR), figures.now(Logged.RETURNS_VAR, HARMS[1])
    if at_first is None or spread is None:
        return None
    if spread < max(RETURNS_LEFT * at_first, Logged.ADVANTAGES_VAR.about.low):
        return None
    for limit, window, by in (HARMS, EXPLAINS_NOTHING):
        explained, clipped = figures.now(name, window), figures.now(Logged.VALUES_CLIPPED, window) or 0.0
        error = 1.25 * figures.scatter(name) / math.sqrt(window)
        if figures.count(name) < by or explained is None or explained + VALUE_SURE * error >= limit:
            continue
        pinned = "" if Logged.VALUES_CLIPPED.allows(clipped) else f" {clipped:.0%} of its predictions are clipped."
        what = f"The value model explains {explained:.2g} of the variance of the returns; a constant, 0.{pinned}"
        return Seen(what, figures.since(name, window))
    return None


def score_constant(figures: Figures, facts: Facts) -> Seen | None:
    first, scores = figures.column(Logged.SCORES_STD).values[:WINDOW], figures.now(Logged.SCORES)
    if len(first) < WINDOW or scores is None or max(first) > SAME_SCORE * max(1.0, abs(scores)):
        return None
    return Seen(f"Every completion gets the same score, {scores:.3g}.", 1)


def score_saturation(figures: Figures, facts: Facts) -> Seen | None:
    move = figures.moved(Logged.SCORES_STD)
    if move is None or not move.fell or move.now > SPREAD_LEFT * move.before or vindicated(figures, facts):
        return None
    what = f"The scores of a batch spread by {move.now:.2g}; by {move.before:.2g} at first."
    return Seen(what, figures.since(Logged.SCORES_STD))


def advantages_vanish(figures: Figures, facts: Facts) -> Seen | None:
    spread = figures.now(Logged.ADVANTAGES_VAR)
    if spread is None or spread > Logged.ADVANTAGES_VAR.about.low:
        return None
    return Seen(f"The variance of the advantages is {spread:.2g}.", figures.since(Logged.ADVANTAGES_VAR))


def score_falls(figures: Figures, facts: Facts) -> Seen | None:
    """Score and penalised reward fall: a lower score alone may be the price of lower penalties."""
    score, goal = figures.moved(Logged.SCORES), figures.moved(Logged.RLHF_REWARD)
    spread = figures.start(Logged.SCORES_STD)
    if score is None or goal is None or spread is None or not (score.fell and goal.fell):
        return None
    if score.before - score.now < SCORE_LOST * spread:
        return None
    what = f"The score fell from {score.before:.3g} to {score.now:.3g}; within a batch it spreads by {spread:.2g}."
    return Seen(what, figures.since(Logged.SCORES))


RULES = (
    Rule(
        "value-not-learning",
        "watch",
        (Logged.EXPLAINED, Logged.RETURNS_VAR),
        value_not_learning,
        "Advantages are what is left of the returns once the value is taken off. A value that explains nothing "
        "leaves their noise in; one worse than a constant adds some.",
        "Raise ppo.value_learning_rate or ppo.vf_coef, set ppo.value_warmup_updates: 5, or ppo.value_model: "
        "adapter. Where predictions are clipped, scores are large: set ppo.scale_score: ref, or raise "
        "ppo.cliprange_value.",
    ),
    Rule(
        "score-constant",
        "serious",
        (Logged.SCORES, Logged.SCORES_STD),
        score_constant,
        "No completion is better than another, so there is nothing to learn; what moves the policy is noise.",
        "Score a few completions by hand: a function with a mistake gives this, or a reward model that broke.",
    ),
    Rule(
        "score-saturation",
        "watch",
        (Logged.SCORES_STD,),
        score_saturation,
        "The reward no longer tells completions apart. Whitening scales what is left to full size, so updates go "
        "on, led by noise.",
        "Read the rollouts: they may all be one text. Else end the run here (fewer ppo.total_episodes), or use a "
        "reward with room above.",
    ),
    Rule(
        "advantages-vanish",
        "serious",
        (Logged.ADVANTAGES_VAR,),
        advantages_vanish,
        "Advantages are scaled to variance 1; of such small ones that makes noise of full size.",
        "Set ppo.scale_score: ref where scores are tiny numbers; where they are all alike, see score-constant.",
    ),
    Rule(
        "score-falls",
        "serious",
        (Logged.SCORES, Logged.SCORES_STD, Logged.RLHF_REWARD),
        score_falls,
        "PPO lowers the score that it should raise: its steps are too large, or its advantages are wrong.",
        "Lower ppo.learning_rate to a third, and look at the other findings, above all on the value model.",
    ),
)
