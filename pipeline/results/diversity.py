"""How varied the completions of a policy are beside its base's, and beside best-of-n's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.results.sides import Change, Side
from pipeline.results.stats import FLAT
from pipeline.statistics.intervals import Estimate
from pipeline.texts.collapse import Collapse


@dataclass(frozen=True)
class EffectiveNumber:
    """The effective number of sentences or n-grams on both sides, of equally many.

    Attributes:
        ratio: policy / base.
        at: how many were counted on each side.
        coverage: share of what each side writes that was seen.
    """

    base: Estimate
    policy: Estimate
    ratio: Estimate
    at: int
    coverage: Mapping[Side, float]


@dataclass(frozen=True)
class CommonSentence:
    """One side's most common sentence, or pattern of sentences.

    Attributes:
        count: completions that have it; of a pattern, sentences.
        share: with Wilson's interval over prompts; of a pattern, with a bootstrap's.
        share_of_other: its share on the other side.
    """

    text: str
    count: int
    share: Estimate
    share_of_other: Estimate


@dataclass(frozen=True)
class SharedSentence:
    """A sentence with its share on either side."""

    text: str
    base: Estimate
    policy: Estimate


@dataclass(frozen=True)
class ExpectedSentence:
    """A sentence (or pattern), and the share of prompts that are expected to end in it (or to show it)."""

    text: str
    share: float


@dataclass(frozen=True)
class ExpectedVariety:
    """What one completion of each prompt is expected to show.

    Attributes:
        closings: effective number of closing sentences.
        ratio: to the base's.
        closing: the most common one.
        patterns, patterns_ratio, pattern: the same of the pattern of one sentence of each completion, drawn with
            equal chances; None in evaluations from before they were measured.
    """

    closings: Estimate
    ratio: Estimate
    closing: ExpectedSentence
    patterns: Estimate | None = None
    patterns_ratio: Estimate | None = None
    pattern: ExpectedSentence | None = None


@dataclass(frozen=True, kw_only=True)
class BestOfNVariety(ExpectedVariety):
    """The same of best-of-n from the base; n = 1 is the base itself."""

    n: int
    kl_bound: float


@dataclass(frozen=True)
class DiversityBesideBestOfN:
    """Closing sentences and patterns of base, best-of-n and policy, at one completion of each prompt."""

    prompts: int
    rows: Sequence[BestOfNVariety]
    policy: ExpectedVariety


@dataclass(frozen=True)
class SimilarityByMeaning:
    """Mean cosine of the embeddings of two completions of one prompt, and of different ones."""

    embedding_within: Change | None
    embedding_across: Change | None


@dataclass(frozen=True, kw_only=True)
class Diversity:
    """Base against policy, on as many completions of the same prompts.

    Attributes:
        ngrams: None where no completion has three words.
        closing, opening, sentence: each side's most common one, last, first and anywhere.
        patterns, pattern: of sentences, by the base's frequent words (:mod:`pipeline.texts.patterns`): effective
            number, and each side's most common one; None in evaluations from before they were measured.
        common: the closing sentences that are most common on either side.
        characters: share of words that are single characters, see :mod:`pipeline.texts.words`; ``words`` says so.
        similar_within, similar_across: mean similarity of two completions of one prompt, and of different ones;
            None where there are no such pairs.
        by_meaning: where a model of embeddings was given.
    """

    completions: int
    prompts: int
    level: float
    closings: EffectiveNumber
    openings: EffectiveNumber
    ngrams: EffectiveNumber | None
    closing: Mapping[Side, CommonSentence]
    opening: Mapping[Side, CommonSentence]
    sentence: Mapping[Side, CommonSentence]
    common: Sequence[SharedSentence]
    characters: Mapping[Side, float]
    words: str | None
    collapse: Collapse | None
    similar_within: Change | None
    similar_across: Change | None
    patterns: EffectiveNumber | None = None
    pattern: Mapping[Side, CommonSentence] | None = None
    by_meaning: SimilarityByMeaning | None = field(default=None, metadata=FLAT)
    embedding_model: str | None
    best_of_n: DiversityBesideBestOfN | None
