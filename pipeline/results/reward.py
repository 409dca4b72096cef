"""Results of a reward model on held-out rows: the ``evaluation`` in its stats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.results.calibration import Calibration, LikeCalibration
from pipeline.results.stats import from_json
from pipeline.statistics.intervals import Estimate, has_value


@dataclass(frozen=True)
class Baseline:
    """A baseline's accuracy on pairs, or the reason there is none."""

    name: str
    accuracy: Estimate | None
    reason: str | None

    @property
    def estimate(self) -> Estimate | None:
        return self.accuracy


@dataclass(frozen=True)
class AucBaseline:
    """A baseline's AUC on single completions, or the reason there is none."""

    name: str
    auc: Estimate | None
    reason: str | None

    @property
    def estimate(self) -> Estimate | None:
        return self.auc


@dataclass(frozen=True)
class NamedAccuracy:
    """The accuracy of an ensemble's member, on a section of RewardBench, or of always giving one answer."""

    name: str
    accuracy: Estimate


@dataclass(frozen=True, kw_only=True)
class DependentAccuracy(Estimate):
    """An accuracy with an interval for dependent pairs.

    Attributes:
        prompts: their number.
        by: dependent are pairs of one prompt, or with a completion in common.
        worth: the effective number of independent pairs.
    """

    prompts: int
    by: Literal["prompt", "completion"]
    worth: float


@dataclass(frozen=True)
class Correlation:
    """The correlation of score and length in characters; None if one of them is constant."""

    pearson: float | None
    spearman: float | None
    n: int


# -------------------- slices


@dataclass(frozen=True)
class Slice:
    """The accuracy on a slice of the pairs; ``low`` and ``high`` bound the number that defines it."""

    name: str
    accuracy: Estimate
    ties: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Sections:
    """RewardBench's sections, and their mean where all four are there."""

    rows: Sequence[NamedAccuracy]
    score: Estimate | None


@dataclass(frozen=True)
class SliceTable:
    """The accuracy on each slice.

    Attributes:
        micro: over the pairs of all slices.
        macro: plain mean of the slices; None of a single one.
        unknown: pairs in no slice.
        sections: where every slice is a subset of RewardBench.
    """

    rows: Sequence[Slice]
    micro: Estimate
    macro: Estimate | None
    unknown: int
    sections: Sections | None = None


@dataclass(frozen=True)
class WholeRows:
    """The share of rows all of whose pairs are right."""

    accuracy: Estimate
    slices: Mapping[str, SliceTable]


# -------------------- everything on one kind of rows


@dataclass(frozen=True)
class PairGold:
    """Agreement with the gold score, on pairs whose gold scores differ.

    Attributes:
        gold_ties: pairs whose gold scores are equal.
        accuracy: of the reward model.
        labels, label_noise: of the labels, and 1 less that.
    """

    n: int
    gold_ties: int
    accuracy: Estimate
    labels: Estimate
    label_noise: Estimate


Cause = Literal["training", "number of held-out rows", "labels", "number of labels"]


@dataclass(frozen=True)
class ChanceCause:
    """Why a reward model is at chance, as far as can be told.

    Attributes:
        learnt: its accuracy (of single completions, AUC) on rows that it was trained on.
        probe: that of a logistic regression on the base's states on the held-out rows.
        cause: what is to be mended first.
        sentence: cause and remedy, for a reader.
    """

    learnt: Estimate
    probe: Estimate
    cause: Cause
    sentence: str


@dataclass(frozen=True, kw_only=True)
class PairwiseMetrics:
    """A reward model on held-out pairs.

    Attributes:
        chance: where the accuracy does not clear one half, why.
        dependent: None where every prompt has one pair.
        ties: pairs with equal scores, which count as wrong.
        margin: mean of chosen score - rejected score.
        words: a sentence where texts were split into characters.
        notes: sentences to read beside the verdict.
        items: None where no row has several pairs.
        sets: further sets of pairs, by name.
        set: of such a set, what was read and what was left out.
    """

    n: int
    level: float
    accuracy: Estimate
    dependent: DependentAccuracy | None
    ties: int
    margin: Estimate
    calibration: Calibration
    baselines: Sequence[Baseline]
    length_correlation: Correlation
    gold: PairGold | None
    words: str | None
    clears_baselines: bool
    verdict: str
    slices: Mapping[str, SliceTable]
    items: WholeRows | None
    notes: Sequence[str]
    chance: ChanceCause | None = None
    sets: Mapping[str, PairwiseMetrics] = field(default_factory=dict[str, Any])
    set: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def main(self) -> Estimate:
        """What the verdict is about."""
        return self.accuracy

    @property
    def of_pairs(self) -> PairwiseMetrics:
        return self


