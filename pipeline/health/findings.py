"""What a rule reads besides a run's figures, and what it reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.health.figures import Figures
from pipeline.results.reward import RewardMetrics

Severity = Literal["serious", "watch"]

DOCS = "docs/doctor.md"


@dataclass(frozen=True)
class Finding:
    """Something about a run that a person should look at.

    Attributes:
        rule: its name.
        severity: ``serious``: do not trust the results; ``watch``: look at it before going on.
        what: with the numbers of the update at which it was first seen; of texts, last seen.
        since: the update at which it began; None where it is not about updates.
        why: why it matters.
        change: what to do about it.
        link: where it is explained.
        until: the last update at which the rule held, where it no longer does.
    """

    rule: str
    severity: Severity
    what: str
    since: int | None
    why: str
    change: str
    link: str
    until: int | None = None


@dataclass(frozen=True)
class Overlap:
    """``count`` of the ``total`` rows called ``rows`` occur elsewhere, or twice."""

    rows: str
    count: int
    total: int


@dataclass(frozen=True)
class Noise:
    """Share of labels that are wrong, its lower 95 % limit, the number of labels, and how it was measured."""

    share: float
    low: float
    n: int
    source: str


@dataclass(frozen=True)
class Facts:
    """A run's settings and inputs, as rules read them; None where one is not known.

    Attributes:
        stops: whether a completion can end by itself.
        value_warmup: first updates that train the value model only.
        kept: after how many updates the policy is that was published.
        reward: the reward model, measured on held-out rows.
        training_rows: comparisons or completions that it was trained on.
        stopped: why the run ended before its last update, in its own words.
        leaks: held-out rows that were trained on.
        duplicates: rows that are in their split more than once.
    """

    stops: bool = True
    kl_target: float | None = None
    value_warmup: int = 0
    stopped: str | None = None
    kept: int | None = None
    reward: RewardMetrics | None = None
    training_rows: int | None = None
    noise: Noise | None = None
    leaks: Sequence[Overlap] | None = None
    duplicates: Sequence[Overlap] | None = None

    @classmethod
    def of_settings(cls, ppo: Mapping[str, Any]) -> Facts:
        """From keys of the ``ppo`` section, a missing one at its default; YAML reads ``1e-1`` as text."""
        stops = ppo.get("stop_token", "eos") is not None or ppo.get("stop_token_id") is not None
        target = ppo.get("kl_target")
        warmup = int(float(ppo.get("value_warmup_updates") or 0))
        return cls(stops, kl_target=None if target is None else float(target), value_warmup=warmup)


@dataclass(frozen=True)
class Seen:
    """A rule holds: what it saw, and since which update."""

    what: str
    since: int | None = None


@dataclass(frozen=True)
class Rule:
    """One illness.

    Attributes:
        needs: metrics, or fields of :class:`Facts`, that it reads; ``a|b``: one of the two will do.
        look: whether it holds after the last row taken.
        keeps_up: report what it saw last, not first: it names a sentence, and another one may win.
    """

    name: str
    severity: Severity
    needs: tuple[str, ...]
    look: Callable[[Figures, Facts], Seen | None]
    why: str
    change: str
    keeps_up: bool = False

    @property
    def link(self) -> str:
        return f"{DOCS}#{self.name}"

    def sees(self, figures: Figures, facts: Facts) -> bool:
        """Whether all that it needs is there."""
        return all(
            any(figures.has(name) or getattr(facts, name, None) is not None for name in need.split("|"))
            for need in self.needs
        )

    def finding(self, seen: Seen) -> Finding:
        return Finding(self.name, self.severity, seen.what, seen.since, self.why, self.change, self.link)
