"""Diversity of a set of completions: sentences, n-grams, similarity. Needs no torch.

A policy can write one sentence that its reward model likes to every prompt: the score rises and the entropy of
tokens hardly changes. So sentences are counted.

The unit is a Hill number of order 1, exp(entropy): the number of equally frequent sentences that would be as
varied (Hill 1973, Ecology 54). In a sample it falls short, the more so the smaller the sample: of 64 completions
it is 64 at most. Nothing is extrapolated, for of free text every sentence may be seen once, and then no estimator
knows how many more there are. Instead two sides are compared at equal size (:func:`entropy_at`: rarefaction, which
is exact), where the more varied side falls short by more: a ratio of two such numbers understates a collapse. How
near the number is to the truth, ``coverage`` tells (Good 1953, Biometrika 40): the share of what the model writes
that the sample has seen.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.texts.patterns import frame_words, patterns
from pipeline.texts.sentences import closing, same, sentences
from pipeline.texts.similarity import mean_similarity
from pipeline.texts.words import character_share, ngrams, words

NGRAM = 3


@dataclass(frozen=True)
class Effective:
    """An effective number: exp of the entropy of what was counted.

    Attributes:
        value: 1 where all is the same, ``n`` where nothing is twice.
        n: number of items counted; with a smaller number asked for, ``value`` is the expectation for that many.
        error: standard error of its logarithm over groups (prompts); NaN of fewer than two.
        coverage: share of what could be counted that the sample has seen, by Good's estimate: 1 minus the share of
            what was counted once.
    """

    value: float
    n: int
    error: float
    coverage: float


@dataclass(frozen=True)
class Common:
    """The most common sentence, or pattern.

    Attributes:
        text: as it is most often written; "" where that is an empty completion.
        count: completions that hold it (or end in it); of a pattern, sentences that have it.
        n: all completions, or sentences.
    """

    text: str
    count: int
    n: int

    @property
    def share(self) -> float:
        return self.count / self.n


@dataclass(frozen=True)
class Diversity:
    """The result of :func:`diversity` on a set of completions.

    Attributes:
        n: completions.
        groups: prompts that they answer.
        closings, openings: effective number of closing sentences, and of first ones.
        ngrams: effective number of runs of three words; None where no completion has three.
        patterns: effective number of patterns of sentences (:mod:`pipeline.texts.patterns`).
        closing, opening: the most common closing sentence, and first one.
        sentence: the most common sentence anywhere in a completion.
        pattern: the most common pattern; counted are sentences, not completions.
        similar_within: mean :func:`pipeline.texts.similarity.similarity` of two completions of one prompt; None
            where no prompt has two.
        similar_across: of two completions of different prompts; None of fewer than two prompts.
        characters: share of the words that are single characters (:func:`pipeline.texts.words.how_split`).
    """

    n: int
    groups: int
    closings: Effective
    openings: Effective
    ngrams: Effective | None
    patterns: Effective
    closing: Common
    opening: Common
    sentence: Common
    pattern: Common
    similar_within: float | None
    similar_across: float | None
    characters: float

    @property
    def sentences(self) -> float:
        """Sentences per completion; a blank one counts as one."""
        return self.pattern.n / self.n


def diversity(
    completions: Sequence[str],
    groups: Sequence[Hashable] | None = None,
    ended: Sequence[bool] | None = None,
    ngrams_at: int | None = None,
    frame: frozenset[str] | None = None,
    patterns_at: int | None = None,
) -> Diversity:
    """Measure a set of completions. To compare two, give as many completions of both.

    Args:
        groups: (n,) what each answers, such as its prompt; by default each is of a prompt of its own.
        ended: (n,) False where a limit of length cut it, see :func:`pipeline.texts.sentences.closing`.
        ngrams_at: n-grams that the number of them is stated for, as longer texts have more; by default all.
        frame: the words that patterns keep, of the other side where two are compared; by default the completions'
            own, by :func:`pipeline.texts.patterns.frame_words`.
        patterns_at: sentences that the number of patterns is stated for; by default all.
    Raises:
        ValueError: no completions, or columns of different lengths.
    """
    if not completions:
        raise ValueError("no completions to measure")
    of = _places(groups if groups is not None else range(len(completions)))
    ends = [True] * len(completions) if ended is None else [bool(end) for end in ended]
    if not len(completions) == len(of) == len(ends):
        raise ValueError(f"{len(completions)} completions, {len(of)} groups, {len(ends)} ends")
    first, last = openings(completions), closings(completions, ends)
    grams = [ngrams(text, NGRAM) for text in completions]
    forms = patterns_of(completions, frame_words(completions) if frame is None else frame)
    within, across = mean_similarity(completions, of)
    return Diversity(
        n=len(completions),
        groups=int(of.max()) + 1,
        closings=effective([[same(text)] for text in last], of),
        openings=effective([[same(text)] for text in first], of),
        ngrams=effective(grams, of, ngrams_at) if any(grams) else None,
        patterns=effective(forms, of, patterns_at),
        closing=_most_common([[text] for text in last]),
        opening=_most_common([[text] for text in first]),
        sentence=most_common_sentence(completions),
        pattern=most_common_pattern(forms),
        similar_within=within,
        similar_across=across,
        characters=character_share(completions),
    )


def closings(completions: Sequence[str], ended: Sequence[bool] | None = None) -> list[str]:
    """The closing sentence of each completion."""
    ends = [True] * len(completions) if ended is None else ended
    return [closing(text, bool(end)) for text, end in zip(completions, ends, strict=True)]


def openings(completions: Sequence[str]) -> list[str]:
    """The first sentence of each completion."""
    return [next(iter(sentences(text)), "") for text in completions]


def patterns_of(completions: Sequence[str], frame: frozenset[str]) -> list[list[str]]:
    """(n,) the pattern of each sentence of each completion."""
    return [patterns(text, frame) for text in completions]


def most_common_pattern(forms: Iterable[Sequence[str]]) -> Common:
    """The pattern that most sentences have; of equals the first in sorted order.

    Args:
        forms: (n,) of :func:`patterns_of`.
    """
    counts = Counter(form for of_text in forms for form in of_text)
    most = max(counts.values())
    return Common(min(form for form, count in counts.items() if count == most), most, counts.total())


def ngram_count(completions: Iterable[str]) -> int:
    """All n-grams of a set: the smaller of two sets' is what both are to be measured at."""
    return sum(max(len(words(text)) - NGRAM + 1, 0) for text in completions)


