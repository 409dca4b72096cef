"""init: make a project of your own: configs, the Makefile, docs, and an example of a task.

It writes what is missing and overwrites nothing: where a file is there already and differs, it stops before it
writes any. A kill leaves only whole files, and the same command goes on.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pipeline.base.cli import as_called
from pipeline.base.errors import ConfigError
from pipeline.base.files import disk_errors, expand_home, fsync, is_litter, make_dirs
from pipeline.base.process import say

FILES = Path(__file__).with_name("files")
SHARED = ("configs", "docs")
"""Directories of the repository that the wheel has in ``files/``; setup.py puts them there."""
HIDDEN = "gitignore"
"""In a project it begins with a dot; here it would be git's."""


def main(argv: list[str] | None = None) -> int:
    """Write the project's files, unless they are there.

    Raises:
        ConfigError: something else is there under the name of one of them.
        StoreError: the disk refused.
    """
    parser = argparse.ArgumentParser(
        prog=as_called("pipeline init"), description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", metavar="DIR", help="new, or to be completed; . for this one")
    directory = Path(expand_home(parser.parse_args(argv).directory, "DIR"))
    files = {name: path.read_bytes() for name, path in project_files().items()}
    with disk_errors(str(directory)):
        missing = missing_files(directory, files, "init")
        write_missing(directory, files, missing)
    if not missing:
        say("init", f"nothing to do: {directory} has all {len(files)} files")
        return 0
    say("init", f"{directory}: {len(missing)} files; README.md says what each is for")
    say("init", f"next: {next_command(directory)}    (the demo, three minutes on two free CPU cores)")
    return 0


def project_files() -> dict[str, Path]:
    """Each file of a project, by its name there: of ``files/``, and of the repository's configs and docs.

    From a wheel all of them are in ``files/``; otherwise the package lies in its repository (``pip install -e``).
    """
    found = {_name(path, FILES): path for path in _below(FILES)}
    if not any(name.startswith("configs/") for name in found):
        root = FILES.parents[2]
        found |= {_name(path, root): path for shared in SHARED for path in _below(root / shared)}
    return dict(sorted(found.items()))


def _below(directory: Path) -> Iterator[Path]:
    """The files of a directory, without what Python, an editor or a file manager left in it."""
    for path in directory.rglob("*"):
        if path.is_file() and not path.name.startswith(".") and path.suffix != ".pyc" and not is_litter(path.name):
            yield path


def _name(path: Path, root: Path) -> str:
    name = path.relative_to(root).as_posix()
    return f".{name}" if name == HIDDEN else name


def missing_files(directory: Path, files: Mapping[str, bytes], command: str) -> list[str]:
    """The names that are not there yet.

    Args:
        files: content by name.
        command: who would write them.
    Raises:
        ConfigError: something else is there under one of the names, or a file where a directory is needed.
    """
    in_the_way = {str(parent) for name in files for parent in (directory / name).parents if _no_directory(parent)}
    there = [name for name in files if os.path.lexists(directory / name)]
    in_the_way |= {str(directory / name) for name in there if not _same(directory / name, files[name])}
    if in_the_way:
        first, *others = sorted(in_the_way)
        rest = f", and so are {len(others)} others" if others else ""
        what = f"is there already, and differs from what {command} would write{rest}. Nothing was written."
        other = "name another directory" if command == "init" else "take another name"
        raise ConfigError(first, what, f"Move it away, or {other}.")
    return [name for name in files if name not in there]


def _no_directory(path: Path) -> bool:
    return os.path.lexists(path) and not path.is_dir()


def _same(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def write_missing(directory: Path, files: Mapping[str, bytes], missing: Iterable[str]) -> None:
    """Write the missing files, and take away what a kill has left of any."""
    for name in files:
        _half_written(directory / name).unlink(missing_ok=True)
    for name in missing:
        write_new(directory / name, files[name])


def write_new(path: Path, content: bytes) -> None:
    """Write a file in one step, never over one that has appeared in the meantime.

    Raises:
        OSError: the disk refused, or there is such a file by now.
    """
    make_dirs(path.parent)
    half = _half_written(path)
    with half.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.link(half, path)
    half.unlink()
    fsync(path.parent)


def _half_written(path: Path) -> Path:
    """Where a kill may leave part of a file; the next run takes it away."""
    return path.with_name(f".{path.name}.half-written")


def next_command(directory: Path) -> str:
    """What to type next: to enter the directory, and :func:`make_command`."""
    enter = "" if directory.resolve() == Path.cwd() else f"cd {directory} && "
    return enter + make_command(directory)


def make_command(directory: Path) -> str:
    """``make``; it names the environment where the project's ``make`` would find another."""
    ours = Path(sys.executable).parent
    ready = python_is_ours() or ours == directory.resolve() / ".venv" / "bin"
    return "make" if ready else f"make BIN={ours}"


def python_is_ours() -> bool:
    """Whether ``python``, typed in the shell, is the one that runs this.

    The Makefile puts its ``BIN`` before the shell's PATH, which is then not the shell's.
    """
    path = os.environ.get("PATH", os.defpath)
    if "MAKELEVEL" in os.environ:
        path = path.partition(os.pathsep)[2]
    python = shutil.which("python", path=path)
    return python is not None and Path(python).parent == Path(sys.executable).parent
