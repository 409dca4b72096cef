"""Put placeholders in the place of personal data: ``<EMAIL_1>``, the same one for the same data within a row."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from pipeline.texts.personal_data.find import TYPES, Type, find

_PLACEHOLDER = re.compile(rf"<({'|'.join(t.upper() for t in TYPES)})_([0-9]+)>")


def scrubbed(texts: Sequence[str | None], counts: Counter[str] | None = None) -> list[str | None]:
    """The texts of one row without personal data.

    The numbers depend on the order of ``texts`` and never on more: give the completions of a prompt in an order
    that does not say which was chosen, or the number tells it. Scrubbed texts stay as they are.

    Args:
        counts: the finds are added to it.
    """
    names: dict[tuple[Type, str], str] = {}
    last = Counter[str]()
    for text in texts:
        for kind, number in _PLACEHOLDER.findall(text or ""):
            last[kind] = max(last[kind], int(number))
    return [None if text is None else _scrubbed(text, names, last, counts) for text in texts]


def _scrubbed(
    text: str, names: dict[tuple[Type, str], str], last: Counter[str], counts: Counter[str] | None
) -> str:
    parts: list[str] = []
    end = 0
    for one in find(text):
        key = one.type, _same(text[one.start : one.end])
        if key not in names:
            kind = one.type.upper()
            last[kind] += 1
            names[key] = f"<{kind}_{last[kind]}>"
        parts += [text[end : one.start], names[key]]
        end = one.end
        if counts is not None:
            counts[one.type] += 1
    return "".join([*parts, text[end:]])


def scrubbed_text(text: str, counts: Counter[str] | None = None) -> str:
    """One text without personal data."""
    return scrubbed([text], counts)[0] or ""


def scrubbed_pair(
    prompt: str, completions: Sequence[str], counts: Counter[str] | None = None
) -> tuple[str, list[str]]:
    """A prompt and its completions without personal data, the same whatever the order of the completions."""
    order = sorted(range(len(completions)), key=lambda i: completions[i])
    first, *others = scrubbed([prompt, *(completions[i] for i in order)], counts)
    by_place = dict(zip(order, others, strict=True))
    return first or "", [by_place[i] or "" for i in range(len(completions))]


def _same(data: str) -> str:
    """What is equal for the same address or number, however it is spelled."""
    return re.sub(r"[\s().\u2011/-]", "", data).casefold()
