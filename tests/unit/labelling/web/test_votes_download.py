"""The export: whose answers, which words, and cells that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from pipeline.base.errors import DataError
from pipeline.labelling.items import Item
from pipeline.labelling.log.log import Log
from pipeline.labelling.web import votes_download
from tests.unit.labelling.helpers import agree, new_event, open_log


@pytest.fixture
def log(tmp_path: Path) -> Log:
    items = [Item("=HYPERLINK(1)", ("x\ny", '"+'), split="test"), Item("plain", ("@SUM(A1)", "\tz"))]
    return open_log(tmp_path, items)


def vote(log: Log, who: str, item: Item, choice: str, note: str = "") -> None:
    content = {"choice": choice, "order": (1, 0), "tags": ("clear",), "note": note, "ms": 1234}
    log.events.append(new_event("vote", who, item, **content))


def test_only_current_votes_of_those_who_agreed(log):
    one, two = log.people.add("Name One"), log.people.add("Name Two")
    first, second = log.batches.items()
    agree(log, one.id)
    vote(log, one.id, first, "b", note="+why")
    vote(log, one.id, second, "tie")
    log.events.append(new_event("undo", one.id, key="undo-undo"))
    vote(log, two.id, first, "a")
    rows = [json.loads(line) for line in votes_download.as_jsonl(votes_download.rows(log))]
    assert len(rows) == 1
    row = rows[0]
    assert {k: v for k, v in row.items() if k not in ("at", "completions")} == {
        "item": first.id, "mode": "pairwise", "split": "test", "gold": None, "prompt": "=HYPERLINK(1)",
        "annotator": one.id, "round": 0, "choice": "b", "order": [1, 0], "strength": None, "tags": ["clear"],
        "note": "+why", "ms": 1234, "consent": "c" * 64,
    }  # fmt: skip
    assert row["completions"] == ["x\ny", '"+']
    assert "Name" not in json.dumps(rows)


def test_a_spreadsheet_runs_no_cell(log):
    one = log.people.add("one")
    agree(log, one.id)
    for item, note in zip(log.batches.items(), ("-2+3", "\rx"), strict=True):
        vote(log, one.id, item, "a", note)
    text = b"".join(votes_download.as_csv(votes_download.rows(log))).decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["prompt"] for row in rows] == ["'=HYPERLINK(1)", "plain"]
    assert [row["note"] for row in rows] == ["'-2+3", "'\rx"]
    assert json.loads(rows[0]["completions"]) == ["x\ny", '"+']
    for row in rows:
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row.values())
    assert rows[0]["ms"] == "1234"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_each_sign_that_starts_a_formula(start):
    _, line = votes_download.as_csv([{"note": start + "x"}])
    assert next(csv.reader(io.StringIO(line.decode(), newline=""))) == ["'" + start + "x"]


def test_half_a_surrogate_pair_is_written(log):
    (line,) = votes_download.as_jsonl([{"note": "a\ud800b"}])
    assert json.loads(line) == {"note": "a\ud800b"}
    assert b"".join(votes_download.as_csv([{"note": "a\ud800b"}])).decode().endswith("a\\ud800b\r\n")


def test_nothing_to_export_is_said_in_one_line(log):
    with pytest.raises(DataError, match="no answers yet"):
        votes_download.rows(log)
    one = log.people.add("one")
    vote(log, one.id, next(iter(log.batches.items())), "a")
    with pytest.raises(DataError, match="no annotator of the 1 answers agreed"):
        votes_download.rows(log)
