"""The tables of docs/governance.md on what the detectors of personal data find, measured on written sentences."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pipeline.statistics.intervals import wilson
from pipeline.statistics.spelling import interval
from pipeline.texts.personal_data.find import TYPES, find
from tests.helpers.personal_strings import HELD, NOT_HELD, sentences

TARGET = Path(__file__).parents[2] / "docs" / "governance.md"
BLOCK = re.compile(r"(<!-- measured on sentences -->\n).*?(<!-- end of measured -->)", re.DOTALL)


def recall(held_out: bool) -> dict[str, list[bool]]:
    """Whether each sentence's data was found whole, by type."""
    results: dict[str, list[bool]] = {type: [] for type in TYPES}
    for type, sentence, data in sentences(held_out)[0]:
        at = sentence.index(data)
        place = (type, at, at + len(data))
        results[type].append(any((one.type, one.start, one.end) == place for one in find(sentence)))
    return results


def alarms(held_out: bool) -> dict[str, list[bool]]:
    """Whether anything was found in each sentence that holds nothing, by kind."""
    results: dict[str, list[bool]] = {kind: [] for kind in NOT_HELD}
    for kind, sentence in sentences(held_out)[1]:
        results[kind].append(bool(find(sentence)))
    return results


def table(title: str, of: str, adjusted: Mapping[str, list[bool]], held_out: Mapping[str, list[bool]]) -> str:
    """Rows of kind and both halves, each with Wilson's 95 % interval, and their sum."""
    halves = [
        {**half, f"all {title}s": [hit for hits in half.values() for hit in hits]} for half in (adjusted, held_out)
    ]
    lines = [f"| {title} | {of}: sentences the rules were adjusted on | held out |", "|---|---|---|"]
    lines += [f"| {kind} | {_share(halves[0][kind])} | {_share(halves[1][kind])} |" for kind in halves[0]]
    return "\n".join(lines) + "\n"


def _share(hits: list[bool]) -> str:
    return f"{sum(hits)} of {len(hits)}: {interval(wilson(sum(hits), len(hits)))}"


def with_tables(text: str) -> str:
    """The document with its tables as the code has them."""
    found = table("type", "found", recall(False), recall(True))
    false = table("kind", "false alarms", alarms(False), alarms(True))
    return BLOCK.sub(lambda m: f"{m[1]}{found}\n{false}{m[2]}", text)


def write() -> None:
    """Write them."""
    assert set(HELD) == set(TYPES)
    TARGET.write_text(with_tables(TARGET.read_text(encoding="utf-8")), encoding="utf-8")
