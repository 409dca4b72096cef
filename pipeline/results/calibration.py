"""How far a reward model's probabilities are right: a part of its ``evaluation``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.statistics.intervals import Estimate


@dataclass(frozen=True)
class MassBin:
    """Rows of about the same confidence.

    Attributes:
        confidence: mean of the model's probabilities.
        accuracy: share of right rows, or share liked.
    """

    confidence: float
    accuracy: Estimate
    count: int


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows whose confidence is between ``low`` and ``high``; see :class:`MassBin`."""

    low: float
    high: float
    confidence: float
    accuracy: Estimate
    count: int


@dataclass(frozen=True)
class EqualMass:
    """The ECE in bins of about equally many pairs, and the parts of the Brier score; None without pairs.

    Attributes:
        expected, high: mean and 95th percentile of the ECE of a model whose confidences are exactly true.
        reliability, resolution, uncertainty, within: brier = reliability - resolution + uncertainty + within.
    """

    rows: Sequence[MassBin]
    ece: float | None
    expected: float | None
    high: float | None
    brier: float | None
    reliability: float | None
    resolution: float | None
    uncertainty: float | None
    within: float | None


@dataclass(frozen=True)
class Fit:
    """The fit of probabilities to choices; ``log_loss`` in nats."""

    log_loss: float
    brier: float | None
    ece: float | None
    ece_expected: float | None


@dataclass(frozen=True)
class CrossFitted:
    """The effect of a temperature on pairs it was not fitted on.

    Attributes:
        temperatures: of the two halves, each used on the other; None where ``reason`` says why there is none.
    """

    temperatures: Sequence[float] | None
    before: Fit | None
    after: Fit | None
    reason: str | None


@dataclass(frozen=True)
class Calibration:
    """Is a pair of which the model is p sure decided its way with frequency p?

    Attributes:
        temperature: by which margins would have to be divided; None where ``temperature_reason`` says why.
    """

    ece: float | None
    brier: float | None
    rows: Sequence[ReliabilityBin]
    temperature: float | None
    temperature_reason: str | None
    ece_at_temperature: float | None
    equal_mass: EqualMass | None = None
    cross_fitted: CrossFitted | None = None


@dataclass(frozen=True)
class LikeCalibration:
    """Of the completions given a probability p of a like, is a share p liked?

    Attributes:
        brier_base_rate: the Brier score of always giving the training rows' share of likes.
    """

    rows: Sequence[ReliabilityBin]
    ece: float | None
    brier: float | None
    brier_base_rate: float | None
