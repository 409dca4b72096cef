"""Export votes with their texts as JSON lines or CSV, without names and without people who did not consent."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pipeline.base.errors import DataError

if TYPE_CHECKING:
    from pipeline.labelling.items import Item
    from pipeline.labelling.log.answers import Vote
    from pipeline.labelling.log.log import Log

Row = dict[str, Any]

# A spreadsheet evaluates cells that begin with these (OWASP, "CSV Injection").
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def rows(log: Log) -> Iterator[Row]:
    """A row per current vote of the current batch, in the order of voting. Raises DataError if there is none."""
    items = {item.id: item for item in log.batches.items()}
    votes = [vote for vote in log.answers.votes() if vote.item in items]
    agreed = [vote for vote in votes if vote.consent is not None]
    if not agreed:
        what = f"no annotator of the {len(votes)} answers agreed to the text." if votes else "no answers yet."
        raise DataError("export", what, "Try again when people have answered.")
    return (_row(vote, items[vote.item]) for vote in agreed)


def _row(vote: Vote, item: Item) -> Row:
    return {
        "item": item.id,
        "mode": item.mode,
        "split": item.split,
        "gold": item.gold,
        "prompt": item.prompt,
        "completions": list(item.completions),
        "annotator": vote.annotator,
        "round": vote.round,
        "choice": vote.choice,
        "order": list(vote.order),
        "strength": vote.strength,
        "tags": list(vote.tags),
        "note": vote.note,
        "ms": vote.ms,
        "at": vote.at,
        "consent": vote.consent,
    }


def as_jsonl(rows: Iterable[Row]) -> Iterator[bytes]:
    """Each row as a line of JSON."""
    for row in rows:
        # A lone surrogate has no UTF-8; JSON spells it \udXXX.
        yield json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def as_csv(rows: Iterable[Row]) -> Iterator[bytes]:
    """A header and the rows; lists as JSON. Text that a spreadsheet would evaluate gets a leading apostrophe."""
    header = False
    for row in rows:
        if not header:
            yield _line(row)
            header = True
        yield _line(row.values())


def _line(values: Iterable[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow([_cell(value) for value in values])
    return text.getvalue().encode("utf-8", "backslashreplace")


def _cell(value: object) -> Any:
    if isinstance(value, list):
        value = json.dumps(value, ensure_ascii=False)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


FORMATS: dict[str, tuple[str, Callable[[Iterable[Row]], Iterator[bytes]]]] = {
    "jsonl": ("application/jsonl; charset=utf-8", as_jsonl),
    "csv": ("text/csv; charset=utf-8", as_csv),
}
