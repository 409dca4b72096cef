"""Lists and objects that a table holds as text: JSON, or as Python writes them (pandas' CSV)."""

from __future__ import annotations

import ast
import functools
import json
import re
from typing import Any, cast

from pipeline.formats.judged import Refused

# Of more than this neither a conversation nor a rating is made; it bounds what is parsed of one cell.
MOST_CHARACTERS = 1_000_000

_LITERAL = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
_PYTHON = re.compile(r"\[\s*(\{\s*'|'|\"|array\()|\{\s*'\w+'\s*:|array\(\[")
_MESSAGE = (("role", "content"), ("from", "value"))


def parsed(value: object, name: str) -> list[Any] | dict[str, Any] | None:
    """The list or object in a cell, also where it is written as text; None for any other text, number or nothing.

    Raises:
        Refused: it is a list as Python or numpy writes one, or begins as a conversation, and cannot be read back.
    """
    if isinstance(value, (list, dict)):
        return cast("list[Any] | dict[str, Any]", value)
    if not isinstance(value, str):
        return None
    written = value.strip()
    if not written or written[0] not in "[{a" or written[-1] not in "]})":
        if written.startswith(('[{"role"', '[{"from"', "[{'")):
            raise Refused(f"{name} is a list as text that ends too early")
        return None
    contents = _parse(written)
    if isinstance(contents, str):
        raise Refused(f"{name} is {contents}")
    return contents


def listed(value: object, name: str) -> list[Any] | None:
    """:func:`parsed`, of lists alone."""
    contents = parsed(value, name)
    return contents if isinstance(contents, list) else None


def is_message(value: object) -> bool:
    """Whether this is one message, with role and content, or from and value as in ShareGPT."""
    return isinstance(value, dict) and any(all(key in value for key in keys) for keys in _MESSAGE)


def holds_texts(value: object) -> bool:
    """Whether this is a list of texts and nothing else."""
    several = cast("list[Any]", value) if isinstance(value, list) else []
    return bool(several) and all(isinstance(v, str) for v in several)


def no_list(value: object, name: str) -> None:
    """Check that a text is not a list of texts or messages that was written as text.

    Raises:
        Refused: it is one. A list of numbers or other objects passes: it may be the answer itself.
    """
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{", "a"):
        return
    contents = parsed(value, name)
    if holds_texts(contents):
        raise Refused(f"{name} is a list of texts written as text")
    if is_message(contents) or (isinstance(contents, list) and any(is_message(v) for v in contents)):
        raise Refused(f"{name} is a conversation written as text")


@functools.lru_cache(maxsize=8)  # the same cell is asked for what it is, and then read
def _parse(said: str) -> list[Any] | dict[str, Any] | str | None:
    """The list or object in a text; None for any other text; a text that says why it cannot be read."""
    python = _PYTHON.match(said) is not None
    if len(said) > MOST_CHARACTERS:
        return f"a list as text of more than {MOST_CHARACTERS:,} characters" if python else None
    try:
        contents: Any = json.loads(said)
    except (json.JSONDecodeError, RecursionError):
        contents = _literal(said) if python else None
        if contents is None and python and not said.startswith("{"):
            return "a list as Python or numpy writes it, which cannot be read back: export JSON lines or Parquet"
    return cast("list[Any] | dict[str, Any]", contents) if isinstance(contents, (list, dict)) else None


def _literal(said: str) -> Any:
    """The value of a Python literal, or None.

    ``str`` of a numpy array has no commas, ``['a' 'b']``, which Python would read as the one text ``ab``. So there
    must be as many texts as quoted pieces.
    """
    try:
        tree = ast.parse(said, mode="eval")
        value = ast.literal_eval(tree)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
    texts = sum(isinstance(node, ast.Constant) and isinstance(node.value, str) for node in ast.walk(tree))
    return value if texts == len(_LITERAL.findall(said)) else None
