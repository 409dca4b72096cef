"""Reading metrics.jsonl, for the doctor, the evaluation and the report alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.base.errors import DataError
from pipeline.store.ppo_history import read_ppo_history

ROWS = '{"eval/scores": 1.0}\n{"update": 1, "note": "a\u2028b"}\n\n{"train_runtime": 3.0}\n{"update": 2}\n'


# Seen failing with: the last line read like any other; lines cut at U+2028; rows of other kinds kept.
@pytest.mark.parametrize("torn", ["", '{"update": 3, "sc', '{"update": 3, "text": "\xe4'])
def test_a_torn_last_line_is_left_out(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(ROWS.encode() + torn.encode()[: len(torn)])
    assert [row.get("update") for row in read_ppo_history(path)] == [None, 1, 2]
    assert read_ppo_history(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize(("line", "said"), [('{"update": ', "is not JSON"), ("[1]", "is not a JSON object")])
def test_any_other_line_that_is_broken_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"update": 1}}\n{line}\n{{"update": 2}}\n')
    with pytest.raises(DataError, match=rf"metrics\.jsonl:2: {said}"):
        read_ppo_history(path)
