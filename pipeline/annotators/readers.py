"""Simulated readers: each likes or dislikes single completions by a taste of their own, with noise. Reproducible.

The tastes are the task's (``readers``, a score for each by the name they vote under); nothing learns from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.annotators import Context, GoldScores, Opinion, Readers
from pipeline.base.errors import ConfigError
from pipeline.base.records import bucket, digest


@dataclass(frozen=True)
class Options:
    """How readers answer.

    Args:
        each: readers who see each completion, the same ones whenever it is shown.
        threshold: the score that is liked as often as not.
        temperature: P(like) = sigmoid((score - threshold) / temperature); 0 likes all above.
        flip: share of answers inverted afterwards, whatever the score: a slip of the finger.
    """

    each: int = 1
    threshold: float = 0.0
    temperature: float = 0.25
    flip: float = 0.05


def build(options: Options, context: Context) -> Readers:
    """The readers of the context's task. Raises ConfigError: it has none, or fewer than ``each``."""
    if not context.readers:
        mend = "Choose a task with readers, such as news; people read on the page: collect.annotator: human."
        raise ConfigError(context.where, 'annotator "readers": the task has no simulated readers.', mend)
    if not 1 <= options.each <= len(context.readers):
        what = f"collect.annotator_args.each = {options.each} should be 1 to {len(context.readers)}, the readers."
        raise ConfigError(context.where, what)
    return SimulatedReaders(options, context.readers, context.seed)


class SimulatedReaders:
    """See :class:`Options`. The draws depend on the seed, the text and the reader alone."""

    name = "readers"

    def __init__(self, options: Options, tastes: Mapping[str, GoldScores], seed: int) -> None:
        self._options, self._tastes, self._seed = options, tastes, seed

    def opinions(self, texts: Sequence[tuple[str, str]]) -> list[Opinion]:
        """Who sees each of (prompt, completion), and whether they like it."""
        seen: dict[str, list[int]] = {name: [] for name in self._tastes}
        for number, text in enumerate(texts):
            for name in sorted(self._tastes, key=lambda name: self._draw("sees", text, name))[
                : self._options.each
            ]:
                seen[name].append(number)
        opinions: list[Opinion] = []
        for name, numbers in seen.items():
            shown = [texts[number] for number in numbers]
            scores = self._tastes[name]([prompt for prompt, _ in shown], [completion for _, completion in shown])
            for number, score in zip(numbers, scores or (), strict=True):
                opinions.append(Opinion(number, name, self._likes(texts[number], name, score)))
        return sorted(opinions, key=lambda opinion: opinion.number)

    def _likes(self, text: tuple[str, str], name: str, score: float) -> bool:
        above, temperature = score - self._options.threshold, self._options.temperature
        p = float(above > 0) if temperature == 0 else 0.5 + 0.5 * math.tanh(above / temperature / 2)
        return (self._draw("likes", text, name) < p) != (self._draw("slips", text, name) < self._options.flip)

    def _draw(self, purpose: str, text: tuple[str, str], name: str) -> float:
        return bucket(digest([*text, name]), salt=f"readers:{purpose}:{self._seed}")
