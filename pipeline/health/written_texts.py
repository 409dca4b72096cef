"""Measure the variety of a run's latest completions, and find the sentence or phrase that spreads in them.

Counts are over a window of constant size, as effective numbers grow with the sample. A continued run
takes the completions of the interrupted one first.
"""

from __future__ import annotations

import math
import re
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import Any, TypeVar

from pipeline.health.window_counts import CountedText, Counts, Words, counted
from pipeline.results.metrics import Logged
from pipeline.texts.collapse import Collapse, pattern_collapse, sentence_collapse
from pipeline.texts.diversity import (
    Common,
    Diversity,
    Effective,
    effective,
    entropy_at,
    most_common_pattern,
)
from pipeline.texts.patterns import frame_words, pattern
from pipeline.texts.sentences import same, sentences

# Completions of a window, in whole updates. An effective number then has a standard error of about 6 %; 64
# completions would show 35 of the 85 closings that 800 show.
TEXTS = 256

# Standard errors for a collapse, as the rule is applied after every update.
SURE = 4.0

READ = ("update", "prompt", "completion", "ended", "score")
"""The columns of rollouts that :func:`written` reads."""

Thing = TypeVar("Thing", str, Words)


@dataclass(frozen=True)
class Held:
    """A sentence or phrase, and how many of a window's completions hold it.

    Attributes:
        text: as written.
        share, before: share of the window's completions, and of the first window's.
        score_with, score_without: mean scores of the completions with and without it; None where all have it.
    """

    text: str
    share: float
    before: float
    score_with: float
    score_without: float | None


@dataclass(frozen=True)
class Window:
    """The latest completions, counted.

    Attributes:
        n: completions.
        figures: the metrics ``diversity/*``.
        collapse: of sentences, against the first window, by the rule of evaluation.
        one_pattern: the same of their patterns.
        closing: the most common closing sentence.
        spread: the sentence or phrase whose share has grown most since the first window.
    """

    n: int
    figures: Mapping[str, float]
    collapse: Collapse | None
    one_pattern: Collapse | None
    closing: Held
    spread: Held


@dataclass(frozen=True)
class _First:
    """The counts of the first window, with which later ones are compared.

    Attributes:
        frame: the words that patterns keep.
        ngrams_at, patterns_at: how many of them effective numbers are of.
    """

    closings: Counter[str]
    sentences: Counter[str]
    phrases: Counter[Words]
    diversity: Diversity
    frame: frozenset[str]
    ngrams_at: int
    patterns_at: int


