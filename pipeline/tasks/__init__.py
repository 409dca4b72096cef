"""Tasks: where prompts come from, what counts as good, how long a completion may be. One file per task.

A task is a module with a dataclass ``Task`` whose fields are its options (``task_args`` in the YAML). It is
found by its module name here, or by a dotted path for a task of your own (``task: my_package.my_task``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

from pipeline.tasks._vader import vader_view
from pipeline.workflow.plugins import task_class
from pipeline.workflow.typed_keys import parse_options

Split = Literal["train", "test"]

VIEWS = {"vader": vader_view}
"""Imperfect ways to look at a completion, by name, each in the form of a gold score: what an annotator may see."""


@runtime_checkable
class Task(Protocol):
    """What the stages ask of a task. Everything is text; tokens belong to the model."""

    completion_tokens: int
    """Most tokens in a completion; one that has not ended by then is cut."""

    gold_name: str | None
    """What the gold score is called in tables and pictures, with its scale; None when there is none."""

    def corpus(self, seed: int) -> Sequence[str] | None:
        """Texts to train a base model on, or None."""
        ...

    def prompts(self, split: Split, n: int | None, seed: int) -> list[str]:
        """``n`` prompts of one split (all of them for None), the same for the same seed.

        A prompt may come several times when the task has fewer than ``n``; no prompt is in both splits, unless it
        is the only one there is.

        Raises:
            DataError: the split is empty.
        """
        ...

    def gold_scores(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float] | None:
        """How good each completion is, never trained on; None when the task has no way to know.

        The truth where there is one. Where it is an opinion, ``gold_name`` says whose: labels by the same opinion
        share its errors, and no figure here would show them.
        """
        ...


def load_task(name: str, args: Mapping[str, Any], where: str) -> Task:
    """The task called ``name`` with its options.

    Raises:
        ConfigError: no such task, or options it does not know.
    """
    return parse_options(task_class(name, where), args, where, prefix="task_args.")
