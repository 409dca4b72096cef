"""Tables in one JSON object, as pandas itself writes them."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest

from pipeline.sources.json_tables import table_in

ROWS = [{"prompt": "p", "n": 1}, {"prompt": "q", "n": 2}]


# Mutations caught: columns and index taken for each other; a table schema's index lost or its rows untold.
@pytest.mark.parametrize("orient", ["split", "columns", "index"])
def test_what_pandas_writes_is_read(orient: Any) -> None:
    value = json.loads(pd.DataFrame(ROWS).to_json(orient=orient))
    assert table_in(value) == (ROWS, f"orient {orient}")


def test_a_table_with_its_schema_keeps_the_index() -> None:
    value = json.loads(pd.DataFrame(ROWS).to_json(orient="table"))
    assert table_in(value) == ([{"index": i, **row} for i, row in enumerate(ROWS)], "orient table")


def test_a_list_for_each_column() -> None:
    assert table_in(pd.DataFrame(ROWS).to_dict(orient="list")) == (ROWS, "a list for each column")


# A row of its own is no table: what would be read of it is not what it says.
@pytest.mark.parametrize(
    "value",
    [
        {},
        {"prompt": "p", "chosen": "c"},
        {"rows": [1, 2]},  # one list alone may be anything
        {"a": [1, 2], "b": [1]},
        {"a": [[1], [2]], "b": [3, 4]},
        {"chosen": [{"role": "user"}], "rejected": [{"role": "user"}]},
        {"0": {"a": 1}, "1": {"b": 1}},
        {"a": {"x": 1}, "b": {"x": 1}},  # neither names are numbers
        {"a": {}, "b": {}},
        {"columns": ["a", "b"], "index": [0], "data": [[1]]},
        {"columns": ["a"], "index": [0], "data": [1]},
        {"schema": {}, "data": [1]},
    ],
)
def test_other_objects_are_no_tables(value: dict[str, Any]) -> None:
    assert table_in(value) is None
