"""Answers of people to one record of a labelling tool, in one shape for all tools."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from pipeline.formats.choices import apart, plain_word, tokens


@dataclass(frozen=True)
class Scored:
    """Completions with their scores, higher better: ratings, or a ranking of items."""

    items: tuple[tuple[Any, float], ...]


@dataclass(frozen=True)
class Told:
    """A choice between two fields of which it is known which stood on the left, or that this is not known."""

    value: Any
    sides: tuple[str, ...] = ()
    backwards: bool = False


@dataclass(frozen=True)
class Unread:
    """An answer that is not read, with the reason."""

    reason: str


@dataclass(frozen=True)
class Several:
    """Labels that were ticked together, so that none is the better one."""

    labels: tuple[Any, ...]


@dataclass(frozen=True)
class Submission:
    """One person's answers to one record, by question. ``left_out`` is why they are none, such as ``skipped``."""

    who: Any
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])
    left_out: str | None = None


@dataclass(frozen=True)
class Record:
    """The fields that were shown, by name, and every submission in its order.

    ``unnamed``: a question that somebody left is not told from one whose answer is a word nobody knows.
    """

    fields: Mapping[str, Any]
    submissions: tuple[Submission, ...]
    unnamed: bool = False


def dicts_of(value: Any) -> list[dict[str, Any]]:
    """The dicts in a list; a dict alone is one."""
    listed = cast("list[Any]", value) if isinstance(value, list) else [value]
    return [cast("dict[str, Any]", v) for v in listed if isinstance(v, dict)]


def list_in(value: object) -> list[Any] | None:
    """A list, or the list that a cell of a table holds as JSON or as Python writes it; None for anything else."""
    if isinstance(value, str) and value.strip().startswith("[") and value.strip().endswith("]"):
        for read in (json.loads, ast.literal_eval):
            try:
                value = read(value)
                break
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
    return cast("list[Any]", value) if isinstance(value, list) else None


def about(question: str, fields: Mapping[str, Any]) -> str | None:
    """The text among ``fields`` whose rating a question is by its name: ``response_1 quality``, ``rating-1``."""
    texts = [name for name, value in fields.items() if isinstance(value, str)]
    inside = [name for name in texts if plain_word(name) and plain_word(name) in plain_word(question)]
    if not inside:
        inside = [name for name in texts if _mark(name, texts) in tokens(question)]
    return inside[0] if len(inside) == 1 else None


def _mark(name: str, texts: list[str]) -> str | None:
    """The mark that distinguishes a field from others of its kind: 1, b."""
    marks = {pair[0] for other in texts if other != name and (pair := apart(name, other))}
    return marks.pop() if len(marks) == 1 else None
