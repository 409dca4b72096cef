"""Results as JSON and back: nothing is lost, other ages are read, what is broken is named."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from pipeline.base.errors import DataError
from pipeline.results.stats import FLAT, from_json, to_json
from pipeline.statistics.intervals import Estimate, wilson


@dataclass(frozen=True)
class Trust:
    asked: int
    bias: Estimate


@dataclass(frozen=True, kw_only=True)
class Verdicts(Estimate):
    kind: Literal["scorer", "llm"]
    trust: Trust | None = field(default=None, metadata=FLAT)


@dataclass(frozen=True)
class Row:
    n: int
    means: Mapping[str, Estimate] = field(metadata=FLAT)


@dataclass(frozen=True, kw_only=True)
class Result:
    name: str
    share: float
    sure: bool
    update: int | None
    verdicts: Verdicts
    rows: Sequence[Row]
    by_name: Mapping[str, float | None]
    words: str | None = None


NAN = math.nan
RESULT = Result(
    name="a",
    share=0.5,
    sure=True,
    update=None,
    verdicts=Verdicts(0.25, NAN, NAN, 3, kind="llm", trust=Trust(9, wilson(1, 4))),
    rows=(Row(1, {"gold": wilson(2, 4)}), Row(2, {})),
    by_name={"x": None, "y": 1.0},
)
STATS: dict[str, Any] = {
    "name": "a",
    "share": 0.5,
    "sure": True,
    "update": None,
    "verdicts": {"value": 0.25, "low": None, "high": None, "n": 3, "kind": "llm", "asked": 9,
                 "bias": to_json(wilson(1, 4))},
    "rows": [{"n": 1, "gold": to_json(wilson(2, 4))}, {"n": 2}],
    "by_name": {"x": None, "y": 1.0},
}  # fmt: skip


# Catches: NaN in JSON, a default that is written, keys of a flat field under its name, a lost order.
def test_a_result_is_the_json_by_hand() -> None:
    assert to_json(RESULT) == STATS
    assert list(to_json(RESULT)) == list(STATS)
    assert json.loads(json.dumps(to_json(RESULT), allow_nan=False)) == STATS


def test_reading_gives_back_what_was_written() -> None:
    again = from_json(Result, STATS, "demo@v1")
    assert to_json(again) == STATS
    assert again.rows == RESULT.rows
    assert again.verdicts.trust == RESULT.verdicts.trust
    assert math.isnan(again.verdicts.low)
    assert again.rows[0].means["gold"].method == "Wilson"


# Catches: a key of another age taken for damage.
def test_versions_of_other_ages_are_read() -> None:
    older = {k: v for k, v in STATS.items() if k not in ("update", "rows", "by_name")}
    older["verdicts"] = {k: v for k, v in STATS["verdicts"].items() if k not in ("asked", "bias")}
    read = from_json(Result, {**older, "newer": [1, {"more": 2}]}, "demo@v1")
    assert (read.update, read.rows, read.by_name) == (None, (), {})
    assert read.verdicts.trust is None
    newer = from_json(Verdicts, {**older["verdicts"], "anything": "else"}, "demo@v1")
    assert newer.trust is None


# Catches: a wrong type that goes on as it is, true taken for 1, 3.0 for 3.
@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"name": None}, "stats.name is None, not text"),
        ({"share": "0.5"}, "stats.share is '0.5', not a number"),
        ({"share": True}, "stats.share is True, not a number"),
        ({"sure": 1}, "stats.sure is 1, not true or false"),
        ({"update": 3.0}, "stats.update is 3.0, not a whole number"),
        ({"rows": {}}, "stats.rows is {}, not a list"),
        ({"rows": [{"n": 1, "gold": 2}]}, "stats.rows[0].gold is 2, not an object"),
        ({"verdicts": {**STATS["verdicts"], "kind": "person"}}, "stats.verdicts.kind is 'person', not "
         "'scorer' or 'llm'"),
        ({"verdicts": {"kind": "llm"}}, "stats.verdicts.value is missing"),
        ({"by_name": []}, "stats.by_name is [], not an object"),
    ],
)  # fmt: skip
def test_what_is_broken_is_named_in_one_line(broken: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        from_json(Result, STATS | broken, "demo-evaluation@v000002")
    assert message in str(caught.value)
    assert str(caught.value).startswith("demo-evaluation@v000002: ")


@pytest.mark.parametrize("value", [None, [], "text", 3])
def test_stats_that_are_no_object(value: Any) -> None:
    with pytest.raises(DataError, match="demo@v1: its result cannot be read"):
        from_json(Result, value, "demo@v1")
