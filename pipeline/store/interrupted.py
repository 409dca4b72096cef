"""Interrupted work: which process holds it, and whether the same command may continue it.

Work has a directory of its own under ``.runs``, named after its key, so changed settings never continue a
checkpoint of others by accident; ``run.json`` there says what the work is.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from pipeline.base.errors import StoreError
from pipeline.base.files import disk_errors, hold, is_held, make_dirs, read_json, replace_json
from pipeline.base.json_values import JsonObject
from pipeline.store.checkpoints import Checkpoints, ago

UNSET = "unset"
SWEEPS = "sweeps"
"""What beside work is in ``.runs``: logs of sweeps."""


@dataclass(frozen=True)
class Work:
    """A piece of work, as its ``run.json`` describes it.

    Attributes:
        settings: the part of the config that is learnt from.
        inputs: for each role what was read and the id of what it holds.
        files: a digest of the local files that the settings name.
        version: the format of what the stage writes, :func:`pipeline.workflow.work_key.output_format`.
        world_size: processes. Another number goes on with the same batches. None where it is not known.
    """

    stage: str
    name: str
    seed: int
    key: str
    settings: dict[str, Any]
    inputs: dict[str, list[str]]
    files: str
    version: str
    world_size: int | None


def check(runs: Path, own: Path, work: Work, published: Callable[[str], bool]) -> None:
    """Refuse to start where an interrupted run is waiting that these settings would leave behind.

    Args:
        runs: the directory of all work; ``own`` is this work's in it.
        published: whether the work with this key is done, and its directory merely left over.
    Raises:
        StoreError: the interrupted run, and each setting, input or version in which it differs.
    """
    if Checkpoints(own).latest() is not None:
        before = _read(own)
        waiting = [(own, before)] if before is not None else []
    else:
        waiting = [(d, w) for d, w in _interrupted(runs, work) if not published(w.key)]
    for directory, before in waiting:
        changes = differences(before, work)
        last = Checkpoints(directory).latest()
        if changes and last is not None:
            raise StoreError(
                str(directory),
                f"was interrupted at step {Checkpoints.step(last)} ({ago(last)} ago) with other settings: "
                f"{', '.join(changes)}.",
                f"Set them back to continue it, or start again: add --fresh (make {work.stage} FRESH=1).",
            )


@contextlib.contextmanager
def working(directory: Path, work: Work, fresh: bool) -> Generator[None]:
    """Hold the work's directory, which says in ``run.json`` what is being done; for the one process that writes.

    Args:
        fresh: drop the checkpoints of an earlier attempt at the same work.
    Raises:
        StoreError: another process is at the same work; the disk.
    """
    with disk_errors(str(directory)):
        held = _take(directory)
    try:
        checkpoints = Checkpoints(directory)
        if fresh:
            checkpoints.drop()
        if checkpoints.latest() is None or _read(directory) is None:
            with disk_errors(str(directory)):
                replace_json(directory / "run.json", {**asdict(work), "started": time.time()})
        yield
    finally:
        # An attempt that left nothing to continue or to look at leaves no directory either.
        with contextlib.suppress(OSError):
            if {p.name for p in directory.iterdir()} <= {"run.json"}:
                shutil.rmtree(directory)
        os.close(held)


def clear(directory: Path) -> None:
    """Remove the work directory of a process that died after publishing its work."""
    with contextlib.suppress(OSError):
        if not is_held(directory):
            shutil.rmtree(directory, ignore_errors=True)


@dataclass(frozen=True)
class Left:
    """A work's directory.

    Attributes:
        work: what it is of; None where that cannot be read.
        step: of the newest checkpoint; None where there is none.
        held: a process is at it now.
        seconds: since anything in it was written.
        bytes: of all its files.
    """

    path: Path
    work: Work | None
    step: int | None
    held: bool
    seconds: float
    bytes: int


def left_behind(runs: Path) -> list[Left]:
    """All work that is being done or was interrupted, the oldest first.

    Raises:
        StoreError: the directory cannot be read.
    """
    found: list[Left] = []
    with disk_errors(str(runs)):
        directories = [p for p in runs.iterdir() if p.is_dir() and p.name != SWEEPS] if runs.is_dir() else []
    for path in directories:
        with contextlib.suppress(FileNotFoundError, StoreError):  # finished and gone while we looked
            last, held = Checkpoints(path).latest(), is_held(path)
            stats = [p.lstat() for p in (path, *path.rglob("*"))]
            seconds = max(0.0, time.time() - max(s.st_mtime for s in stats))
            size = sum(s.st_size for s in stats if stat.S_ISREG(s.st_mode))
            found.append(Left(path, _read(path), Checkpoints.step(last) if last else None, held, seconds, size))
    return sorted(found, key=lambda one: (-one.seconds, one.path))


def remove(directory: Path) -> bool:
    """Remove interrupted work, unless a process holds it.

    Raises:
        StoreError: the disk.
    """
    with disk_errors(str(directory)):
        try:
            held = hold(directory, wait=False)
        except (BlockingIOError, FileNotFoundError):
            return False
        try:
            Checkpoints(directory).drop()  # a kill in between leaves whole checkpoints, or none
            shutil.rmtree(directory)
        finally:
            os.close(held)
    return True


def differences(before: Work, now: Work) -> list[str]:
    """What changed from ``before`` to ``now``, each as ``ppo.kl_coef 0.06, now 0.1``."""
    old, new = flat(before.settings), flat(now.settings)
    found = [
        f"{key} {_spell(old.get(key, UNSET))}, now {_spell(new.get(key, UNSET))}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key, UNSET) != new.get(key, UNSET)
    ]
    if before.files != now.files and not found:
        found.append("the content of a file or module that the config names")
    for role in sorted(before.inputs.keys() | now.inputs.keys()):
        (old_ref, old_id), (ref, id) = (w.inputs.get(role, [UNSET, ""]) for w in (before, now))
        if old_id != id:
            found.append(f"inputs.{role} {old_ref}, now {ref}")
    if before.version != now.version:
        found.append(f"output format {before.version}, now {now.version}")
    return found


def flat(settings: JsonObject, prefix: str = "") -> JsonObject:
    """Nested settings by their dotted keys, as on the command line."""
    out: JsonObject = {}
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            out |= flat(cast("JsonObject", value), f"{prefix}{key}.")
        elif value != {}:
            out[prefix + key] = value
    return out


def _interrupted(runs: Path, work: Work) -> list[tuple[Path, Work]]:
    """Other attempts at this stage of this experiment and seed that nobody is at, the newest checkpoint first."""
    found: list[tuple[float, Path, Work]] = []
    directories = list(runs.iterdir()) if runs.is_dir() else []
    for directory in directories:
        with contextlib.suppress(OSError, StoreError):  # finished and gone while we looked, or not ours to read
            before = _read(directory)
            last = Checkpoints(directory).latest()
            if before is None or last is None or before.key == work.key:
                continue
            # Asked last: whoever asks holds it for an instant, and might keep others from work of their own.
            same = (before.name, before.stage, before.seed) == (work.name, work.stage, work.seed)
            if same and not is_held(directory):
                found.append((last.stat().st_mtime, directory, before))
    return [(directory, before) for _, directory, before in sorted(found, key=lambda f: f[0], reverse=True)]


def _read(directory: Path) -> Work | None:
    """What the work in a directory is; None where that was not written, or by another version of this file."""
    try:
        raw = read_json(directory / "run.json")
        return Work(**{k: raw[k] for k in Work.__dataclass_fields__})
    except (OSError, StoreError, KeyError, TypeError):
        return None


def _take(directory: Path) -> int:
    """Lock the directory, which is made for it.

    Raises:
        StoreError: another process has it.
    """
    for attempt in range(10):
        make_dirs(directory)
        try:
            held = hold(directory, wait=False)
            # Removed by the one who held it before, while we waited: what we hold is no longer there.
            if os.path.exists(directory) and os.path.samestat(os.fstat(held), directory.stat()):
                return held
            os.close(held)
        except FileNotFoundError:
            continue
        except BlockingIOError:
            # Somebody who only looks whether we are alive holds it for an instant too.
            time.sleep(0.02 * attempt)
    mend = "Wait for it, or stop it and run again."
    raise StoreError(str(directory), "another process is doing this very work.", mend)


def _spell(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
