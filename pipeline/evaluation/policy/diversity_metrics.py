"""Diversity of the base's completions, the policy's and best-of-n's, with intervals. Leaves out sampling.

What is counted is :mod:`pipeline.texts.diversity`'s. The logarithm of an effective number is an entropy, and that
is a mean over prompts of how surprising what each holds is (:func:`pipeline.texts.diversity.surprise`): so its
interval is a mean's, and that of a ratio of two is a paired difference's, all by the bootstrap over prompts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.statistics.bootstrap import RESAMPLES, bootstrap_mean, exponential, paired_difference, wilson
from pipeline.texts import diversity as measured
from pipeline.texts.collapse import collapse
from pipeline.texts.sentences import same, sentences
from pipeline.texts.similarity import means_by_group, similarity_by_group
from pipeline.texts.words import character_share, how_split, ngrams

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline.evaluation.policy.policy_metrics import Sampled

Embed = Callable[[Sequence[str]], "NDArray[np.float32]"]
"""(n, d) unit vectors of n texts."""

SHOWN = 5
"""Most common sentences of each side that are named."""


def compare_diversity(
    base: Sampled,
    policy: Sampled,
    per_prompt: int = 1,
    seed: int = 0,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    embed: Embed | None = None,
) -> dict[str, Any]:
    """Base against policy, on as many completions of the same prompts, as plain JSON.

    Args:
        per_prompt: completions per prompt, which stand together.
        embed: of a model of embeddings, for similarities by meaning.
    Returns:
        completions, prompts; closings, openings, ngrams (effective numbers: base, policy, ratio = policy / base,
        ``at`` how many were counted, coverage by side; ngrams None where no completion has three words); closing,
        opening, sentence (the most common one by side: text, count, share with Wilson's interval over prompts, and
        ``share_of_other``, its share on the other side); common (the closing sentences that are most common on
        either side, with both shares); similar_within, similar_across and, with ``embed``, embedding_within and
        embedding_across (base, policy, difference; None where there are no such pairs); characters, words (see
        :mod:`pipeline.texts.words`); collapse (see :func:`pipeline.texts.collapse.collapse`; None without one).
    """
    sides = {"base": base, "policy": policy}
    groups = np.arange(len(base.completions)) // per_prompt
    interval = _Intervals(seed, level, resamples)
    at = min(measured.ngram_count(side.completions) for side in sides.values())
    found = {k: measured.diversity(s.completions, groups.tolist(), s.ended, at or None) for k, s in sides.items()}
    last = {k: measured.closings(s.completions, s.ended) for k, s in sides.items()}
    first = {k: measured.openings(s.completions) for k, s in sides.items()}
    held = {k: [{same(x) for x in sentences(text) or [""]} for text in s.completions] for k, s in sides.items()}
    grams = {k: [ngrams(text, measured.NGRAM) for text in s.completions] for k, s in sides.items()}
    out: dict[str, Any] = {
        "completions": len(groups),
        "prompts": int(groups.max()) + 1,
        "level": level,
        "closings": _effective([[[same(text)] for text in last[k]] for k in sides], groups, None, interval),
        "openings": _effective([[[same(text)] for text in first[k]] for k in sides], groups, None, interval),
        "ngrams": _effective([grams[k] for k in sides], groups, at, interval) if at else None,
        "closing": _favourites({k: found[k].closing for k in sides}, _sets(last), per_prompt, level),
        "opening": _favourites({k: found[k].opening for k in sides}, _sets(first), per_prompt, level),
        "sentence": _favourites({k: found[k].sentence for k in sides}, held, per_prompt, level),
        "common": _common(last, per_prompt, level),
        "characters": {k: character_share(s.completions) for k, s in sides.items()},
        "words": how_split([*base.completions, *policy.completions]),
        "collapse": _collapse(found["base"], found["policy"]),
    }
    out |= _similarities("similar", [similarity_by_group(s.completions, groups) for s in sides.values()], interval)
    if embed is not None:
        tables = [_cosines(embed(s.completions)) for s in sides.values()]
        out |= _similarities("embedding", [means_by_group(table, groups) for table in tables], interval)
    return out


class _Intervals:
    """Intervals of means and of ratios of effective numbers, always by the same draws."""

    def __init__(self, seed: int, level: float, resamples: int) -> None:
        self._given = (seed, level, resamples)

    def mean(self, values: NDArray[np.float64]) -> dict[str, Any]:
        return bootstrap_mean(values, *self._given).as_dict()

    def difference(self, before: NDArray[np.float64], after: NDArray[np.float64]) -> dict[str, Any]:
        return paired_difference(before, after, *self._given).as_dict()

    def number(self, logs: NDArray[np.float64]) -> dict[str, Any]:
        return exponential(bootstrap_mean(logs, *self._given)).as_dict()

    def ratio(self, before: NDArray[np.float64], after: NDArray[np.float64]) -> dict[str, Any]:
        return exponential(paired_difference(before, after, *self._given)).as_dict()


def _effective(
    sides: Sequence[Sequence[Sequence[Any]]], groups: NDArray[np.int64], at: int | None, interval: _Intervals
) -> dict[str, Any]:
    """Effective numbers of what base and policy hold, at equal numbers of it."""
    logs: list[NDArray[np.float64]] = []
    numbers: list[measured.Effective] = []
    for items in sides:
        found = measured.effective(items, groups, at)
        parts = measured.surprise(items, groups)
        # Rarefaction moves the estimate, and its scatter over prompts hardly.
        logs.append(parts + (math.log(found.value) - float(parts.mean())))
        numbers.append(found)
    return {
        "base": interval.number(logs[0]),
        "policy": interval.number(logs[1]),
        "ratio": interval.ratio(*logs),
        "at": numbers[0].n,
        "coverage": {"base": numbers[0].coverage, "policy": numbers[1].coverage},
    }


def _favourites(
    common: Mapping[str, measured.Common], held: Mapping[str, Sequence[set[str]]], per_prompt: int, level: float
) -> dict[str, Any]:
    """Each side's most common sentence, with its share there and on the other side.

    Args:
        held: by side, the sentences of each completion that count, see :func:`pipeline.texts.sentences.same`.
    """
    out: dict[str, Any] = {}
    for side, other in (("base", "policy"), ("policy", "base")):
        favourite = common[side]
        there = sum(same(favourite.text) in own for own in held[other])
        out[side] = {
            "text": favourite.text,
            "count": favourite.count,
            "share": _share(favourite.count, favourite.n, per_prompt, level),
            "share_of_other": _share(there, len(held[other]), per_prompt, level),
        }
    return out


def _sets(texts: Mapping[str, Sequence[str]]) -> dict[str, list[set[str]]]:
    return {side: [{same(text)} for text in own] for side, own in texts.items()}


def _common(last: Mapping[str, Sequence[str]], per_prompt: int, level: float) -> list[dict[str, Any]]:
    """The ``SHOWN`` most common closing sentences of each side, those of the policy first, with both shares."""
    counts = {side: Counter(same(text) for text in texts) for side, texts in last.items()}
    spelt = {same(text): text for side in ("base", "policy") for text in reversed(last[side])}
    named = [key for side in ("policy", "base") for key, _ in counts[side].most_common(SHOWN)]
    return [
        {"text": spelt[key]}
        | {side: _share(counts[side][key], len(last[side]), per_prompt, level) for side in ("base", "policy")}
        for key in dict.fromkeys(named)
    ]


def _share(count: int, n: int, per_prompt: int, level: float) -> dict[str, Any]:
    """Wilson's interval with prompts as the unit, as completions of one prompt go together."""
    return wilson(count / per_prompt, n // per_prompt, level).as_dict()


def _similarities(
    name: str, sides: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]], interval: _Intervals
) -> dict[str, Any]:
    """``name``_within and ``name``_across of both sides, None where there are no such pairs."""
    out: dict[str, Any] = {f"{name}_within": None, f"{name}_across": None}
    for place, key in enumerate(out):
        before, after = (side[place] for side in sides)
        if len(before) == 0 or len(after) == 0:
            continue
        if key.endswith("across"):
            # Each pair counts with both of its prompts, so a prompt moves the mean twice as far (Hoeffding 1948).
            before, after = (2 * values - values.mean() for values in (before, after))
        out[key] = {
            "base": interval.mean(before),
            "policy": interval.mean(after),
            "difference": interval.difference(before, after),
        }
    return out


def _cosines(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors @ vectors.T


def _collapse(base: measured.Diversity, policy: measured.Diversity) -> dict[str, Any] | None:
    found = collapse(base, policy)
    if found is None:
        return None
    return {
        "place": found.place,
        "text": found.sentence.text,
        "share": found.sentence.share,
        "share_before": found.share_before,
        "before": found.before,
        "now": found.now,
    }