class Written:
    """Takes the completions of each update in order.

    Attributes:
        windows: by update, from the first full window on.
        latest: (score, completion) of the last update taken.
    """

    def __init__(self) -> None:
        self.windows: dict[int, Window] = {}
        self.latest: list[tuple[float, str]] = []
        self._updates: deque[list[CountedText]] = deque()
        self._counts = Counts()
        self._first: _First | None = None

    def take(
        self,
        update: int,
        prompts: Sequence[str],
        completions: Sequence[str],
        ended: Sequence[bool],
        scores: Sequence[float],
    ) -> Mapping[str, float]:
        """Take one update's completions; returns its metrics, empty before a window is full."""
        self._updates.append([counted(*row) for row in zip(prompts, completions, ended, scores, strict=True)])
        for text in self._updates[-1]:
            self._counts.add(text)
        while sum(map(len, self._updates)) - len(self._updates[0]) >= TEXTS:
            for text in self._updates.popleft():
                self._counts.remove(text)
        self.latest = list(zip(scores, completions, strict=True))
        texts = [text for of_update in self._updates for text in of_update]
        if len(texts) < TEXTS:
            return {}
        self.windows[update] = window = self._window(texts)
        return window.figures

    @property
    def samples(self) -> list[tuple[float, str]]:
        """(score, completion) with the highest, middle and lowest score of the last update."""
        ranked = sorted(self.latest, key=lambda row: -row[0])
        places = sorted({0, len(ranked) // 2, len(ranked) - 1}) if ranked else []
        return [ranked[i] for i in places]

    def _window(self, texts: Sequence[CountedText]) -> Window:
        counts, n = self._counts, len(texts)
        if self._first is None:
            self._first = _first(texts, counts)
        first = self._first
        now = _measured(texts, counts, first.frame, first.ngrams_at, first.patterns_at)
        figures: dict[str, float] = {
            Logged.CLOSINGS: now.closings.value,
            Logged.OPENINGS: now.openings.value,
            Logged.COMMON_CLOSING: now.closing.share,
            Logged.COMMON_SENTENCE: now.sentence.share,
            Logged.UNIQUE_TEXTS: len(counts.texts) / n,
            Logged.SENTENCES: now.sentences,
            Logged.PATTERNS: now.patterns.value,
            Logged.COMMON_PATTERN: now.pattern.share,
        }
        if now.ngrams is not None:
            figures[Logged.TRIGRAMS] = now.ngrams.value
        last = _most(counts.closings)[0]
        ends = [text for text in texts if text.closing == last]
        closing = _held(_spelt(ends[0].text, last), ends, texts, first.closings[last] / n)
        spread = _spread(texts, counts, first)
        figures[Logged.SPREAD] = spread.share - spread.before
        of_sentences = sentence_collapse(first.diversity, now, SURE)
        of_patterns = pattern_collapse(first.diversity, now, SURE)
        return Window(n, figures, of_sentences, of_patterns, closing, spread)


def written(rows: Iterable[Mapping[str, Any]]) -> Written:
    """Take all completions of a run.

    Args:
        rows: of a ``rollouts`` version or a rollouts.jsonl, in order, with the columns :data:`READ`.
    """
    taken = Written()
    for update, batch in groupby(rows, key=lambda row: int(row["update"])):
        taken.take(update, *zip(*([row[name] for name in READ[1:]] for row in batch), strict=True))
    return taken


def _first(texts: Sequence[CountedText], counts: Counts) -> _First:
    # Half of the first n-grams and sentences, so that texts of half the length do not seem less varied.
    ngrams_at, patterns_at = counts.ngrams.total() // 2, sum(len(text.sentences) for text in texts) // 2
    copies = Counter(counts.closings), Counter(counts.sentences), Counter(counts.phrases)
    frame = frame_words(text.text for text in texts)
    measured = _measured(texts, counts, frame, ngrams_at, patterns_at)
    return _First(*copies, measured, frame, ngrams_at, patterns_at)


def _measured(
    texts: Sequence[CountedText], counts: Counts, frame: frozenset[str], ngrams_at: int, patterns_at: int
) -> Diversity:
    """The figures of a window that :mod:`pipeline.texts.collapse` reads."""
    places = {prompt: i for i, prompt in enumerate(dict.fromkeys(text.prompt for text in texts))}
    of = [places[text.prompt] for text in texts]
    (last, ends), (opening, begins) = _most(counts.closings), _most(counts.openings)
    (sentence, holds), n = _most(counts.sentences), len(texts)
    forms = [[pattern(key, frame) for key in text.sentences] for text in texts]
    return Diversity(
        n=n,
        groups=len(places),
        closings=effective([[text.closing] for text in texts], of),
        openings=effective([[text.opening] for text in texts], of),
        ngrams=_ngrams(counts, ngrams_at),
        patterns=effective(forms, of, patterns_at),
        closing=Common(_spelt(next(t.text for t in texts if t.closing == last), last), ends, n),
        opening=Common(_spelt(next(t.text for t in texts if t.opening == opening), opening), begins, n),
        sentence=Common(sentence, holds, n),
        pattern=most_common_pattern(forms),
        similar_within=None,
        similar_across=None,
        characters=0.0,
    )


def _ngrams(counts: Counts, at: int) -> Effective | None:
    total = counts.ngrams.total()
    if not total:
        return None
    entropy = entropy_at(list(counts.ngrams.values()), at if 0 < at < total else None)
    return Effective(math.exp(entropy), min(at or total, total), math.nan, math.nan)


def _spread(texts: Sequence[CountedText], counts: Counts, first: _First) -> Held:
    """The sentence that spreads most, unless a phrase spreads clearly more."""
    n = len(texts)
    sentence, grown = _most(counts.sentences, first.sentences)
    phrase, more = _most(counts.phrases, first.phrases) if counts.phrases else ((), 0)
    if more > max(1.25 * grown, grown + 0.05 * n):
        holds = [text for text in texts if phrase in text.phrases]
        return _held(_phrase(holds[0].text, phrase), holds, texts, first.phrases[phrase] / n)
    holds = [text for text in texts if sentence in text.sentences]
    return _held(_spelt(holds[0].text, sentence), holds, texts, first.sentences[sentence] / n)


def _most(counts: Counter[Thing], before: Mapping[Thing, int] | None = None) -> tuple[Thing, int]:
    """The key whose count is, or has grown, the most, and by how much; of equals the first in sorted order."""
    grown = counts if before is None else {key: count - before.get(key, 0) for key, count in counts.items()}
    most = max(grown.values())
    return min((key for key, count in grown.items() if count == most), key=repr), most


def _held(text: str, holds: Sequence[CountedText], texts: Sequence[CountedText], before: float) -> Held:
    scores, total = [t.score for t in holds], sum(t.score for t in texts)
    rest = len(texts) - len(scores)
    without = (total - sum(scores)) / rest if rest else None
    return Held(text, len(scores) / len(texts), before, fmean(scores), without)


def _spelt(text: str, key: str) -> str:
    """The sentence of ``text`` that is the same as ``key``, as written."""
    return next((sentence for sentence in sentences(text) if same(sentence) == key), key)


def _phrase(text: str, phrase: Words) -> str:
    """The words of ``phrase``, as written in ``text``."""
    between = r"\s*".join(map(re.escape, phrase))
    stands = re.search(between, text, re.IGNORECASE)
    return " ".join(phrase) if stands is None else stands[0]
