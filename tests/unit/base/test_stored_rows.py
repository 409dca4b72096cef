"""Rows in a temporary file, against a list."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import pytest

from pipeline.base.errors import StoreError
from pipeline.base.stored_rows import StoredRows

ROWS = [(i, "ä水\ud800\n" * (i % 7), None, b"\0" * (i % 3), (True, 0.5)) for i in range(3000)]


# Mutations caught: no seek before a pass; a size in one byte; a length that counts bytes.
def test_they_are_read_as_often_as_needed(tmp_path: Path) -> None:
    rows = StoredRows(tmp_path)
    for row in ROWS:
        rows.append(row)
    assert len(rows) == len(ROWS)
    assert list(rows) == ROWS
    next(iter(rows))  # a pass that ends early
    assert list(rows) == ROWS
    assert not list(StoredRows())
    assert not any(tmp_path.iterdir())  # the file has no name


def test_a_full_disk_is_told_in_one_line(tmp_path: Path) -> None:
    rows = StoredRows(tmp_path)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(StoreError, match="File too large"):
            rows.append(("a" * 1_000_000,))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
