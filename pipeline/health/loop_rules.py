"""Rules on the rounds of a loop: a round that unlearns the last, a reward model that only knows old policies."""

from __future__ import annotations

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
    if not rounds:
        return None
    last = rounds[-1]
    new, old = last.reward_new, last.reward_old
    if new is None or old is None or new.low > GUESS or old.low <= GUESS or new.high >= old.value:
        return None
    return Seen(
        f"In round {last.number} it is right on {interval(new)} of the held-out pairs that the last policy wrote, "
        f"and on {interval(old)} of those of earlier rounds."
    )


def _fall(figures: RoundFigures) -> str:
    change = interval(figures.gold_over_last, signed=True)
    return f"round {figures.number} ({figures.policy}) changed the last policy's gold score by {change}"


GUESS = 0.5
"""The accuracy of a coin."""

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
)
