"""Rules on results: a published policy without any update, a judge whose verdict says nothing."""

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


def judge_in_doubt(figures: Figures, facts: Facts) -> Seen | None:
    doubts = [f"{name}: {trust.doubt}" for name, trust in (facts.judges or {}).items() if trust.doubt is not None]
    return Seen(f"{'; '.join(doubts)}.") if doubts else None


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
    Rule(
        "judge-in-doubt",
        "watch",
        (),
        judge_in_doubt,
        "Its win rate is near one half for lack of a judge, and says nothing on the policy.",
        "Ask a larger model (evaluate.judges), with a criterion of a sentence or two, and compare its answers "
        "with your own on twenty pairs.",
    ),
)
