"""Read a file of swaps: prompts, and completions, with alternatives in brackets, one for each group.

A row has the columns ``attribute`` (what is swapped: gender), ``groups`` (``women|men``), ``prompt`` and, for the
reward model, ``completion``. ``[she|he]`` in a text stands for one alternative per group, in the order of
``groups``; a bracket without a bar is text. Rows that are equal but for the alternatives are one template.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base.errors import DataError
from pipeline.modeling.tokens import decode_all
from pipeline.modeling.types import Tokenizer
from pipeline.sources.row_files import read_file

OWN = Path(__file__).with_name("swaps.tsv")
"""The swaps that come with this package: gender, origin of names, religion, orientation, age."""

_ALTERNATIVES = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")
_RUNS_OF_LETTERS = re.compile(r"[^\W\d_]+")
_COLUMNS = ("attribute", "groups", "prompt")


@dataclass(frozen=True)
class Line:
    """One row, a text for each group.

    Attributes:
        completions: None where the row has none.
        template: the row without its alternatives.
        words: the alternatives of each group.
    """

    attribute: str
    groups: Sequence[str]
    prompts: Sequence[str]
    completions: Sequence[str] | None
    template: tuple[str, str]
    words: Sequence[Sequence[str]]


def read_swaps(path: Path) -> list[Line]:
    """The rows of a TSV, CSV, JSONL or any other file that rows are read from.

    Raises:
        DataError: a row lacks a column, has another number of alternatives than of groups, or swaps nothing; the
            rows of an attribute name other groups; there is no row.
    """
    if not path.is_file():
        raise DataError(str(path), "is no file.")
    lines = [_line(place, row) for place, row in read_file(path)]
    if not lines:
        raise DataError(str(path), "holds no row.", f"Columns: {', '.join(_COLUMNS)} and completion.")
    groups: dict[str, Sequence[str]] = {}
    for line in lines:
        if groups.setdefault(line.attribute, line.groups) != line.groups:
            what = f"{line.attribute} is swapped between {'|'.join(groups[line.attribute])}, then between"
            raise DataError(str(path), f"{what} {'|'.join(line.groups)}.", "Give the second another attribute.")
    return lines


def unread_words(tokenizer: Tokenizer, words: Sequence[str]) -> list[str]:
    """Of ``words``, those that are no words to the tokenizer: unknown, or in pieces of two characters or less.

    Its model has hardly seen such a word, so a score of a text with it says little of the group it stands for.
    """
    unread: list[str] = []
    for word in dict.fromkeys(words):
        # As after a space, where most words of a text are; a phrase by its worst word. Numbers are read by digits.
        for part in _RUNS_OF_LETTERS.findall(word):
            ids = tokenizer([f" {part}"], add_special_tokens=False)["input_ids"][0]
            letters = _letters(part)
            # What is unknown decodes to something else; some tokenizers hide which token that is.
            unknown = letters not in _letters(decode_all(tokenizer, ids))
            if unknown or (len(ids) > 1 and 2 * len(ids) > len(letters)):
                unread.append(word)
                break
    return unread


def _letters(text: str) -> str:
    """Letters and digits, without case and accents, which some tokenizers drop."""
    return "".join(c for c in unicodedata.normalize("NFKD", text).casefold() if c.isalnum())


def _line(place: str, row: dict[str, Any]) -> Line:
    cells = {name: row.get(name) for name in (*_COLUMNS, "completion")}
    missing = [name for name in _COLUMNS if not isinstance(cells[name], str | list) or not cells[name]]
    if missing:
        raise DataError(place, f"has no {missing[0]}.", f"Columns: {', '.join(_COLUMNS)} and completion.")
    named = cells["groups"]
    groups = [str(g).strip() for g in (named if isinstance(named, list) else str(named).split("|"))]
    if len(groups) < 2 or len(set(groups)) != len(groups) or not all(groups):
        raise DataError(place, f'groups "{named}" are not two or more.', "Write them as women|men.")
    prompt, completion = str(cells["prompt"]), cells["completion"]
    words: list[list[str]] = [[] for _ in groups]
    prompts = list(_swapped(place, prompt, groups, words))
    completions = list(_swapped(place, completion, groups, words)) if isinstance(completion, str) else None
    if not any(words):
        raise DataError(place, "swaps nothing.", "Write the alternatives as [she|he].")
    template = (_ALTERNATIVES.sub("[]", prompt), _ALTERNATIVES.sub("[]", str(completion or "")))
    return Line(str(cells["attribute"]), groups, prompts, completions if completion else None, template, words)


def _swapped(place: str, text: str, groups: Sequence[str], words: list[list[str]]) -> Iterator[str]:
    """The text for each group; adds the alternatives to each group's ``words``."""
    for found in _ALTERNATIVES.finditer(text):
        alternatives = found[1].split("|")
        if len(alternatives) != len(groups):
            what = (
                f"{found[0]} has {len(alternatives)} alternatives for the {len(groups)} groups {'|'.join(groups)}."
            )
            raise DataError(place, what)
        for own, word in zip(words, alternatives, strict=True):
            own.append(word)
    for i in range(len(groups)):
        yield _ALTERNATIVES.sub(lambda match, i=i: match[1].split("|")[i], text)
