"""Redact a person from the text of a manifest, a card or a report.

The result depends on the text and the words only, so a repeat after a crash gives the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any, cast

MARK = "(erased)"


def redacted_value(value: object, words: Collection[str]) -> Any:
    """A JSON value without the entries about a person.

    Removes entries whose key contains a word, and list elements that are a word or an object with one among its
    values (a row of figures by person). In any other text only the words are replaced.
    """
    if isinstance(value, Mapping):
        entries = cast("Mapping[str, Any]", value)
        return {k: redacted_value(v, words) for k, v in entries.items() if not _holds(k, words)}
    if isinstance(value, list):
        return [redacted_value(v, words) for v in cast("list[Any]", value) if not _is_about(v, words)]
    return _marked(value, words) if isinstance(value, str) else value


def redacted_text(text: str, suffix: str, words: Collection[str]) -> str:
    """The text of a file without the parts about a person.

    Args:
        suffix: of the file's name. Removes JSON entries, lines of JSON lines and Markdown, HTML table rows; in any
            other text only the words are replaced.
    """
    if not _holds(text, words):
        return text
    if suffix == ".json":
        try:
            return json.dumps(redacted_value(json.loads(text), words), ensure_ascii=False, indent=2) + "\n"
        except ValueError:
            pass
    elif suffix in (".jsonl", ".md"):
        return "".join(line for line in text.splitlines(keepends=True) if not _holds(line, words))
    elif suffix in (".html", ".htm"):
        rows = r"<tr\b(?:(?!</tr>).)*</tr>\s*"
        text = re.sub(rows, lambda m: "" if _holds(m[0], words) else m[0], text, flags=re.DOTALL | re.IGNORECASE)
    return _marked(text, words)


def _is_about(value: object, words: Collection[str]) -> bool:
    if isinstance(value, Mapping):
        return any(isinstance(v, str) and v in words for v in cast("Mapping[str, Any]", value).values())
    if isinstance(value, list):  # a row as a list of its cells
        return any(isinstance(v, str) and v in words for v in cast("list[Any]", value))
    return isinstance(value, str) and value in words


def _holds(text: str, words: Collection[str]) -> bool:
    return any(word in text for word in words)


def _marked(text: str, words: Collection[str]) -> str:
    for word in words:
        text = text.replace(word, MARK)
    return text
