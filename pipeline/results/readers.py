"""The figures of readers: the stats of a ``NAME-readers`` version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.statistics.intervals import Estimate


@dataclass(frozen=True, kw_only=True)
class Written:
    """What both policies write for one prompt, with the same randomness; the gold scores are this reader's."""

    prompt: str
    shared: str
    own: str
    shared_gold: float | None = None
    own_gold: float | None = None


@dataclass(frozen=True, kw_only=True)
class ReaderFigures:
    """One reader. Scores and texts are of the held-out prompts, the AUCs of this reader's held-out votes.

    Attributes:
        reader: what versions call them.
        policy: the reference of their policy.
        votes, held_out: completions that they judged, to train on and held out.
        liked: share of those to train on.
        shared_auc, own_auc: of the shared reward model and of theirs.
        gold_base, gold_shared, gold_own: their gold score of each policy's completions.
        gold_over_shared, proxy_over_shared: their policy less the shared one, paired by prompt; by their gold
            score and by their reward model, which their policy was trained on.
        kl: of their policy to the base, in nats per completion.
        closings: effective closing sentences of their policy.
        seconds: that their reward model and policy took.
        kilobytes: of their policy's adapter.
        same_as, same_texts: the reader whose policy writes the most like theirs, and the share of equal texts.
        samples: of the prompts, the first ones.
    """

    reader: str
    policy: str
    votes: int
    held_out: int
    liked: float
    shared_auc: Estimate | None = None
    own_auc: Estimate | None = None
    gold_base: Estimate | None = None
    gold_shared: Estimate | None = None
    gold_own: Estimate | None = None
    gold_over_shared: Estimate | None = None
    proxy_over_shared: Estimate | None = None
    kl: Estimate | None = None
    closings: Estimate | None = None
    seconds: float = 0.0
    kilobytes: float = 0.0
    same_as: str | None = None
    same_texts: float | None = None
    samples: Sequence[Written] = ()

    @property
    def over_shared(self) -> Estimate | None:
        """The gain over the shared policy by the reader's gold score, else by their reward model."""
        return self.gold_over_shared or self.proxy_over_shared


@dataclass(frozen=True, kw_only=True)
class ReadersFigures:
    """All readers.

    Attributes:
        shared: the reference of the shared policy.
        gold_name: the gold score's name and scale; None without one.
        without: readers who keep the shared policy: too few votes, or all of them alike.
    """

    readers: Sequence[ReaderFigures]
    shared: str
    gold_name: str | None = None
    without: int = 0
