"""Rules on readers: adapters that are the same, or that serve their reader no better than the shared one."""

from __future__ import annotations

from pipeline.health.figures import Figures
from pipeline.health.findings import Facts, Rule, Seen
from pipeline.results.readers import ReaderFigures
from pipeline.statistics.spelling import interval

ALIKE = 0.95
"""Share of equal completions, with the same randomness, from which two policies are the same."""


def alike(figures: Figures, facts: Facts) -> Seen | None:
    """Two readers' policies write the same."""
    pairs = {
        tuple(sorted((r.reader, r.same_as))): r.same_texts
        for r in facts.readers or ()
        if r.same_as is not None and r.same_texts is not None and r.same_texts >= ALIKE
    }
    said = [f"{a} and {b} write {100 * share:.0f} % the same completions" for (a, b), share in pairs.items()]
    return Seen(f"{'; '.join(said)}.") if said else None


def in_vain(figures: Figures, facts: Facts) -> Seen | None:
    """No reader's policy is surely better for them than the shared one."""
    gains = _gains(facts)
    if not gains or any(r.over_shared.low > 0 for r in gains if r.over_shared):
        return None
    return Seen(f"Of {len(gains)} readers none is surely better served: {_spelled(gains)}.")


def not_served(figures: Figures, facts: Facts) -> Seen | None:
    """Some readers' policies, not all, are not surely better for them than the shared one."""
    gains = _gains(facts)
    without = [r for r in gains if r.over_shared and r.over_shared.low <= 0]
    return Seen(f"{_spelled(without)} over the shared policy.") if without and len(without) < len(gains) else None


def _gains(facts: Facts) -> list[ReaderFigures]:
    return [r for r in facts.readers or () if r.over_shared is not None and r.over_shared.has_limits]


def _spelled(readers: list[ReaderFigures]) -> str:
    return "; ".join(f"{r.reader} {interval(r.over_shared, signed=True)} with {r.votes} votes" for r in readers)


RULES = (
    Rule(
        "readers-alike",
        "serious",
        (),
        alike,
        "An adapter of one's own that writes what another reader's writes is none: their votes have changed "
        "nothing, or one person votes under two names.",
        "Compare their votes (data show), then give the readers' reward models more to learn from "
        "(readers.least_votes, readers.reward.learning_rate) and PPO more room (readers.ppo.total_episodes).",
    ),
    Rule(
        "readers-in-vain",
        "serious",
        (),
        in_vain,
        "Each adapter cost its votes and its minutes, and the shared policy is as good for everybody.",
        "Publish the shared policy. Where tastes do differ, collect more of each reader, or more completions that "
        "show it (collect.temperature).",
    ),
    Rule(
        "reader-not-served",
        "watch",
        (),
        not_served,
        "Their own are not surely better for these readers: a reward model learns the noise of few votes.",
        "Serve them the shared policy for now: raise readers.least_votes, or collect more of their votes.",
    ),
)
