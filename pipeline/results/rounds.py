"""The figures of a loop: the stats of a ``NAME-loop`` version, which also hold what ended it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.statistics.intervals import Estimate


@dataclass(frozen=True, kw_only=True)
class RoundFigures:
    """One round. Where not said otherwise measured on the held-out prompts, which no stop goes by.

    Attributes:
        policy: its reference.
        labels: comparisons that were labelled in this round.
        gold: the policy's gold score.
        gold_over_base, proxy_over_base: policy - base, paired by prompt.
        gold_over_last: the policy less the last round's, paired by prompt; of the first round less the base.
        best_of: the n of best-of-n from the base, chosen by this round's reward model, so from the same labels;
            None where it is off, or there is no gold score.
        best_of_over_base, over_best_of: best-of-n's gold less the base's, and the policy's less best-of-n's, on
            the prompts that best-of-n is measured on.
        kl: to the base, in nats per completion, whatever PPO's reference is.
        closings, patterns: effective closing sentences of the policy, and patterns of its sentences.
        labels_gold: share of this round's labels that order their pair as the gold score does.
        reward_last: accuracy of the last round's reward model on this round's pairs, samples of the last policy.
        reward_new: of this round's reward model on those of them that are held out.
        reward_old: of the same on held-out pairs of earlier rounds.
        against_people: whether each pair is a sample beside a person's text (the annotator ``discriminator``), so
            that the policy aims at a ``reward_new`` of one half.
        selection_gold, selection_gain, selection_kl: gold, its gain over the last policy and the KL on the split
            ``select``, which stops go by.
    """

    number: int
    policy: str
    labels: int
    gold: Estimate | None = None
    gold_over_base: Estimate | None = None
    gold_over_last: Estimate | None = None
    proxy_over_base: Estimate | None = None
    best_of: int | None = None
    best_of_over_base: Estimate | None = None
    over_best_of: Estimate | None = None
    kl: Estimate | None = None
    closings: Estimate | None = None
    patterns: Estimate | None = None
    labels_gold: Estimate | None = None
    reward_last: Estimate | None = None
    reward_new: Estimate | None = None
    reward_old: Estimate | None = None
    against_people: bool = False
    selection_gold: Estimate | None = None
    selection_gain: Estimate | None = None
    selection_kl: Estimate | None = None


@dataclass(frozen=True, kw_only=True)
class LoopFigures:
    """All rounds so far.

    Attributes:
        start, reference, data: the loop's choices; ``data`` in words.
        stopped: why no further round begins, in a sentence; None where one may.
        best: the round that is best on the split ``select``; None where nothing was measured there.
    """

    rounds: Sequence[RoundFigures]
    start: str
    reference: str
    data: str
    stopped: str | None = None
    best: int | None = None