def most_common_sentence(completions: Sequence[str]) -> Common:
    """The sentence that most completions hold, at any place; repeated in one completion, it counts once."""
    return _most_common([sentences(text) or [""] for text in completions])


def effective_number(counts: Iterable[int], at: int | None = None) -> float:
    """exp(entropy) of counts; with ``at``, what a sample of that many of them would show.

    Raises:
        ValueError: nothing was counted, a count is below 0, or ``at`` is above their sum.
    """
    return math.exp(entropy_at(list(counts), at))


def entropy_at(counts: Sequence[int] | NDArray[np.int64], at: int | None = None) -> float:
    """Entropy of counts in nats; with ``at``, its expectation in a sample of that many, drawn without replacement.

    The sum over k of -(k/m) ln(k/m) times the expected number of kinds that are drawn k times, which is
    hypergeometric (rarefaction for order 1: Chao et al. 2014, Ecological Monographs 84, equation 7). Exact: no
    sampling, no seed.
    """
    x = np.asarray(counts, np.int64)
    x = x[x != 0]
    total = int(x.sum())
    m = total if at is None else at
    if total < 1 or (x < 0).any() or not 1 <= m <= total:
        raise ValueError(f"counts of {total} in all, of which {m}")
    if m == total:
        p = x / total
        return max(float(-(p * np.log(p)).sum()), 0.0)
    from scipy.special import gammaln  # pyright: ignore[reportMissingTypeStubs]

    def choose(a: NDArray[np.float64] | float, b: NDArray[np.float64] | float) -> NDArray[np.float64]:
        return np.asarray(gammaln(np.add(a, 1.0)) - gammaln(np.add(b, 1.0)) - gammaln(np.subtract(a, b) + 1.0))

    entropy = 0.0
    for size, kinds in zip(*np.unique(x, return_counts=True), strict=True):
        k = np.arange(max(1, m - (total - size)), min(size, m) + 1, dtype=np.float64)
        log_chance = choose(float(size), k) + choose(float(total - size), m - k) - choose(float(total), float(m))
        entropy -= float(kinds * (np.exp(log_chance) * (k / m) * np.log(k / m)).sum())
    return max(entropy, 0.0)


def effective(
    items: Sequence[Sequence[Hashable]], groups: NDArray[np.int64] | Sequence[int], at: int | None = None
) -> Effective:
    """The effective number of what completions hold, with the standard error of its logarithm over groups.

    Args:
        items: (n,) what each completion holds: its closing sentence, its n-grams.
        groups: (n,) whole numbers from 0.
    """
    counts = Counter(item for row in items for item in row)
    numbers = np.array(list(counts.values()), np.int64)
    total = int(numbers.sum())
    entropy = entropy_at(numbers, None if at is None or at >= total else at)
    parts = surprise(items, groups)
    spread = float(parts.std(ddof=1)) / math.sqrt(len(parts)) if len(parts) > 1 else math.nan
    return Effective(
        math.exp(entropy), min(total, at or total), spread, 1 - float((numbers == 1).sum()) / max(total, 1)
    )


def surprise(
    items: Sequence[Sequence[Hashable]], groups: NDArray[np.int64] | Sequence[int]
) -> NDArray[np.float64]:
    """(groups,) values whose mean is the entropy of all items, and whose scatter over groups is the entropy's.

    The mean of -ln p over what each group holds, p being the share in all: the influence function of an entropy
    is -ln p - H, to first order, whatever p is estimated from (the changes of p sum to 0). Groups hold different
    numbers of items, so it is a ratio of two means, with that ratio's influence (Cochran 1977, section 6.3).
    """
    of = np.asarray(groups, np.int64)
    counts = Counter(item for row in items for item in row)
    total = sum(counts.values())
    sums, sizes = np.zeros(int(of.max()) + 1), np.zeros(int(of.max()) + 1)
    for group, row in zip(of.tolist(), items, strict=True):
        sums[group] += sum(-math.log(counts[item] / total) for item in row)
        sizes[group] += len(row)
    if total == 0:
        return np.zeros(0)
    entropy = sums.sum() / sizes.sum()
    return entropy + (sums - entropy * sizes) / sizes.mean()


def _places(groups: Iterable[Hashable]) -> NDArray[np.int64]:
    """(n,) the number of each one's group, in order of appearance."""
    places: dict[Hashable, int] = {}
    return np.array([places.setdefault(group, len(places)) for group in groups], np.int64)


def _most_common(rows: Sequence[Sequence[str]]) -> Common:
    """The sentence that most rows hold; of equals the one seen first."""
    holders: Counter[str] = Counter()
    spelt: dict[str, Counter[str]] = {}
    for row in rows:
        keys = {same(sentence): sentence for sentence in reversed(row)}
        for key, sentence in sorted(keys.items(), key=lambda item: row.index(item[1])):
            holders[key] += 1
            spelt.setdefault(key, Counter())[sentence] += 1
    key, count = holders.most_common(1)[0]
    return Common(spelt[key].most_common(1)[0][0], count, len(rows))
