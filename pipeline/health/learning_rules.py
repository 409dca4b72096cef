"""Does it learn, and from anything? Rules over the value model, the scores and the advantages."""

from __future__ import annotations

import math

from pipeline.health.figures import WINDOW, History
from pipeline.health.findings import Facts, Rule, Seen
from pipeline.health.gold_rules import vindicated

# A constant explains 0. A head on the policy's states explained 0.02 to 0.1 in good runs, and varied by 0.05
# between updates: limits are low, and have to be missed by three standard errors.
VALUE_HARMS, HARM_WINDOW, HARM_BY = -0.1, 10, 20
VALUE_EXPLAINS, VALUE_WINDOW, VALUE_BY = 0.02, 20, 30
VALUE_SURE = 3.0
# Below this share of their first variance the returns have converged, and what is left to explain is accidents.
RETURNS_LEFT = 0.5
VALUES_CLIPPED = 0.3
# The spread of scores that are all the same to fp32, and what counts as little of the first spread.
SAME_SCORE, SPREAD_LEFT = 1e-6, 0.05
# Whitening divides by sqrt(variance + 1e-8): near that, noise is scaled up until it looks like advantages.
ADVANTAGES_LEFT = 1e-6
# Of the spread of the scores: a fall that no reader would call noise.
SCORE_LOST = 0.5


def value_not_learning(h: History, facts: Facts) -> Seen | None:
    name = "val/explained_variance"
    at_first, spread = h.start("val/returns_var"), h.now("val/returns_var", HARM_WINDOW)
    if at_first is None or spread is None or spread < max(RETURNS_LEFT * at_first, ADVANTAGES_LEFT):
        return None
    for limit, window, by in ((VALUE_HARMS, HARM_WINDOW, HARM_BY), (VALUE_EXPLAINS, VALUE_WINDOW, VALUE_BY)):
        explained, clipped = h.now(name, window), h.now("val/clipfrac_avg", window) or 0.0
        error = 1.25 * h.scatter(name) / math.sqrt(window)
        if h.count(name) < by or explained is None or explained + VALUE_SURE * error >= limit:
            continue
        held = f" {clipped:.0%} of its predictions are clipped." if clipped > VALUES_CLIPPED else ""
        return Seen(
            f"The value model explains {explained:.2g} of the variance of the returns; a constant, 0.{held}",
            h.since(name, window),
        )
    return None


def score_constant(h: History, facts: Facts) -> Seen | None:
    first, scores = h.column("objective/scores_std").values[:WINDOW], h.now("objective/scores")
    if len(first) < WINDOW or scores is None or max(first) > SAME_SCORE * max(1.0, abs(scores)):
        return None
    return Seen(f"Every completion gets the same score, {scores:.3g}.", 1)


def score_saturation(h: History, facts: Facts) -> Seen | None:
    move = h.moved("objective/scores_std")
    if move is None or not move.fell or move.now > SPREAD_LEFT * move.before or vindicated(h):
        return None
    return Seen(
        f"The scores of a batch spread by {move.now:.2g}; by {move.before:.2g} at first.",
        h.since("objective/scores_std"),
    )


def advantages_vanish(h: History, facts: Facts) -> Seen | None:
    spread = h.now("val/advantages_var")
    if spread is None or spread > ADVANTAGES_LEFT:
        return None
    return Seen(f"The variance of the advantages is {spread:.2g}.", h.since("val/advantages_var"))


def score_falls(h: History, facts: Facts) -> Seen | None:
    """Both, as the penalties may be what is traded against the score."""
    score, goal = h.moved("objective/scores"), h.moved("objective/rlhf_reward")
    spread = h.start("objective/scores_std")
    if score is None or goal is None or spread is None or not (score.fell and goal.fell):
        return None
    if score.before - score.now < SCORE_LOST * spread:
        return None
    return Seen(
        f"The score fell from {score.before:.3g} to {score.now:.3g}; within a batch it spreads by {spread:.2g}.",
        h.since("objective/scores"),
    )


RULES = (
    Rule(
        "value-not-learning",
        "watch",
        ("val/explained_variance", "val/returns_var"),
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
        ("objective/scores", "objective/scores_std"),
        score_constant,
        "No completion is better than another, so there is nothing to learn; what moves the policy is noise.",
        "Score a few completions by hand: a function with a mistake gives this, or a reward model that broke.",
    ),
    Rule(
        "score-saturation",
        "watch",
        ("objective/scores_std",),
        score_saturation,
        "The reward no longer tells completions apart. Whitening scales what is left to full size, so updates go "
        "on, led by noise.",
        "Read the rollouts: they may all be one text. Else end the run here (fewer ppo.total_episodes), or use a "
        "reward with room above.",
    ),
    Rule(
        "advantages-vanish",
        "serious",
        ("val/advantages_var",),
        advantages_vanish,
        "Advantages are scaled to variance 1; of such small ones that makes noise of full size.",
        "Set ppo.scale_score: ref where scores are tiny numbers; where they are all alike, see score-constant.",
    ),
    Rule(
        "score-falls",
        "serious",
        ("objective/scores", "objective/scores_std", "objective/rlhf_reward"),
        score_falls,
        "PPO makes worse what it is to make better: its steps are too large, or its advantages are wrong.",
        "Lower ppo.learning_rate to a third, and look at the other findings, above all on the value model.",
    ),
)
