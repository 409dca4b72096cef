"""Checkpoints of one piece of work: a kill loses the work since the last one and no more."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Generator
from pathlib import Path

from pipeline.base.errors import StoreError
from pipeline.base.files import (
    disk_error,
    disk_errors,
    disk_failure,
    fsync,
    is_litter,
    make_dirs,
    read_json,
    replace_json,
    sha256_file,
)
from pipeline.store.draft import fsync_tree

CHECKSUMS = "checksums.json"
"""Of a checkpoint: sha256 and size of each of its other files. Written last."""

_NAME = re.compile(r"checkpoint-(\d+)")


class Checkpoints:
    """Checkpoints of one piece of work: written beside, fsynced, renamed; limited in number.

    A directory ``checkpoint-<step>`` is whole, as it gets that name by one rename. What is being written, replaced
    or removed has a hidden name, which nobody reads and the next writer sweeps.

    Args:
        directory: of this work; made when first written to.
        keep: how many to keep, the newest; at least 1. With 1 the old one goes after the new one is there.
    """

    def __init__(self, directory: Path, keep: int = 2) -> None:
        if keep < 1:
            raise ValueError(f"keep {keep} is below 1")
        self.directory, self.keep = directory, keep

    @contextlib.contextmanager
    def writing(self, step: int, spare: int | None = None) -> Generator[Path]:
        """A directory to write into, which becomes ``checkpoint-<step>`` when the block ends well.

        Args:
            spare: a step whose checkpoint stays besides the newest, such as the best one.
        Raises:
            StoreError: the disk is full, read-only or not ours; the earlier checkpoints are as they were.
        """
        staged, final = self.staging(step), self.directory / f"checkpoint-{step}"
        try:
            with disk_errors(str(self.directory), self._note):
                self._sweep()
                make_dirs(staged)
            try:
                yield staged
            except Exception as err:
                if (failed := disk_failure(err, staged)) is not None:
                    raise disk_error(failed, str(self.directory), self._note()) from err
                raise
            with disk_errors(str(self.directory), self._note):
                replace_json(staged / CHECKSUMS, {"files": _sums(staged)})
                fsync_tree(staged)
                if final.exists():  # of a run that went back to an earlier checkpoint, and is here again
                    os.rename(final, self._hidden(final))
                os.rename(staged, final)
                fsync(self.directory)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        with disk_errors(str(self.directory), self._note):
            there = self.all()
            # Later ones are of before the run went back to an earlier one: they would crowd out what it writes.
            ahead = [p for p in there if self.step(p) > step]
            for old in [*there[: len(there) - len(ahead)][: -self.keep], *ahead]:
                if self.step(old) != spare:
                    # Renamed before it is removed, so that a kill leaves no half under a name that means whole.
                    os.rename(old, self._hidden(old))
            self._sweep()

    def staging(self, step: int) -> Path:
        """Where ``checkpoint-<step>`` is written: the same on every rank, so that each can add its files."""
        return self.directory / f".writing-{step}"

    def all(self) -> list[Path]:
        """The whole checkpoints, by step.

        Raises:
            StoreError: the directory cannot be read.
        """
        with disk_errors(str(self.directory)):
            try:
                checkpoints = [p for p in self.directory.iterdir() if _NAME.fullmatch(p.name) and p.is_dir()]
            except FileNotFoundError:
                return []
        return sorted(checkpoints, key=self.step)

    def latest(self) -> Path | None:
        """The newest whole checkpoint, by step, or None."""
        return max(self.all(), key=self.step, default=None)

    def newest_intact(
        self, tell: Callable[[str], None], fits: Callable[[Path], bool] | None = None
    ) -> Path | None:
        """The newest checkpoint with undamaged files; None where the work has to start again.

        A damaged one is put aside as ``damaged-<step>``, so that it is neither continued nor counted among those
        to keep. Only who holds the work may call this.

        Args:
            tell: told, in a line each, what is damaged and what is done about it.
            fits: whether an intact one may be continued; the next older one is asked then.
        Raises:
            StoreError: the directory cannot be read or written.
        """
        lost: list[str] = []
        chosen: Path | None = None
        for path in reversed(self.all()):
            if wrong := damage(path):
                lost.append(f"the checkpoint of step {self.step(path)} is damaged ({wrong[0]})")
                self._put_aside(path)
            elif fits is None or fits(path):
                chosen = path
                break
        instead = "starting again" if chosen is None else f"going back to that of step {self.step(chosen)}"
        if lost:
            tell(f"{', '.join(lost)}: {instead}")
        if chosen is not None and not (chosen / CHECKSUMS).is_file():
            tell(f"the checkpoint of step {self.step(chosen)} has no checksums, and is taken as it is")
        return chosen

    def same_here(self, chosen: Path | None) -> Path | None:
        """The checkpoint that the main process has chosen, in this rank's own data directory.

        Raises:
            StoreError: it is not there.
        """
        if chosen is None:
            return None
        here = self.directory / chosen.name
        if here.is_dir():
            return here
        raise StoreError(
            str(here),
            "is not on this host, and the run goes on from it.",
            "Give all hosts one data_dir, or copy that directory here.",
        )

    def _put_aside(self, path: Path) -> None:
        aside = self.directory / f"damaged-{self.step(path)}"
        with disk_errors(str(self.directory)):
            shutil.rmtree(aside, ignore_errors=True)
            os.rename(path, aside)

    def drop(self) -> None:
        """Remove every checkpoint, the newest first: a kill in between leaves earlier ones, which are whole."""
        with disk_errors(str(self.directory)):
            for path in reversed(self.all()):
                os.rename(path, self._hidden(path))
            for path in self.directory.glob("damaged-*"):
                shutil.rmtree(path, ignore_errors=True)
            self._sweep()

    @staticmethod
    def step(path: Path) -> int:
        """The step in a checkpoint's name."""
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise StoreError(str(path), "is not the name of a checkpoint (checkpoint-STEP).")
        return int(match[1])

    @staticmethod
    def age(path: Path) -> str:
        """How long ago it was written, in words: ``3 min old``."""
        return f"{ago(path)} old"

    def _hidden(self, path: Path) -> Path:
        """A free hidden name for ``path``: a leftover under it may not have been removable."""
        free = (self.directory / f".removed-{path.name.removeprefix('checkpoint-')}-{n}" for n in range(10**6))
        return next(p for p in free if not p.exists())

    def _sweep(self) -> None:
        if not self.directory.is_dir():
            return
        for path in self.directory.iterdir():
            if path.name.startswith((".writing-", ".removed-")):
                shutil.rmtree(path, ignore_errors=True)

    def _note(self) -> str:
        with contextlib.suppress(OSError, StoreError):
            if (last := self.latest()) is not None:
                return f"the checkpoint of step {self.step(last)} is as it was"
        return "no checkpoint was written"


