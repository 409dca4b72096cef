"""The gold score of the embedded task: parse a review; praise minus blame, per part, in -1..1.

The grammar is known, so every sentence of it has a known mood and any other text is detected. Unlike a lexicon it
rewards no word by itself. Reasons for each rule: docs/overoptimisation.md; attacks on them:
tests/unit/tasks/truths/test_reviews.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pipeline.tasks.grammars import reviews as grammar

TRUTH_NAME = "truth by parsing (-1..1)"


def _by_side(good: Iterable[str], bad: Iterable[str], plain: Iterable[str]) -> dict[str, int]:
    return dict.fromkeys(good, 1) | dict.fromkeys(bad, -1) | dict.fromkeys(plain, 0)


def _one_of(choices: Iterable[str]) -> str:
    return "|".join(map(re.escape, choices))


_WORDS = _by_side(grammar.GOOD_WORDS, grammar.BAD_WORDS, grammar.PLAIN_WORDS)
_SENTENCES = _by_side(
    grammar.GOOD_SENTENCES + grammar.GOOD_CLOSINGS,
    grammar.BAD_SENTENCES + grammar.BAD_CLOSINGS,
    grammar.PLAIN_SENTENCES + grammar.PLAIN_CLOSINGS,
)
_OPENINGS = dict.fromkeys(grammar.FILM_OPENINGS, grammar.FILM_PARTS) | {
    opening.format(thing=thing): grammar.PRODUCT_PARTS
    for opening in grammar.PRODUCT_OPENINGS
    for thing in grammar.THINGS
}
_PARTS = grammar.FILM_PARTS + grammar.PRODUCT_PARTS
_CLAUSE = rf"({_one_of(_PARTS)}) (?:{_one_of(grammar.VERBS)}) (?:{_one_of(grammar.DEGREES)})({_one_of(_WORDS)})"
_OPINION = re.compile(rf"{_CLAUSE}(?:({_one_of(grammar.LINKS_SAME + grammar.LINKS_TURN)}) (?i:{_CLAUSE}))?\.")
_END = re.compile(r"(?<=\.)\s+")


def truth(prompt: str, completion: str) -> float:
    """Praise minus blame in ``completion`` after ``prompt``, over the number of parts, in [-1, 1].

    A part is an opinion on one thing, a whole sentence, or a text outside the grammar. Complete sentences of the
    prompt are not judged; its incomplete one is judged together with its continuation.

    - Praise is 1, blame -1, a neutral remark 0.
    - Text outside the grammar is -1: a broken or truncated sentence, an opening in the middle, an opinion on a
      thing that this kind of review does not have, "but" between two praises.
    - So is repetition: the same sentence, praise or blame of the same thing.
    - Contradicted praise is -1: of a thing that the text also blames, of the whole where it blames the whole.
    - Praise of a part is 0 where the whole is blamed: a text with a negative verdict is never above 0.
    - An empty text is -1.
    """
    *before, broken_off = _END.split(f"{prompt.strip()} ") if prompt.strip() else [""]
    review = _Reading(seen=set(before), parts=next((_OPENINGS[s] for s in before if s in _OPENINGS), None))
    for sentence in _END.split((broken_off.rstrip() + completion).strip()):
        review.take(sentence)
    return review.score()


def truths(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
    """:func:`truth` of each completion after its prompt."""
    return [truth(prompt, completion) for prompt, completion in zip(prompts, completions, strict=True)]


@dataclass
class _Reading:
    """The parse of one text so far.

    Attributes:
        seen: complete sentences so far, the prompt's included.
        parts: the things that this kind of review has; None until the kind is known.
        opinions: the sides taken on each thing, in order: 1, -1 or 0.
        whole: the side of each sentence on the whole.
        faults: number of parts outside the grammar, or repeated.
    """

    seen: set[str]
    parts: Sequence[str] | None
    opinions: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    whole: list[int] = field(default_factory=list[int])
    faults: int = 0

    def take(self, sentence: str) -> None:
        """Read one sentence."""
        opinion = _OPINION.fullmatch(sentence)
        if sentence in self.seen or not (opinion or sentence in _SENTENCES):
            self.faults += 1
        elif opinion:
            self._take_opinion(*opinion.groups())
        else:
            self.whole.append(_SENTENCES[sentence])
        self.seen.add(sentence)

    def _take_opinion(self, part: str, word: str, link: str | None, part2: str | None, word2: str | None) -> None:
        self._take_clause(part, _WORDS[word])
        if link is None or part2 is None or word2 is None:
            return
        sides = _WORDS[word] * _WORDS[word2]
        if sides and (sides < 0) != (link in grammar.LINKS_TURN):
            self.faults += 1
        else:
            self._take_clause(f"T{part2[1:]}", _WORDS[word2])

    def _take_clause(self, part: str, side: int) -> None:
        if self.parts is None:
            self.parts = grammar.FILM_PARTS if part in grammar.FILM_PARTS else grammar.PRODUCT_PARTS
        if part in self.parts:
            self.opinions.setdefault(part, []).append(side)
        else:
            self.faults += 1

    def score(self) -> float:
        """The mean over all parts, see :func:`truth`."""
        blamed = -1 in self.whole
        values = [-1] * self.faults + [-1 if blamed and side > 0 else side for side in self.whole]
        for sides in self.opinions.values():
            values += [0] * sides.count(0)
            taken = [side for side in sides if side]
            if taken and set(taken) == {1}:
                values.append(0 if blamed else 1)
                values += [-1] * (len(taken) - 1)
            else:
                values += [-1] * len(taken)
        return sum(values) / len(values)
