"""Compare the diversity of base and policy, with intervals.

What is counted is :mod:`pipeline.texts.diversity`'s. The logarithm of an effective number is an entropy, and that
is a mean over prompts of how surprising what each holds is (:func:`pipeline.texts.diversity.surprise`): so its
interval is a mean's, and that of a ratio of two is a paired difference's, all by the bootstrap over prompts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from pipeline.results.diversity import (
    CommonSentence,
    Diversity,
    EffectiveNumber,
    SharedSentence,
    SimilarityByMeaning,
)
from pipeline.results.sides import SIDES, Change, Side, on_both_sides
from pipeline.statistics.bootstrap import RESAMPLING, Resampling, exponential, wilson
from pipeline.statistics.intervals import Estimate
from pipeline.texts import diversity as measured
from pipeline.texts.collapse import collapse
from pipeline.texts.patterns import frame_words
from pipeline.texts.sentences import same, sentences
from pipeline.texts.similarity import means_by_group, similarity_by_group
from pipeline.texts.words import character_share, how_split, ngrams

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline.evaluation.policy.policy_metrics import Sampled

T = TypeVar("T")
Embed = Callable[[Sequence[str]], "NDArray[np.float32]"]
"""(n, d) unit vectors of n texts."""

SHOWN = 5
"""Most common sentences of each side that are named."""


def compare_diversity(
    base: Sampled,
    policy: Sampled,
    per_prompt: int = 1,
    resampling: Resampling = RESAMPLING,
    embed: Embed | None = None,
) -> Diversity:
    """Base against policy, on as many completions of the same prompts.

    Args:
        per_prompt: completions per prompt, which stand together.
        embed: of a model of embeddings, for similarities by meaning.
    """

    def both(measure: Callable[[Sampled], T]) -> dict[Side, T]:
        return on_both_sides(measure, base, policy)

    groups, level = np.arange(len(base.completions)) // per_prompt, resampling.level
    at = min(both(lambda side: measured.ngram_count(side.completions)).values())
    frame = frame_words(base.completions)
    forms = both(lambda side: measured.patterns_of(side.completions, frame))
    patterns_at = min(sum(map(len, of_side)) for of_side in forms.values())
    counted = both(
        lambda side: measured.diversity(
            side.completions, groups.tolist(), side.ended, at or None, frame, patterns_at
        )
    )
    last = both(lambda side: measured.closings(side.completions, side.ended))
    first = both(lambda side: measured.openings(side.completions))
    held = both(lambda side: [{same(x) for x in sentences(text) or [""]} for text in side.completions])
    grams = both(lambda side: [ngrams(text, measured.NGRAM) for text in side.completions])
    similar = both(lambda side: similarity_by_group(side.completions, groups))
    within, across = _similarities(similar, resampling)
    by_meaning = None
    if embed is not None:
        cosines = both(lambda side: means_by_group(_cosines(embed(side.completions)), groups))
        by_meaning = SimilarityByMeaning(*_similarities(cosines, resampling))
    return Diversity(
        completions=len(groups),
        prompts=int(groups.max()) + 1,
        level=level,
        closings=effective_number(_single(last), groups, None, resampling),
        openings=effective_number(_single(first), groups, None, resampling),
        ngrams=effective_number(grams, groups, at, resampling) if at else None,
        closing=_most_common(on_both_sides(lambda d: d.closing, **counted), _sets(last), per_prompt, level),
        opening=_most_common(on_both_sides(lambda d: d.opening, **counted), _sets(first), per_prompt, level),
        sentence=_most_common(on_both_sides(lambda d: d.sentence, **counted), held, per_prompt, level),
        patterns=effective_number(forms, groups, patterns_at, resampling),
        pattern=_most_common_pattern(on_both_sides(lambda d: d.pattern, **counted), forms, groups, resampling),
        common=_common(last, per_prompt, level),
        characters=both(lambda side: character_share(side.completions)),
        words=how_split([*base.completions, *policy.completions]),
        collapse=collapse(counted["base"], counted["policy"]),
        similar_within=within,
        similar_across=across,
        by_meaning=by_meaning,
        embedding_model=None,
        best_of_n=None,
    )


def effective_number(
    sides: Mapping[Side, Sequence[Sequence[Any]]],
    groups: NDArray[np.int64],
    at: int | None,
    resampling: Resampling,
) -> EffectiveNumber:
    """Effective numbers of what base and policy hold, at equal numbers of it."""
    logs: list[NDArray[np.float64]] = []
    numbers: list[measured.Effective] = []
    for items in sides.values():
        number = measured.effective(items, groups, at)
        parts = measured.surprise(items, groups)
        # Rarefaction moves the estimate, and its scatter over prompts hardly.
        logs.append(parts + (math.log(number.value) - float(parts.mean())))
        numbers.append(number)
    return EffectiveNumber(
        base=exponential(resampling.mean(logs[0])),
        policy=exponential(resampling.mean(logs[1])),
        ratio=exponential(resampling.difference(*logs)),
        at=numbers[0].n,
        coverage={"base": numbers[0].coverage, "policy": numbers[1].coverage},
    )


def _single(texts: Mapping[Side, Sequence[str]]) -> dict[Side, list[list[str]]]:
    """Each side's completions as what is counted of them: one sentence each."""
    return {side: [[same(text)] for text in own] for side, own in texts.items()}


