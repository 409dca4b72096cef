"""Count how varied a run's latest completions are, update by update, and which sentence or phrase spreads in them.

Counts are over a window of the latest updates, always of the same size, since effective numbers grow with the
sample. They follow from the completions taken: given those of an interrupted run first, they go on from there.
"""

from __future__ import annotations

import math
import re
from collections import Counter, deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from statistics import fmean
from typing import Any, TypeVar

from pipeline.results.metrics import Logged
from pipeline.texts.collapse import HALF, Collapse, collapse
from pipeline.texts.diversity import NGRAM, Common, Diversity, Effective, effective, effective_number, entropy_at
from pipeline.texts.sentences import closing, same, sentences
from pipeline.texts.words import words

# Completions of a window, in whole updates: the standard error of an effective number is then about 6 %, and a
# batch of 64 needs four updates. Of fewer it says less: 64 completions show 35 of the 85 closings that 800 show.
TEXTS = 256

# Standard errors of a collapse that is looked for after every update.
SURE = 4.0

# Words of a phrase: as short as a sentence can be, longer than what a language repeats by itself.
PHRASE = 4

READ = ("update", "prompt", "completion", "ended", "score")
"""Columns of rollouts that are read here."""

Run = tuple[str, ...]
Thing = TypeVar("Thing", str, Run)


@dataclass(frozen=True)
class Held:
    """A sentence or phrase, and how many of a window's completions hold it.

    Attributes:
        text: as it is written.
        share, before: of the window's completions, and of the first window's.
        score_with, score_without: mean scores of the window's completions that hold it and of the others; None
            where there are none.
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
        collapse: by the rule that evaluation uses, against the first window.
        closing: the most common closing sentence.
        spread: the sentence or phrase whose share has grown most since the first window.
    """

    n: int
    figures: Mapping[str, float]
    collapse: Collapse | None
    closing: Held
    spread: Held


@dataclass(frozen=True)
class _Text:
    """A completion with its parts."""

    text: str
    prompt: str
    score: float
    opening: str
    closing: str
    sentences: frozenset[str]
    phrases: frozenset[Run]
    ngrams: list[Run]
    pieces: int


@dataclass
class _Counts:
    """How many of a window's completions hold each thing."""

    closings: Counter[str] = field(default_factory=Counter[str])
    openings: Counter[str] = field(default_factory=Counter[str])
    sentences: Counter[str] = field(default_factory=Counter[str])
    phrases: Counter[Run] = field(default_factory=Counter[Run])
    ngrams: Counter[Run] = field(default_factory=Counter[Run])
    texts: Counter[str] = field(default_factory=Counter[str])

    def add(self, text: _Text) -> None:
        for counter, items in self._of(text):
            counter.update(items)

    def remove(self, text: _Text) -> None:
        for counter, items in self._of(text):
            for item in items:
                counter[item] -= 1
                if not counter[item]:
                    del counter[item]

    def _of(self, text: _Text) -> list[tuple[Counter[Any], Iterable[Hashable]]]:
        return [
            (self.closings, (text.closing,)),
            (self.openings, (text.opening,)),
            (self.sentences, text.sentences),
            (self.phrases, text.phrases),
            (self.ngrams, text.ngrams),
            (self.texts, (text.text,)),
        ]


@dataclass(frozen=True)
class _First:
    """The first window, with which later ones are compared."""

    closings: Counter[str]
    sentences: Counter[str]
    phrases: Counter[Run]
    diversity: Diversity
    ngrams_at: int


