"""A simulated annotator: a known score with Bradley-Terry noise, length bias and flips. Reproducible.

It does not simulate fatigue, position bias or disagreement.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from pipeline.annotators import Annotator, Context, GoldScores
from pipeline.base.errors import ConfigError
from pipeline.base.records import LIKED, Abstention, Annotation, Choice, Comparison, bucket, digest
from pipeline.texts.words import units

_AT_A_TIME = 512


@dataclass(frozen=True)
class Options:
    """The oracle's errors.

    Args:
        view: the score: ``gold``, the task's gold score, or ``vader``, a lexicon's sentiment of the completion,
            with errors of its own (VADER). The gold score can then show where labels and
            truth differ.
        temperature: P(a is chosen) = sigmoid((score_a - score_b) / temperature), Bradley and Terry 1952;
            0 always chooses the better one.
        length_bias: score added per word (or character, in scripts without blanks):
            P(a is chosen) is then sigmoid((score_a - score_b + length_bias * (words_a - words_b)) / temperature).
            The recorded scores do not include it. People have this bias (Singhal et al. 2023, arXiv:2310.03716),
            and PPO exploits it.
        flip: share of choices inverted afterwards, whatever the difference.
        tie_margin: a tie when the scores differ by this much or less; None never ties (equal scores are then
            decided at random).
        margin: record ``|score_a - score_b|`` as the margin. Off, since it reveals the score to the reward model.
        like_above: press like or dislike on each completion by itself instead (was this helpful?):
            P(like) = sigmoid((score - like_above) / temperature), and ``flip`` inverts that. The same completion
            gets the same vote beside any other. Of two, one liked is chosen over one disliked; two likes are a
            tie, two dislikes both bad.
    """

    view: str = "gold"
    temperature: float = 0.25
    flip: float = 0.1
    length_bias: float = 0.0
    tie_margin: float | None = None
    margin: bool = False
    like_above: float | None = None

    def __post_init__(self) -> None:
        if self.like_above is not None and (self.length_bias or self.tie_margin is not None or self.margin):
            raise ValueError(
                "like_above judges completions one by one: length_bias, tie_margin and margin compare two"
            )


def build(options: Options, context: Context) -> Annotator:
    """The oracle of the context's task. Raises ConfigError: no such view, or the task has no gold score."""
    views = {"gold": context.gold_scores, **context.views}
    scores = views.get(options.view)
    if scores is None:
        what = f'collect.annotator_args.view "{options.view}" is not known.'
        raise ConfigError(context.where, what, f"Choose one of: {', '.join(views)}.")
    if scores([], []) is None:
        raise _no_gold(context)
    return Oracle(options, context, scores)


class Oracle:
    """See :class:`Options`. The random draws depend on the seed and the comparison's id alone."""

    name = "oracle"

    def __init__(self, options: Options, context: Context, scores: GoldScores) -> None:
        self._options, self._context, self._scores = options, context, scores
        self.votes_singly = options.like_above is not None

    def annotate(self, comparison: Comparison) -> Annotation | Abstention:
        return next(self.annotate_all([comparison]))

    def annotate_all(self, comparisons: Sequence[Comparison]) -> Iterator[Annotation | Abstention]:
        for start in range(0, len(comparisons), _AT_A_TIME):
            batch = comparisons[start : start + _AT_A_TIME]
            completions = [text for c in batch for text in (c.completion_a, c.completion_b)]
            scores = self._scores([c.prompt for c in batch for _ in "ab"], completions)
            if scores is None:
                raise _no_gold(self._context)
            for comparison, a, b in zip(batch, scores[::2], scores[1::2], strict=True):
                yield self._judge(comparison, a, b)

    def _judge(self, comparison: Comparison, a: float, b: float) -> Annotation | Abstention:
        if not (math.isfinite(a) and math.isfinite(b)):
            return Abstention(comparison.id, self.name, f"{self._options.view} score is not a number")
        if self._options.like_above is not None:
            likes_a = self._likes(comparison.prompt, comparison.completion_a, a)
            likes_b = self._likes(comparison.prompt, comparison.completion_b, b)
            return Annotation(comparison.id, self.name, LIKED[likes_a, likes_b], a, b)
        margin = abs(a - b) if self._options.margin else None
        longer = len(units(comparison.completion_a)) - len(units(comparison.completion_b))
        choice = self._choice(comparison.id, a - b + self._options.length_bias * longer)
        return Annotation(comparison.id, self.name, choice, a, b, margin)

    def _choice(self, comparison_id: str, difference: float) -> Choice:
        tie_margin = self._options.tie_margin
        if tie_margin is not None and abs(difference) <= tie_margin:
            return "tie"
        return "a" if self._drawn(comparison_id, difference) else "b"

    def _likes(self, prompt: str, completion: str, score: float) -> bool:
        return self._drawn(digest([prompt, completion]), score - cast("float", self._options.like_above))

    def _drawn(self, id: str, difference: float) -> bool:
        """Whether what is better by ``difference`` is chosen: by its sigmoid, and flipped now and then."""
        temperature = self._options.temperature
        if difference == 0:
            probability = 0.5
        elif temperature == 0:
            probability = float(difference > 0)
        else:
            probability = 0.5 + 0.5 * math.tanh(difference / temperature / 2)  # the sigmoid, without its overflow
        return (self._draw("choice", id) < probability) != (self._draw("flip", id) < self._options.flip)

    def _draw(self, purpose: str, comparison_id: str) -> float:
        return bucket(comparison_id, salt=f"oracle:{purpose}:{self._context.seed}")


def _no_gold(context: Context) -> ConfigError:
    return ConfigError(
        context.where,
        'annotator "oracle" judges by the gold score, and this task has none.',
        "Let it judge by a view of its own (annotator_args: {view: vader}), or choose another annotator: human, "
        "classifier, replay.",
    )
