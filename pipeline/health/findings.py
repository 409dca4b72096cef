"""Rules, the facts that they read besides a run's figures, and their findings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.health.figures import Figures
from pipeline.results.policy import JudgeTrust
from pipeline.results.readers import ReaderFigures
from pipeline.results.reward import RewardMetrics
from pipeline.results.rounds import RoundFigures
from pipeline.texts.collapse import Collapse

Severity = Literal["serious", "watch"]

DOCS = "docs/doctor.md"


@dataclass(frozen=True)
class Finding:
    """A problem of a run, for a person to look at.

    Attributes:
        rule: its name.
        severity: ``serious``: do not trust the results; ``watch``: look at it before going on.
        what: with the numbers of the update at which it was first seen; for texts, last seen.
        since: the update at which it began; None for findings on inputs.
        why: why it matters.
        change: what to do about it.
        link: to its explanation.
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
    """The share of wrong labels, its lower 95 % limit, the number of labels, and the source of the estimate."""

    share: float
    low: float
    n: int
    source: str


@dataclass(frozen=True)
class Facts:
    """The settings and inputs of a run, as rules read them; None where unknown.

    Attributes:
        stops: whether a completion can end by itself.
        value_warmup: number of first updates that train the value model only.
        kept: the update of the published policy.
        reward: the reward model, measured on held-out rows.
        judges: how far each language model among the judges of the newest evaluation is to be trusted, by name.
        training_rows: comparisons or completions that the reward model was trained on.
        stopped: why the run ended early, in its own words.
        leaks: held-out rows that are also training rows.
        duplicates: rows that are repeated within their split.
        rounds: of the loop, up to this policy's.
        one_pattern: of the newest evaluation, where the policy's sentences are of one pattern beside the base's.
        gold_gained: whether the gold score of the newest evaluation is surely above the base's.
        readers: those whose policies, or the shared one beside them, this run's is.
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
    judges: Mapping[str, JudgeTrust] | None = None
    rounds: Sequence[RoundFigures] | None = None
    readers: Sequence[ReaderFigures] | None = None
    one_pattern: Collapse | None = None
    gold_gained: bool = False

    @property
    def aims_at_chance(self) -> bool:
        """Whether rounds were to make the newest reward model guess: it tells people's texts from samples."""
        return self.rounds is not None and len(self.rounds) > 1 and self.rounds[-1].against_people

    @classmethod
    def of_settings(cls, ppo: Mapping[str, Any]) -> Facts:
        """Facts from the section ``ppo``; YAML reads ``1e-1`` as text."""
        stops = ppo.get("stop_token", "eos") is not None or ppo.get("stop_token_id") is not None
        target = ppo.get("kl_target")
        warmup = int(float(ppo.get("value_warmup_updates") or 0))
        return cls(stops, kl_target=None if target is None else float(target), value_warmup=warmup)


@dataclass(frozen=True)
class Seen:
    """What a rule saw, and since which update."""

    what: str
    since: int | None = None


@dataclass(frozen=True)
class Rule:
    """A problem, and the function that detects it.

    Attributes:
        needs: metrics, or fields of :class:`Facts`, that it reads; ``a|b``: one of the two suffices.
        look: what it sees after the last row; None where it does not hold.
        keeps_up: report what it saw last, not first, as the sentence that it quotes may change.
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
        """Whether everything that it needs is known."""
        return all(
            any(figures.has(name) or getattr(facts, name, None) is not None for name in need.split("|"))
            for need in self.needs
        )

    def finding(self, seen: Seen) -> Finding:
        return Finding(self.name, self.severity, seen.what, seen.since, self.why, self.change, self.link)
