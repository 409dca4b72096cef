"""Write to disk durably: fsync, atomic replace, locks, and failures of the OS as one-line errors."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Generator
from pathlib import Path
from typing import cast

from pipeline.base.errors import ConfigError, StoreError, first_line
from pipeline.base.json_values import JsonObject, parse_json

_MENDS = {
    errno.ENOSPC: "Free some space (python -m pipeline data gc) and run again.",
    errno.EDQUOT: "Free some space (python -m pipeline data gc) and run again.",
    errno.EFBIG: "Raise the file size limit (ulimit -f) and run again.",
    errno.EROFS: "Choose a data directory that can be written.",
    errno.EACCES: "Choose a data directory that can be written, or mend its permissions.",
    errno.EPERM: "Choose a data directory that can be written, or mend its permissions.",
    errno.ENOTDIR: "Something that is not a directory is in the way; move it.",
    errno.EEXIST: "Something that is not a directory is in the way; move it.",
}

# What a full or read-only disk raises wherever it is met; anything else may be a bug in the code that met it.
DISK_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})


def disk_error(err: OSError, where: str, note: str = "") -> StoreError:
    """An OSError as a one-line StoreError; ``note`` says what became of the versions."""
    said = (err.strerror or str(err) or type(err).__name__).rstrip(".")
    at = f" at {err.filename}" if err.filename and str(err.filename) != where else ""
    mend = _MENDS.get(err.errno or 0, "Check the disk and run again.")
    return StoreError(where, f"{said}{at}{'; ' + note if note else ''}.", mend)


# What a C++ or Rust writer says of a full disk: it raises no OSError, so there is no errno to ask.
_DISK_WORDS = ("no space left", "file write failed", "file too large", "unexpected pos", "os error 28")


def disk_failure(err: BaseException, directory: Path) -> OSError | None:
    """The OSError behind ``err`` where the disk of ``directory`` failed, else None."""
    cause: BaseException | None = err
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in DISK_ERRNOS:
            return cause
        cause = cause.__cause__ or cause.__context__
    if not any(words in str(err).lower() for words in _DISK_WORDS):
        return None
    try:
        # torch and safetensors lose the errno: what they could not write, this cannot either.
        with (directory / "probe").open("wb") as file:
            file.write(bytes(1 << 20))
            file.flush()
            os.fsync(file.fileno())
    except OSError as full:
        return full
    return OSError(0, first_line(err), str(directory))


# What file managers, editors and network file systems leave beside the files they look at.
_LITTER = re.compile(
    r"\.DS_Store|\._.*|\.AppleDouble|Thumbs\.db|desktop\.ini|\.directory|\.nfs[0-9a-fA-F]+|.*~|#.*#|\..*\.sw[a-p]",
    re.IGNORECASE,
)


_HOME = re.compile(r"~([A-Za-z0-9._-]*/|$)")


def expand_home(text: str, where: str) -> str:
    """Expand ``~/`` or ``~name/`` at the beginning of ``text`` to that home, as a shell does.

    Raises:
        ConfigError: there is no such user.
    """
    if not _HOME.match(text):
        return text
    try:
        return str(Path(text).expanduser())
    except RuntimeError as err:
        raise ConfigError(where, f"{text!r} begins with a user who is not there.") from err


def is_litter(name: str) -> bool:
    """Whether a file manager, an editor or a network file system leaves files of this name behind."""
    return _LITTER.fullmatch(name) is not None


@contextlib.contextmanager
def disk_errors(where: str, note: Callable[[], str] = str) -> Generator[None, None, None]:
    """Turn the OSErrors of the block into StoreErrors.

    Args:
        note: called only on failure, for what it says about the state left behind.
    Raises:
        StoreError: instead of any OSError.
    """
    try:
        yield
    except OSError as err:
        raise disk_error(err, where, note()) from err


def fsync(path: Path) -> None:
    """Flush one file or one directory's entries to the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_dirs(path: Path) -> None:
    """``mkdir -p`` whose new entries survive a power cut."""
    missing = [p for p in (path, *path.parents) if not p.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for made in missing:
        fsync(made.parent)


def sha256_file(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a new or staged file and fsync it."""
    with path.open("w", encoding="utf-8") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())


def prepare_json(path: Path, value: object) -> Path:
    """Write ``value`` next to ``path`` under a temporary name, ready for :func:`os.replace` or :func:`os.link`."""
    make_dirs(path.parent)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}"
    try:
        write_text(temporary, json.dumps(value, ensure_ascii=False, indent=2) + "\n")
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def replace_json(path: Path, value: object) -> None:
    """Write ``value`` to ``path`` in one step: a reader sees the old file or the new one."""
    temporary = prepare_json(path, value)
    os.replace(temporary, path)
    fsync(path.parent)


def replace_text(path: Path, text: str, aside: Path) -> None:
    """Write ``text`` to ``path`` in one step.

    Args:
        aside: a directory of the same disk, where a kill may leave the half-written file.
    """
    make_dirs(aside)
    temporary = aside / f".{path.name}.{uuid.uuid4().hex}"
    try:
        write_text(temporary, text)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    fsync(path.parent)


def read_json(path: Path) -> JsonObject:
    """A JSON object from a file.

    Raises:
        StoreError: the file is not a JSON object or cannot be read. A missing file is a FileNotFoundError.
    """
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except OSError as err:
        raise disk_error(err, str(path)) from err
    except ValueError as err:
        raise StoreError(str(path), f"is damaged: not valid JSON ({err}).") from err
    if not isinstance(value, dict):
        raise StoreError(str(path), "is damaged: not a JSON object.")
    return cast("JsonObject", value)


@contextlib.contextmanager
def locked(path: Path) -> Generator[None, None, None]:
    """Hold an exclusive lock on ``path``. The kernel drops it when the holder dies, so none is ever stale."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def hold(directory: Path, wait: bool = True) -> int:
    """A file descriptor that locks ``directory`` for as long as it is open: the sign of a living writer.

    Raises:
        BlockingIOError: without ``wait``, another process holds it.
    """
    fd = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BaseException:
        os.close(fd)
        raise
    return fd


def is_held(directory: Path) -> bool:
    """Whether some process still has :func:`hold` on ``directory``."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
