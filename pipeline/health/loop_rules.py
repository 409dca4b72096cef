"""Rules on rounds: one unlearns the last, a reward model knows only old policies, a discriminator wins."""

from __future__ import annotations

import math

from pipeline.health.figures import Figures
from pipeline.health.findings import Facts, Rule, Seen
from pipeline.results.rounds import RoundFigures
from pipeline.statistics.spelling import interval


def unlearns(figures: Figures, facts: Facts) -> Seen | None:
    """A round after the first whose gold score is surely below the last round's."""
    fallen = [
        r for r in (facts.rounds or ())[1:] if (g := r.gold_over_last) is not None and g.has_limits and g.high < 0
    ]
    return Seen(f"{'; '.join(map(_fall, fallen))}.") if fallen else None


def only_old_policies(figures: Figures, facts: Facts) -> Seen | None:
    """The newest reward model guesses on the last policy's pairs, and not on those of earlier ones."""
    rounds = facts.rounds or ()
    if not rounds or facts.aims_at_chance:
        return None
    last = rounds[-1]
    new, old = last.reward_new, last.reward_old
    if new is None or old is None or new.low > GUESS or old.low <= GUESS or new.high >= old.value:
        return None
    return Seen(
        f"In round {last.number} it is right on {interval(new)} of the held-out pairs that the last policy wrote, "
        f"and on {interval(old)} of those of earlier rounds."
    )


def discriminator_wins(figures: Figures, facts: Facts) -> Seen | None:
    """The newest discriminator tells people's texts as easily as can be, or more easily than the first did."""
    rounds = facts.rounds
    if not rounds or not facts.aims_at_chance:
        return None
    first, last = rounds[0].reward_new, rounds[-1].reward_new
    if first is None or last is None or not (first.has_limits and last.has_limits):
        return None
    # Two samples of pairs: their errors add up as squares.
    easier = last.value - first.value > math.hypot(first.high - first.value, last.value - last.low)
    if not easier and last.low <= SURE:
        return None
    return Seen(
        f"In round {rounds[-1].number} it is right on {interval(last)} of the held-out pairs of a person's "
        f"text and the last policy's; in round 1, of the base's, on {interval(first)}."
    )


def _fall(figures: RoundFigures) -> str:
    change = interval(figures.gold_over_last, signed=True)
    return f"round {figures.number} ({figures.policy}) changed the last policy's gold score by {change}"


GUESS = 0.5
"""The accuracy of a coin."""
SURE = 0.95
"""Above this accuracy nearly every sample is told from people's, whichever is the better of two."""

RULES = (
    Rule(
        "round-unlearns",
        "serious",
        (),
        unlearns,
        "Its policy is worse than the one that wrote its pairs, on the same held-out prompts: the labels of this "
        "round cost money and took something away.",
        "Publish the round before. Then give PPO less room (ppo.kl_budget, ppo.kl_coef) or another reference "
        "(loop.reference), let the reward model learn from all rounds (loop.data: all), or collect more.",
    ),
    Rule(
        "only-old-policies",
        "serious",
        (),
        only_old_policies,
        "PPO asks the reward model about what the policy writes now. Where it guesses there, PPO learns noise.",
        "Collect more pairs in each round, or weigh them more: loop.data: {old_share: 0.3}, or last. Where the "
        "policy's completions are nearly alike, raise collect.temperature.",
    ),
    Rule(
        "discriminator-wins",
        "serious",
        (),
        discriminator_wins,
        "A policy that comes nearer to people's texts brings a discriminator that is trained anew towards one "
        "half. This policy has learnt what the last one did not see, and is told more easily.",
        "Keep the policy nearer to its base (raise ppo.kl_coef, or lower ppo.kl_budget), train fewer updates in "
        "each round, and replay older generators' pairs (loop.data: all). Read samples beside people's texts.",
    ),
)
