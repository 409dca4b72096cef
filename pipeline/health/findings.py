"""What a rule says, and what it may know besides the figures of a run. Leaves out every rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.health.figures import History

Severity = Literal["serious", "watch"]

DOCS = "docs/doctor.md"


@dataclass(frozen=True)
class Finding:
    """Something about a run that a person should know.

    Attributes:
        rule: its name.
        severity: ``serious``: what comes out is not to be believed; ``watch``: look at it before going on.
        what: with the numbers, as they were when it was first seen; of texts, when it was last seen.
        since: the update at which it began; None for what is not about updates.
        why: why it matters.
        change: what to do about it.
        link: where it is explained.
        until: the last update at which it was still so, where it has passed since.
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
    """``count`` of ``total`` rows of ``rows`` that should not be there."""

    rows: str
    count: int
    total: int


@dataclass(frozen=True)
class Noise:
    """Share of labels that are wrong, its lower 95 % limit, from how many, and how it is known."""

    share: float
    low: float
    n: int
    source: str


@dataclass(frozen=True)
class Facts:
    """What is known besides the figures; None where it is not.

    Attributes:
        stops: whether a completion can end by itself.
        value_warmup: first updates that train the value model only.
        kept: after how many updates the policy is that was published.
        reward: metrics of the reward model on held-out rows, as its manifest holds them.
        training_rows: comparisons or completions that it was trained on.
        stopped: why the run ended before its last update, in its own words.
        leaks: rows held out that are among those trained on.
        duplicates: rows that are in their split more than once.
    """

    stops: bool = True
    kl_target: float | None = None
    value_warmup: int = 0
    stopped: str | None = None
    kept: int | None = None
    reward: Mapping[str, Any] | None = None
    training_rows: int | None = None
    noise: Noise | None = None
    leaks: Sequence[Overlap] | None = None
    duplicates: Sequence[Overlap] | None = None

    @classmethod
    def of_settings(cls, ppo: Mapping[str, Any]) -> Facts:
        """From keys of the ``ppo`` section; those not given at their defaults; ``1e-1`` is a text."""
        stops = ppo.get("stop_token", "eos") is not None or ppo.get("stop_token_id") is not None
        target = ppo.get("kl_target")
        warmup = int(float(ppo.get("value_warmup_updates") or 0))
        return cls(stops, kl_target=None if target is None else float(target), value_warmup=warmup)


@dataclass(frozen=True)
class Seen:
    """That a rule holds now: what it saw, and since which update."""

    what: str
    since: int | None = None


@dataclass(frozen=True)
class Rule:
    """One illness.

    Attributes:
        needs: figures, or fields of :class:`Facts`, without which it cannot look; ``a|b``: one of the two will do.
        look: says whether it holds after the last row taken.
        keeps_up: what it saw last is told, not what it saw first: that names a sentence, and another may win.
    """

    name: str
    severity: Severity
    needs: tuple[str, ...]
    look: Callable[[History, Facts], Seen | None]
    why: str
    change: str
    keeps_up: bool = False

    @property
    def link(self) -> str:
        return f"{DOCS}#{self.name}"

    def sees(self, history: History, facts: Facts) -> bool:
        """Whether what it needs is there."""
        return all(
            any(history.has(name) or getattr(facts, name, None) is not None for name in need.split("|"))
            for need in self.needs
        )

    def finding(self, seen: Seen) -> Finding:
        return Finding(self.name, self.severity, seen.what, seen.since, self.why, self.change, self.link)
