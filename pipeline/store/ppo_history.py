"""The history of a run of PPO, as its ``metrics.jsonl`` holds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from pipeline.base.errors import DataError
from pipeline.base.files import disk_errors
from pipeline.results.metrics import Logged

Row = dict[str, Any]


def read_ppo_history(path: Path) -> list[Row]:
    """Rows of a metrics.jsonl that are updates of PPO or evaluations of it; none where there is no such file.

    A last line without its end is still being written, or was when the run was killed, and is left out.

    Raises:
        DataError: a line is not a JSON object.
        StoreError: the disk.
    """
    if not path.is_file():
        return []
    with disk_errors(str(path)):
        text = path.read_text(encoding="utf-8", errors="replace")
    rows: list[Row] = []
    for number, line in enumerate(text[: text.rfind("\n") + 1].split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as err:
            raise DataError(f"{path}:{number}", f"is not JSON ({err}).") from err
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}", "is not a JSON object.")
        if "update" in row or Logged.HELD_SCORES in row:
            rows.append(cast("Row", row))
    return rows
