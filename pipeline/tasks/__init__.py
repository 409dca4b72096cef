"""Tasks define the prompts, the gold score and the length of completions. One file per task.

A task is a module with a dataclass ``Task`` whose fields are its options (``task_args`` in the YAML). It is named
by its module here, or by a dotted path to your own (``task: my_package.my_task``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

from pipeline.base.plugins import task_class
from pipeline.formats.messages import Message
from pipeline.tasks._vader import vader_view
from pipeline.workflow.key_checks.unknown_and_mistyped import parse_options

Split = Literal["train", "test"]

VIEWS = {"vader": vader_view}
"""Imperfect scores by name, with the signature of a gold score, for annotators."""


@runtime_checkable
class Task(Protocol):
    """The interface of a task. All arguments are texts; only the model has tokens.

    A task whose texts stand for something that is seen or heard also has ``renderer``, the name of a module of
    pipeline/labelling/web/static/renderers and of :data:`pipeline.reporting.renderers.RENDERERS`.
    """

    completion_tokens: int
    """Most tokens in a completion; longer ones are truncated."""

    gold_name: str | None
    """The gold score's name and scale in tables and figures; None without a gold score."""

    def corpus(self, seed: int) -> Sequence[str] | Sequence[Sequence[Message]] | None:
        """Texts or conversations to train a base model on, or None.

        A conversation ends with the assistant's reply. It is written by the base's chat template, and a base from
        scratch gets one (ChatML), so that prompts by ``chat_template: base`` are written alike.
        """
        ...

    def prompts(self, split: Split, n: int | None, seed: int) -> Sequence[str]:
        """``n`` prompts of one split (all of them for None), the same for the same seed.

        Prompts repeat when the task has fewer than ``n``; no prompt is in both splits, unless it is the only one.

        Raises:
            DataError: the split is empty.
        """
        ...

    def gold_scores(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float] | None:
        """The quality of each completion, never trained on; None where the task cannot measure it.

        It should be the truth. ``gold_name`` names the source of a score that is not: labels by the same source
        share its errors, which no figure then shows.
        """
        ...


@runtime_checkable
class Simulated(Protocol):
    """The further methods of a task whose completions are carried out."""

    def rewards(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        """The scores that PPO learns from with ``ppo.reward: task``."""
        ...

    def events(self, prompts: Sequence[str], completions: Sequence[str]) -> Mapping[str, list[bool]]:
        """What happened in carrying out each completion, such as a crash, by its name."""
        ...

    def references(self, prompts: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Completions of the prompts by what learns nothing, by its name, to compare a policy with."""
        ...


@runtime_checkable
class HasWritten(Protocol):
    """A task whose texts of people are more than its corpus."""

    def written(self, seed: int) -> Sequence[str] | None:
        """Whole texts of people, each a prompt of either split and its completion; None without such texts.

        The corpus, in tasks that do not say. It is not that where a base trained on the corpus should not have
        seen what is held out.
        """
        ...


def written_texts(task: Task, seed: int) -> Sequence[str] | None:
    """The task's texts of people: what it says is ``written``, else its corpus, unless that is conversations."""
    if isinstance(task, HasWritten):
        return task.written(seed)
    texts = [text for text in task.corpus(seed) or () if isinstance(text, str)]
    return texts or None


def with_template_of(base: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a task or annotator, where ``chat_template: base`` is the tokenizer of the base model."""
    return {**args, "chat_template": base} if args.get("chat_template") == "base" else dict(args)


def load_task(name: str, args: Mapping[str, Any], where: str, base: str | None = None) -> Task:
    """The task called ``name`` with its options.

    Args:
        base: the base model (directory or Hub id), whose template is meant by ``chat_template: base``; where the
            task is asked for prompts or texts.
    Raises:
        ConfigError: no such task, or options it does not know.
    """
    args = args if base is None else with_template_of(base, args)
    task = parse_options(task_class(name, where), args, where, prefix="task_args.")
    if base is not None and getattr(task, "chat_template", None) == "base":
        task.chat_template = base  # by default
    return task
