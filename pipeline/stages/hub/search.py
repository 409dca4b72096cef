"""Search all bytes that are to be published for what must stay here: places, names, keys, code, training state."""

from __future__ import annotations

import getpass
import json
import mmap
import os
import re
import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.base.errors import StoreError
from pipeline.sources.hub_repository import Files
from pipeline.store.parquet import arrow

_PUBLISHED = {".safetensors", ".parquet", ".json", ".md", ".jinja", ".txt", ".model"}
_STATE = re.compile(r"(training_args|optimizer|scheduler|rng_state|scaler|trainer_state)\b")
_TENSORS_OF_STATE = re.compile(r"(^|[._])(exp_avg(_sq)?|optimizer|momentum_buffer)([._]|$)")
_CODE = (b"PK\x03\x04", *(b"\x80" + bytes([n]) for n in range(2, 6)))
"""How a torch checkpoint (a zip of pickles) and a pickle begin."""
_KEY = re.compile(rb"\bhf_[A-Za-z0-9]{30,}")
_HOMES = re.compile(rb"(?:/home|/Users)/[A-Za-z0-9._-]+/|/root/|[A-Z]:\\\\?Users\\")
_EVERYBODYS = {
    "root",
    "user",
    "admin",
    "ubuntu",
    "debian",
    "runner",
    "docker",
    "localhost",
    "home",
    "local",
    "data",
}
_TEXTS = {".json", ".md", ".jinja"}
_VOCABULARY = {"tokenizer.json", "vocab.json"}


def search(repo: str, files: Files, root: Path) -> None:
    """Search the files of one repository.

    The directories of this machine and keys are searched for in every byte, in rows by their values. Any home and
    the names of user and machine are so in the texts that this package writes: rows and vocabularies hold words,
    and people's questions paths.

    Args:
        root: the data directory.
    Raises:
        StoreError: a file holds one of these, or is of a kind that is not published; with the file and the place.
    """
    places, names = _places(root), _names()
    for path, content in files.items():
        where = f"{repo}: {path}"
        _check_kind(where, path, content)
        for label, piece in _pieces(path, content):
            if (hit := _find(piece, places, names if _is_own_text(path) else None)) is not None:
                raise _refusal(f"{where}{label}", hit)


def _refusal(where: str, hit: str) -> StoreError:
    return StoreError(where, f"holds {hit}. Nothing was sent.", "Make the version anew without it.")


def _is_own_text(path: str) -> bool:
    return PurePosixPath(path).suffix in _TEXTS and path not in _VOCABULARY


def _places(root: Path) -> list[bytes]:
    """The directories of this machine that a file could name; not ``/root``, which many machines have."""
    roots = {root.absolute(), root.resolve(), Path.cwd(), Path.home(), Path(sys.prefix)}
    return sorted(f"{p}{os.sep}".encode() for p in roots if len(p.parts) > 2)


def _names() -> re.Pattern[bytes]:
    host = socket.gethostname()
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        user = ""
    words = {w for w in (user, host, host.partition(".")[0]) if len(w) > 2 and w.lower() not in _EVERYBODYS}
    either = "|".join(re.escape(w) for w in sorted(words, key=len, reverse=True)) or r"(?!)"
    return re.compile(rf"(?<![\w-])(?:{either})(?![\w-])".encode())


def _find(piece: bytes | mmap.mmap, places: Iterable[bytes], names: re.Pattern[bytes] | None) -> str | None:
    """What was found; ``names`` of user and machine, and any home, only where they are given."""
    for place in places:
        if piece.find(place) >= 0:
            return f'the place "{place.decode(errors="replace")}"'
    if names is not None and (name := names.search(piece)) is not None:
        return f'the name "{name[0].decode()}" of this machine or its user'
    if names is not None and (home := _HOMES.search(piece)) is not None:
        return f'the place "{home[0].decode(errors="replace")}"'
    return "what looks like an access token of the Hub" if _KEY.search(piece) else None


def _check_kind(where: str, path: str, content: Path | bytes) -> None:
    name = PurePosixPath(path)
    if name.suffix not in _PUBLISHED or _STATE.match(name.name):
        raise StoreError(where, "is of no kind that is published. Nothing was sent.", "Make the version anew.")
    start = content[:8] if isinstance(content, bytes) else _beginning(content)
    if start.startswith(_CODE):
        raise _refusal(where, "pickled code")
    tensors = _tensors(content, where) if name.suffix == ".safetensors" else ()
    if state := [k for k in tensors if _TENSORS_OF_STATE.search(k)]:
        raise _refusal(where, f"an optimiser's state ({state[0]})")


def _beginning(path: Path, count: int = 8) -> bytes:
    with path.open("rb") as file:
        return file.read(count)


def _tensors(content: Path | bytes, where: str) -> Sequence[str]:
    """The names in a safetensors header, of which the first eight bytes give the length."""
    try:
        if isinstance(content, bytes):
            return list(json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]))
        length = int.from_bytes(_beginning(content), "little")
        return list(json.loads(_beginning(content, 8 + min(length, 100_000_000))[8:]))
    except ValueError as err:
        raise StoreError(where, f"is no safetensors file ({err}).", "Make the version anew.") from err


def _pieces(path: str, content: Path | bytes) -> Iterator[tuple[str, bytes | mmap.mmap]]:
    """What is searched: the bytes of a file, and of Parquet, which compresses them, the texts of every row."""
    if isinstance(content, bytes):
        yield "", content
    elif content.stat().st_size:
        with content.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            yield "", mapped
    if path.endswith(".parquet"):
        yield from _texts(content)


def _texts(content: Path | bytes) -> Iterator[tuple[str, bytes]]:
    pa, pq = arrow()
    source: Any = pa.BufferReader(content) if isinstance(content, bytes) else content
    with pq.ParquetFile(source) as file:
        at = 0
        for batch in file.iter_batches(batch_size=1000):
            for number, row in enumerate(batch.to_pylist(), at):
                yield (
                    f", row {number}",
                    json.dumps(row, ensure_ascii=False, default=str).encode("utf-8", "replace"),
                )
            at += batch.num_rows