@dataclass(frozen=True)
class Threshold:
    """Accuracy of "a like where P(like) is above one half", and of always giving the training rows' majority."""

    offset: float
    accuracy: Estimate
    majority: NamedAccuracy


@dataclass(frozen=True)
class LikeGold:
    """Spearman's correlation of score and gold score, None where one is constant; gold's own AUC on the labels."""

    n: int
    spearman: float | None
    labels: Estimate


@dataclass(frozen=True, kw_only=True)
class PointwiseMetrics:
    """A reward model on held-out single completions.

    Attributes:
        likes: completions that are liked.
        pairs: the same model on held-out pairs; None where there are none.
        chance, sets: as of :class:`PairwiseMetrics`.
    """

    n: int
    likes: int
    level: float
    auc: Estimate
    threshold: Threshold
    baselines: Sequence[AucBaseline]
    calibration: LikeCalibration
    length_correlation: Correlation
    gold: LikeGold | None
    notes: Sequence[str]
    clears_baselines: bool
    verdict: str
    pairs: PairwiseMetrics | None = None
    chance: ChanceCause | None = None
    sets: Mapping[str, PairwiseMetrics] = field(default_factory=dict[str, Any])

    @property
    def main(self) -> Estimate:
        """What the verdict is about."""
        return self.auc

    @property
    def of_pairs(self) -> PairwiseMetrics | None:
        return self.pairs


RewardMetrics = PairwiseMetrics | PointwiseMetrics


@dataclass(frozen=True)
class NewPairs:
    """Accuracy on the pairs that ``reward.inputs.earlier`` has not: in a loop, the last policy's own samples.

    Attributes:
        pairs: their number, in both splits.
        last: of the reward model ``inputs.earlier_reward`` on all of them, of which it has learnt from none.
        held_out: of the new reward model on those that are held out; None where none is.
        old_held_out: the same on the held-out pairs of earlier rounds.
    """

    pairs: int
    last: Estimate | None
    held_out: Estimate | None
    old_held_out: Estimate | None


@dataclass(frozen=True)
class EnsembleMetrics:
    """Several reward models on the same pairs.

    Attributes:
        accuracy: of their mean.
        gain: that less the members' mean accuracy.
        unanimous, split: of the mean, where all members favour the same completion, and where they do not.
        disagreement: AUC with which the members' spread tells wrong pairs from right ones.
        doubt: the same of a small mean margin.
    """

    members: Sequence[NamedAccuracy]
    accuracy: Estimate
    gain: Estimate
    unanimous: Estimate
    split: Estimate
    disagreement: Estimate
    doubt: Estimate


@dataclass(frozen=True)
class LabelAgreement:
    """How far labels follow the gold score, and how far the scores that the annotator went by do, if recorded."""

    n: int
    labels: Estimate
    scores: Estimate | None = None


def reward_metrics(stats: Mapping[str, Any], where: str) -> RewardMetrics | None:
    """The metrics in a reward model's stats; None if it was not evaluated. ``where`` is for messages."""
    evaluation = stats.get("evaluation")
    if evaluation is None:
        return None
    return from_json(PointwiseMetrics if "auc" in evaluation else PairwiseMetrics, evaluation, where)


def best_baseline(baselines: Sequence[Baseline] | Sequence[AucBaseline]) -> tuple[float, str] | None:
    """(value, name) of the best baseline; None if none could be computed."""
    values = [(estimate.value, b.name) for b in baselines if has_value(estimate := b.estimate)]
    return max(values, default=None)
