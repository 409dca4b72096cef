"""The rule on a published policy without any update."""

from __future__ import annotations

from pipeline.health.figures import Figures
from pipeline.health.findings import Facts, Rule, Seen
from pipeline.store.starting_policy import SENTENCE


def nothing_kept(figures: Figures, facts: Facts) -> Seen | None:
    if facts.kept != 0:
        return None
    return Seen(
        f"{SENTENCE} Of {figures.update} updates none was better on the held-out prompts, or within the bounds."
    )


RULES = (
    Rule(
        "nothing-kept",
        "serious",
        (),
        nothing_kept,
        "Every measurement of this policy is one of the base, or of the adapter that it started from.",
        "Look at eval/ of the first evaluations. Where they fell at once, lower ppo.learning_rate or raise "
        "ppo.kl_coef; where a bound ended the run, raise ppo.kl_budget or lower ppo.diversity_floor; evaluate "
        "more often: ppo.eval_steps.",
    ),
)
