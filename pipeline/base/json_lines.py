"""Append JSON objects to a file, one a line, and read them back after a kill."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

from pipeline.base.files import disk_errors, make_dirs
from pipeline.base.json_values import JsonObject


def append_lines(path: Path, rows: Iterable[JsonObject]) -> None:
    """Append rows, which are on the disk when this returns: one flush for all of them.

    Raises:
        StoreError: the disk.
    """
    with disk_errors(str(path)):
        make_dirs(path.parent)
        with path.open("ab+") as file:
            # A line that a kill cut short must not swallow the next one.
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 1, 0))
            torn = file.read(1) not in (b"", b"\n")
            file.write(b"\n" * torn + b"".join(json.dumps(row).encode() + b"\n" for row in rows))
            file.flush()
            os.fsync(file.fileno())


def read_lines(path: Path) -> Iterator[JsonObject]:
    """The objects of a file that may not exist. A line that a kill cut short is skipped.

    Raises:
        StoreError: the disk.
    """
    if not path.is_file():
        return
    with disk_errors(str(path)), path.open("rb") as file:
        for line in file:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                yield cast("JsonObject", row)
