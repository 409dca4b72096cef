"""Annotators choose the better of two completions. One file per annotator.

An annotator is a module with a dataclass ``Options`` (``annotator_args`` in the YAML) and a function
``build(options, context)``. It is named by its module here, or by a dotted path to your own. People (``human``)
are in :mod:`pipeline.labelling`: they answer asynchronously, several of them the same item.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from pipeline.base.json_values import JsonObject
from pipeline.base.plugins import annotator_module
from pipeline.base.records import Abstention, Annotation, Comparison
from pipeline.workflow.key_checks.unknown_and_mistyped import parse_options

GoldScores = Callable[[Sequence[str], Sequence[str]], list[float] | None]
Written = Callable[[int], Sequence[str] | None]


def nothing_written(seed: int) -> None:
    """No texts of people."""


@dataclass(frozen=True)
class Context:
    """The collect stage's input to an annotator, which therefore imports no task.

    Attributes:
        gold_scores: the task's gold score.
        views: imperfect scores by name, for an annotator that does not see the gold score.
        written: the task's whole texts of people for a seed, None where it has none.
        readers: how much each of the task's simulated readers likes texts, by the name that they vote under.
    """

    gold_scores: GoldScores
    seed: int
    where: str
    views: Mapping[str, GoldScores] = field(default_factory=dict[str, GoldScores])
    written: Written = nothing_written
    readers: Mapping[str, GoldScores] = field(default_factory=dict[str, GoldScores])


@runtime_checkable
class Annotator(Protocol):
    """Judges comparisons that the pipeline sampled.

    With an optional attribute ``votes_singly`` that is true it likes or dislikes each completion by itself, the
    same one always alike, and its choices are :data:`pipeline.base.records.LIKED`.
    """

    name: str
    """The annotator's name in every row: ``oracle``, ``classifier:<model>`` ..."""

    def annotate(self, comparison: Comparison) -> Annotation | Abstention:
        """Judge one comparison. The same comparison gets the same answer for the same seed."""
        ...

    def annotate_all(self, comparisons: Sequence[Comparison]) -> Iterator[Annotation | Abstention]:
        """Judge many, in order; may batch."""
        ...


@dataclass(frozen=True)
class Opinion:
    """Whether somebody likes the completion of this number."""

    number: int
    annotator: str
    liked: bool


@runtime_checkable
class Readers(Protocol):
    """Several annotators who like or dislike single completions that the pipeline sampled."""

    name: str
    """Of all of them together; each votes under a name of their own."""

    def opinions(self, texts: Sequence[tuple[str, str]]) -> Sequence[Opinion]:
        """Opinions on (prompt, completion), in the order of their numbers; the same for the same seed."""
        ...


@runtime_checkable
class Opponent(Protocol):
    """An annotator that brings one side of each comparison: samples are compared with its texts, not in twos."""

    def opponents(self, prompts: Sequence[str]) -> list[list[str]]:
        """For each prompt the completions that its samples are compared with, in turn; with none it is left out.

        Raises:
            DataError: there are none for any prompt.
        """
        ...


@runtime_checkable
class Source(Protocol):
    """An annotator with its own, already judged comparisons: nothing is sampled.

    Optional attributes ``aggregate`` and ``margin``, as in the section ``label``, aggregate several judgements of
    one comparison. ``consent`` says what is known of that of the people who judged.
    """

    name: str
    """The annotator of judgements that name nobody."""

    def judged(self) -> Iterator[tuple[Comparison, Annotation]]:
        """Every judgement, ties included; several of one comparison are votes on it."""
        ...

    def report(self) -> JsonObject:
        """Counts of what was read and dropped, by reason, for the manifest. Complete after :meth:`judged`."""
        ...


def load_annotator(name: str, args: Mapping[str, Any], context: Context) -> Annotator | Readers | Source:
    """The annotator called ``name``.

    Raises:
        ConfigError: no such annotator, or options it does not know.
    """
    module = annotator_module(name, context.where)
    options = parse_options(module.Options, args, context.where, prefix="collect.annotator_args.")
    return module.build(options, context)
