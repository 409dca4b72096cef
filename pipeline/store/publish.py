"""Publish a draft: one rename makes the staging directory a version, under a lock that dies with its process."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.base.errors import StoreError
from pipeline.base.files import disk_error, fsync, locked, make_dirs, prepare_json
from pipeline.base.terminal_text import put
from pipeline.store import refs
from pipeline.store.manifest import FileEntry, Manifest
from pipeline.store.version import Version


def publish(
    home: Path,
    staging: Path,
    key: str | None,
    finish: Callable[[int], Manifest],
    expect_head: int | None = None,
    same_files: list[FileEntry] | None = None,
    instead_of: int | None = None,
) -> Version:
    """Make ``staging`` the next version of ``home``, unless one with the same key is there already.

    Args:
        same_files: those staged; given, a version with the same key counts only where it has these very files.
        instead_of: a version that is not counted: this one is to take its place, though it may have its files.
        finish: writes what needs the number (manifest, card) into staging, and returns the manifest.
        expect_head: the head that the caller built on, 0 for none; None does not ask.
    Raises:
        StoreError: the head moved away from ``expect_head``.
        OSError: the disk; nothing was published.
    """
    make_dirs(home / "versions")
    with locked(home / ".lock"):
        same = newest_with_key(home, key, instead_of) if key is not None else None
        if same is not None and (same_files is None or same.manifest.files == same_files):
            repair_head(home, same)
            return same
        _check_head(home, expect_head)
        number = refs.next_number(home)
        while True:
            manifest = finish(number)
            fsync(staging)
            # Written before the rename: a disk that is full at this point has published nothing.
            head = prepare_json(refs.head_path(home), refs.head_value(number, manifest.id))
            try:
                os.rename(staging, refs.version_path(home, number))
                break
            except OSError as err:
                head.unlink(missing_ok=True)
                # The lock does not reach across every network file system; the rename does, so ask it too.
                if err.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                number += 1
        try:
            fsync(home / "versions")
            os.replace(head, refs.head_path(home))
            fsync(refs.head_path(home).parent)
        except OSError as err:
            ref = f"{home}@{refs.spell(number)}"
            raise disk_error(err, ref, "the version was published but the head did not move") from err
    return Version(refs.version_path(home, number), manifest)


def newest_with_key(home: Path, key: str, besides: int | None = None) -> Version | None:
    """The newest intact version with this key, ``besides`` apart.

    A damaged one is reported on stderr and passed over.
    """
    for version in newest_first(home):
        if version.manifest.key != key or version.number == besides:
            continue
        problems = version.damage()
        if not problems:
            return version
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        put(f"warning: {problems[0]}{more}; not counted as up to date", sys.stderr)
    return None


def repair_head(home: Path, version: Version) -> None:
    """Finish a publishing that died between its rename and moving the head. The caller holds the lock."""
    if (refs.read_head(home) or 0) < version.number:
        refs.move_head(home, version.number, version.id)


def newest_first(home: Path) -> Iterator[Version]:
    """The versions of ``home`` whose manifest can be read; the others are reported on stderr."""
    for number in reversed(refs.numbers(home)):
        try:
            yield Version.open(refs.version_path(home, number))
        except StoreError as err:
            put(f"warning: {err}", sys.stderr)


def head_note(home: Path) -> str:
    """The note of a failed write: nothing was published, and where the head is."""
    try:
        head = refs.read_head(home)
    except (StoreError, OSError):
        head = None
    stays = f"; the head is still {refs.spell(head)}" if head else ""
    return f"nothing was published{stays}"


def _check_head(home: Path, expected: int | None) -> None:
    if expected is None:
        return
    head = refs.read_head(home) or 0
    if head != expected:
        there = refs.spell(head) if head else "none"
        built_on = refs.spell(expected) if expected else "no version"
        what = f"the head moved while this was being made: from {built_on} to {there}. Nothing was published."
        raise StoreError(str(home), what, "Run again to build on the new head.")