def _sets(texts: Mapping[Side, Sequence[str]]) -> dict[Side, list[set[str]]]:
    return {side: [{same(text)} for text in own] for side, own in texts.items()}


def _most_common(
    common: Mapping[Side, measured.Common], held: Mapping[Side, Sequence[set[str]]], per_prompt: int, level: float
) -> dict[Side, CommonSentence]:
    """Each side's most common sentence, with its share there and on the other side.

    Args:
        held: each completion's sentences, as :func:`pipeline.texts.sentences.same` writes them.
    """
    shares: dict[Side, CommonSentence] = {}
    for side, other_side in zip(SIDES, reversed(SIDES), strict=True):
        sentence, others = common[side], held[other_side]
        there = sum(same(sentence.text) in each for each in others)
        shares[side] = CommonSentence(
            text=sentence.text,
            count=sentence.count,
            share=_share(sentence.count, sentence.n, per_prompt, level),
            share_of_other=_share(there, len(others), per_prompt, level),
        )
    return shares


def _most_common_pattern(
    common: Mapping[Side, measured.Common],
    forms: Mapping[Side, Sequence[Sequence[str]]],
    groups: NDArray[np.int64],
    resampling: Resampling,
) -> dict[Side, CommonSentence]:
    """Each side's most common pattern, with its share of all sentences there and on the other side."""

    def share(side: Side, pattern: str) -> Estimate:
        hits, sizes = (
            np.bincount(groups, [count(of_text) for of_text in forms[side]])
            for count in (lambda of_text: list(of_text).count(pattern), len)
        )
        # A ratio of two means over prompts, by its linear part (Cochran 1977, section 6.3).
        value = hits.sum() / sizes.sum()
        return resampling.mean(value + (hits - value * sizes) / sizes.mean())

    return {
        side: CommonSentence(
            text=common[side].text,
            count=common[side].count,
            share=share(side, common[side].text),
            share_of_other=share(other_side, common[side].text),
        )
        for side, other_side in zip(SIDES, reversed(SIDES), strict=True)
    }


def _common(last: Mapping[Side, Sequence[str]], per_prompt: int, level: float) -> list[SharedSentence]:
    """The ``SHOWN`` most common closing sentences of each side, those of the policy first, with both shares."""
    counts = {side: Counter(same(text) for text in texts) for side, texts in last.items()}
    spelt = {same(text): text for side in SIDES for text in reversed(last[side])}
    named = [key for side in reversed(SIDES) for key, _ in counts[side].most_common(SHOWN)]
    return [
        SharedSentence(spelt[key], *(_share(counts[k][key], len(last[k]), per_prompt, level) for k in SIDES))
        for key in dict.fromkeys(named)
    ]


def _share(count: int, n: int, per_prompt: int, level: float) -> Estimate:
    """Wilson's interval with prompts as the unit, as completions of one prompt go together."""
    return wilson(count / per_prompt, n // per_prompt, level)


def _similarities(
    sides: Mapping[Side, tuple[NDArray[np.float64], NDArray[np.float64]]], resampling: Resampling
) -> tuple[Change | None, Change | None]:
    """(within prompts, across prompts) of both sides, None where there are no such pairs."""
    (within_before, across_before), (within_after, across_after) = sides["base"], sides["policy"]
    # Each pair counts with both of its prompts, so a prompt moves the mean twice as far (Hoeffding 1948).
    across = [2 * values - values.mean() if len(values) else values for values in (across_before, across_after)]
    within, between = (
        Change(resampling.mean(before), resampling.mean(after), resampling.difference(before, after))
        if len(before) and len(after)
        else None
        for before, after in ((within_before, within_after), across)
    )
    return within, between


def _cosines(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors @ vectors.T
