"""What people answered, with the texts, as JSON lines or CSV. Leaves out names, and whoever agreed to nothing."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pipeline.base.errors import DataError

if TYPE_CHECKING:
    from pipeline.labelling.log.log import Log

Row = dict[str, Any]

# A spreadsheet runs a cell that begins so (OWASP, "CSV Injection").
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def rows(log: Log) -> Iterator[Row]:
    """A row per current vote of the current batch, in the order of voting; ``choice`` in the words of the item.

    Raises:
        DataError: before the first row, where there is none.
    """
    items = {item.id: item for item in log.batches.items()}
    votes = [vote for vote in log.answers.votes() if vote.item in items]
    agreed = [vote for vote in votes if vote.consent is not None]
    if not agreed:
        what = (
            f"none of {len(votes)} answers is of somebody who agreed to the text." if votes else "no answers yet."
        )
        raise DataError("export", what, "Try again when people have answered.")

    def each() -> Iterator[Row]:
        for vote in agreed:
            item = items[vote.item]
            yield {
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

    return each()


def as_jsonl(rows: Iterable[Row]) -> Iterator[bytes]:
    """Each row as a line of JSON."""
    for row in rows:
        # Half a surrogate pair has no UTF-8; inside a JSON string \udXXX is just that.
        yield json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def as_csv(rows: Iterable[Row]) -> Iterator[bytes]:
    """A header, then each row; lists as JSON. A text that a spreadsheet would run gets an apostrophe before it."""
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


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        value = json.dumps(value, ensure_ascii=False)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


FORMATS: dict[str, tuple[str, Callable[[Iterable[Row]], Iterator[bytes]]]] = {
    "jsonl": ("application/jsonl; charset=utf-8", as_jsonl),
    "csv": ("text/csv; charset=utf-8", as_csv),
}
