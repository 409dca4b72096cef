"""Annotators: who says which of two completions is better. One file per source.

An annotator is a module with a dataclass ``Options`` (``annotator_args`` in the YAML) and a function
``build(options, context)``. It is found by its module name here, or by a dotted path for one of your own. People
(``human``) are no such module: they answer when they have time, and several of them the same item.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from pipeline.base.records import Abstention, Annotation, Comparison
from pipeline.workflow.plugins import annotator_module
from pipeline.workflow.typed_keys import parse_options

GoldScores = Callable[[Sequence[str], Sequence[str]], list[float] | None]


@dataclass(frozen=True)
class Context:
    """What the collect stage passes in: an annotator imports no task.

    Attributes:
        gold_scores: the task's gold score.
        views: other ways to look at a completion, by name, for an annotator who does not see the truth.
    """

    gold_scores: GoldScores
    seed: int
    where: str
    views: Mapping[str, GoldScores] = field(default_factory=dict[str, GoldScores])


@runtime_checkable
class Annotator(Protocol):
    """Judges comparisons that the pipeline sampled."""

    name: str
    """Who judged, as it stands in every row: ``oracle``, ``classifier:<model>`` ..."""

    def annotate(self, comparison: Comparison) -> Annotation | Abstention:
        """Judge one comparison. The same comparison gets the same answer for the same seed."""
        ...

    def annotate_all(self, comparisons: Sequence[Comparison]) -> Iterator[Annotation | Abstention]:
        """Judge many, in order; a place to batch."""
        ...


@runtime_checkable
class Source(Protocol):
    """An annotator that brings its own, already judged comparisons: nothing is sampled.

    Its attributes ``aggregate`` and ``margin``, where it has them, are as in the section ``label``: how several
    judgements of one comparison become one.
    """

    name: str
    """Stands in the judgements of nobody in particular."""

    def judged(self) -> Iterator[tuple[Comparison, Annotation]]:
        """Every judgement, ties included; several of one comparison are votes on it."""
        ...

    def report(self) -> dict[str, Any]:
        """Counts of what was read and dropped, by reason, for the manifest. Complete after :meth:`judged`."""
        ...


def load_annotator(name: str, args: Mapping[str, Any], context: Context) -> Annotator | Source:
    """The annotator called ``name``.

    Raises:
        ConfigError: no such annotator, or options it does not know.
    """
    module = annotator_module(name, context.where)
    options = parse_options(module.Options, args, context.where, prefix="collect.annotator_args.")
    return module.build(options, context)