class Written:
    """Takes each update's completions in order.

    Attributes:
        windows: by update, from the first that ends a full window.
        latest: (score, completion) of the last update taken.
    """

    def __init__(self) -> None:
        self.windows: dict[int, Window] = {}
        self.latest: list[tuple[float, str]] = []
        self._updates: deque[list[_Text]] = deque()
        self._counts = _Counts()
        self._first: _First | None = None

    def take(
        self,
        update: int,
        prompts: Sequence[str],
        completions: Sequence[str],
        ended: Sequence[bool],
        scores: Sequence[float],
    ) -> Mapping[str, float]:
        """Take one update's completions; return its metrics, none before a window is full."""
        self._updates.append([_apart(*row) for row in zip(prompts, completions, ended, scores, strict=True)])
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
        """(score, completion) of the last update's highest, middle and lowest score; as many as there are."""
        ranked = sorted(self.latest, key=lambda row: -row[0])
        places = sorted({0, len(ranked) // 2, len(ranked) - 1}) if ranked else []
        return [ranked[i] for i in places]

    def _window(self, texts: Sequence[_Text]) -> Window:
        counts, n = self._counts, len(texts)
        if self._first is None:
            self._first = _first(texts, counts)
        first = self._first
        last, ending = _most(counts.closings)
        figures: dict[str, float] = {
            Logged.CLOSINGS: effective_number(counts.closings.values()),
            Logged.OPENINGS: effective_number(counts.openings.values()),
            Logged.COMMON_CLOSING: ending / n,
            Logged.COMMON_SENTENCE: _most(counts.sentences)[1] / n,
            Logged.UNIQUE_TEXTS: len(counts.texts) / n,
            Logged.SENTENCES: fmean(text.pieces for text in texts),
        }
        if (ngrams := _ngrams(counts, first.ngrams_at)) is not None:
            figures[Logged.TRIGRAMS] = ngrams.value
        fewer = figures[Logged.CLOSINGS] < HALF * first.diversity.closings.value
        fewer = fewer or figures[Logged.OPENINGS] < HALF * first.diversity.openings.value
        collapsed = collapse(first.diversity, _measured(texts, counts, first.ngrams_at), SURE) if fewer else None
        ends = [text for text in texts if text.closing == last]
        now = _held(_spelt(ends[0].text, last), ends, texts, first.closings[last] / n)
        spread = _spread(texts, counts, first)
        figures[Logged.SPREAD] = spread.share - spread.before
        return Window(n, figures, collapsed, now, spread)


def written(rows: Iterable[Mapping[str, Any]]) -> Written:
    """All completions of a run.

    Args:
        rows: of a ``rollouts`` version or a rollouts.jsonl, in order, with the columns :data:`READ`.
    """
    taken = Written()
    for update, batch in groupby(rows, key=lambda row: int(row["update"])):
        listed = list(batch)
        columns = [[row[name] for row in listed] for name in READ[1:]]
        taken.take(update, *columns)
    return taken


def _apart(prompt: str, text: str, ended: bool, score: float) -> _Text:
    pieces, split = sentences(text) or [""], words(text)
    runs = [tuple(split[i : i + PHRASE]) for i in range(len(split) - PHRASE + 1)]
    return _Text(
        text,
        prompt,
        score,
        same(pieces[0]),
        same(closing(text, ended)),
        frozenset(map(same, pieces)),
        frozenset(runs),
        [tuple(split[i : i + NGRAM]) for i in range(len(split) - NGRAM + 1)],
        len(pieces),
    )


def _first(texts: Sequence[_Text], counts: _Counts) -> _First:
    # Half of the n-grams at first: texts may then become shorter by half without seeming less varied for it.
    at = counts.ngrams.total() // 2
    copies = Counter(counts.closings), Counter(counts.sentences), Counter(counts.phrases)
    return _First(*copies, _measured(texts, counts, at), at)


def _measured(texts: Sequence[_Text], counts: _Counts, ngrams_at: int) -> Diversity:
    """A window as :func:`pipeline.texts.collapse.collapse` reads it; what that does not read is left out."""
    places = {prompt: i for i, prompt in enumerate(dict.fromkeys(text.prompt for text in texts))}
    of = [places[text.prompt] for text in texts]
    (last, ends), (opening, begins) = _most(counts.closings), _most(counts.openings)
    sentence, holds = _most(counts.sentences)
    n = len(texts)
    return Diversity(
        n=n,
        groups=len(places),
        closings=effective([[text.closing] for text in texts], of),
        openings=effective([[text.opening] for text in texts], of),
        ngrams=_ngrams(counts, ngrams_at),
        closing=Common(_spelt(next(t.text for t in texts if t.closing == last), last), ends, n),
        opening=Common(_spelt(next(t.text for t in texts if t.opening == opening), opening), begins, n),
        sentence=Common(sentence, holds, n),
        similar_within=None,
        similar_across=None,
        characters=0.0,
    )


def _ngrams(counts: _Counts, at: int) -> Effective | None:
    total = counts.ngrams.total()
    if not total:
        return None
    entropy = entropy_at(list(counts.ngrams.values()), at if 0 < at < total else None)
    return Effective(math.exp(entropy), min(at or total, total), math.nan, math.nan)


def _spread(texts: Sequence[_Text], counts: _Counts, first: _First) -> Held:
    """Of a sentence that spreads every phrase in it spreads as well, and the sentence says more."""
    n = len(texts)
    sentence, grown = _most_grown(counts.sentences, first.sentences)
    phrase, more = _most_grown(counts.phrases, first.phrases) if counts.phrases else ((), 0)
    if more > max(1.25 * grown, grown + 0.05 * n):
        holds = [text for text in texts if phrase in text.phrases]
        return _held(_phrase(holds[0].text, phrase), holds, texts, first.phrases[phrase] / n)
    holds = [text for text in texts if sentence in text.sentences]
    return _held(_spelt(holds[0].text, sentence), holds, texts, first.sentences[sentence] / n)


def _most(counts: Counter[Thing]) -> tuple[Thing, int]:
    """The most common; of equals the first in order, whatever order they were counted in."""
    most = max(counts.values())
    return min((key for key, count in counts.items() if count == most), key=repr), most


def _most_grown(now: Counter[Thing], before: Counter[Thing]) -> tuple[Thing, int]:
    most = max(count - before[key] for key, count in now.items())
    return min((key for key, count in now.items() if count - before[key] == most), key=repr), most


def _held(text: str, holds: Sequence[_Text], texts: Sequence[_Text], before: float) -> Held:
    ours, total = [t.score for t in holds], sum(t.score for t in texts)
    rest = len(texts) - len(ours)
    return Held(text, len(ours) / len(texts), before, fmean(ours), (total - sum(ours)) / rest if rest else None)


def _spelt(text: str, key: str) -> str:
    """The sentence of ``text`` that is the same as ``key``, as it stands there."""
    return next((sentence for sentence in sentences(text) if same(sentence) == key), key)


def _phrase(text: str, phrase: Run) -> str:
    """The words of ``phrase`` as they stand in ``text``."""
    between = r"\s*".join(map(re.escape, phrase))
    stands = re.search(between, text, re.IGNORECASE)
    return " ".join(phrase) if stands is None else stands[0]
