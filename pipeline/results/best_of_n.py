"""What best-of-n from the base gains, and the policy beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.results.overoptimisation import Law
from pipeline.results.stats import FLAT
from pipeline.statistics.intervals import Estimate


@dataclass(frozen=True)
class BestOf:
    """The best of n completions of each prompt, as means over prompts.

    Attributes:
        d: sqrt(kl_bound).
        means: by measure; judges are ``judge:NAME``.
        gain: over n = 1, paired by prompt, likewise.
    """

    n: int
    kl_bound: float
    d: float
    means: Mapping[str, Estimate] = field(metadata=FLAT)
    gain: Mapping[str, Estimate]


@dataclass(frozen=True)
class LargestN:
    """The policy less best-of-n of the largest n that was sampled."""

    n: int
    kl_bound: float
    difference: Estimate


@dataclass(frozen=True)
class Yardstick:
    """The policy against best-of-n at the policy's own KL.

    Attributes:
        policy: on the same prompts.
        n_needed: the n whose KL is the policy's; None where that is beyond all counting.
        within: the policy's KL is not past the largest n.
        best_of_n, difference: at the policy's KL, and policy - best-of-n; None where not within.
    """

    policy: Estimate
    policy_kl_k1: float
    d: float
    n_needed: int | None
    within: bool
    best_of_n: Estimate | None
    difference: Estimate | None
    largest: LargestN

    @property
    def compared(self) -> tuple[int | None, Estimate]:
        """(n, policy - best of n): at the policy's KL, or at the largest n there is where that lies beyond it."""
        if self.difference is not None:
            return self.n_needed, self.difference
        return self.largest.n, self.largest.difference


@dataclass(frozen=True, kw_only=True)
class BestOfN:
    """Best-of-n from the base on the first prompts of an evaluation.

    Attributes:
        reason: why nothing was sampled, else None; without rows there is only this.
        samples: completions of each prompt.
        rows: ascending, from n = 1, the base.
        laws, yardstick: by measure.
        missing_eos_penalty: what is taken off the score of a completion that did not end before one is chosen.
    """

    prompts: int = 0
    samples: int = 0
    rows: Sequence[BestOf] = ()
    laws: Mapping[str, Law] = field(default_factory=dict[str, Law])
    yardstick: Mapping[str, Yardstick] = field(default_factory=dict[str, Yardstick])
    missing_eos_penalty: float | None = None
    reason: str | None
