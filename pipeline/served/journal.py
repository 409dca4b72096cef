"""The journal of completions that a server sent: kept on the disk as they come, and read again after a kill."""

from __future__ import annotations

import contextlib
import os
from array import array
from collections.abc import Generator, Mapping
from pathlib import Path

from pipeline.base.errors import StoreError
from pipeline.base.files import disk_errors, hold, make_dirs
from pipeline.base.json_lines import append_lines, read_lines
from pipeline.base.json_values import JsonObject
from pipeline.served.requests import Completion


class Journal:
    """Completions by key, a line each in ``completions.jsonl``.

    Args:
        directory: which one process at a time holds.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "completions.jsonl"

    @contextlib.contextmanager
    def held(self) -> Generator[None]:
        """Hold the directory, which is made where it is missing.

        Raises:
            StoreError: another process holds it, or the disk is full.
        """
        directory = self._path.parent
        with disk_errors(str(directory)):
            make_dirs(directory)
            try:
                held = hold(directory, wait=False)
            except BlockingIOError as err:
                mend = "Wait for it, or stop it and run again."
                raise StoreError(str(directory), "another process is asking for these completions.", mend) from err
        try:
            yield
        finally:
            os.close(held)

    def read(self) -> dict[str, Completion]:
        """The completions that are there, by key; of a key that is there twice the first."""
        kept: dict[str, Completion] = {}
        for row in read_lines(self._path):
            with contextlib.suppress(KeyError, TypeError):
                ids = None if row["ids"] is None else array("i", row["ids"])
                kept.setdefault(
                    row["key"], Completion(row["text"], row["finish"], ids, row["fingerprint"], None, row["alike"])
                )
        return kept

    def append(self, received: Mapping[str, Completion]) -> None:
        """Append completions, all with one flush."""
        if received:
            append_lines(self._path, [{"key": key, **_line(c)} for key, c in received.items()])


def _line(completion: Completion) -> JsonObject:
    ids = None if completion.ids is None else list(completion.ids)
    return {
        "text": completion.text,
        "finish": completion.finish,
        "ids": ids,
        "fingerprint": completion.fingerprint,
        "alike": completion.alike,
    }