def damage(path: Path) -> list[str]:
    """Which files of a checkpoint are not as they were written; none where they are, or where nothing says.

    A checkpoint without checksums is no damaged one: they are written before it gets its name, so an earlier
    revision of this package wrote it, and hours of training would go for the lack of a file it could not know.
    """
    try:
        listed = read_json(path / CHECKSUMS)["files"]
        sums = {str(name): (str(sha256), int(size)) for name, (sha256, size) in listed.items()}
    except FileNotFoundError:
        return []
    except (StoreError, KeyError, TypeError, ValueError, AttributeError):
        return [f"{CHECKSUMS} cannot be read"]
    wrong: list[str] = []
    for name, (sha256, size) in sorted(sums.items()):
        file = path / name
        try:
            there = file.stat().st_size
            if there != size:
                wrong.append(f"{name} has {there} bytes and had {size}")
            elif sha256_file(file) != sha256:
                wrong.append(f"{name} does not match its sha256")
        except FileNotFoundError:
            wrong.append(f"{name} is missing")
        except OSError as err:
            wrong.append(f"{name} cannot be read ({err.strerror})")
    return wrong


def _sums(directory: Path) -> dict[str, tuple[str, int]]:
    """sha256 and size of every file below ``directory``, by its path."""
    paths = [Path(base) / name for base, _, names in os.walk(directory) for name in names if not is_litter(name)]
    return {p.relative_to(directory).as_posix(): (sha256_file(p), p.stat().st_size) for p in sorted(paths)}


def resuming(path: Path, of: int) -> str:
    """The line that says where work continues: ``resuming at step 120 of 675, checkpoint 3 min old``."""
    return f"resuming at step {Checkpoints.step(path)} of {of}, checkpoint {Checkpoints.age(path)}"


def ago(path: Path) -> str:
    """Time since ``path`` was last written to, in words: ``3 min``."""
    return in_words(max(0.0, time.time() - path.stat().st_mtime))


def in_words(seconds: float) -> str:
    """A time in its largest whole unit: ``3 min``, ``2 days``."""
    for size, word in ((86400, "day"), (3600, "h"), (60, "min")):
        if (n := int(seconds // size)) >= 1:
            return f"{n} {word}{'s' if word == 'day' and n > 1 else ''}"
    return f"{int(seconds)} s"
