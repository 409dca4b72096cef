"""Files of rows elsewhere, by a URL: ``s3://bucket/pairs/*.parquet``; they are read in pieces, never downloaded.

Whatever fsspec opens can be read; of most protocols it needs a further package (``s3fs``).
"""

from __future__ import annotations

import functools
import importlib
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

from pipeline.base.errors import DataError, first_line
from pipeline.base.records import digest
from pipeline.sources.row_files import file_kind
from pipeline.sources.split_names import choose_split, files_by_split

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://(.+)", re.DOTALL)
_GLOB = re.compile(r"[*?\[]")
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}


@dataclass(frozen=True)
class RemoteFile:
    """A file of rows elsewhere; what :mod:`pipeline.sources.row_files` needs of a path.

    Attributes:
        url: how messages name it.
    """

    url: str
    system: Any
    path: str

    def __str__(self) -> str:
        return self.url

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.path).suffix

    @property
    def suffixes(self) -> list[str]:
        return PurePosixPath(self.path).suffixes

    def open(self, mode: str = "rb") -> IO[bytes]:
        """The file, of which pieces are read as they are asked for."""
        return self.system.open(self.path, mode)


def is_url(source: str) -> bool:
    """Whether ``source`` has a protocol, such as ``s3://``."""
    return _URL.fullmatch(source) is not None


def filesystem(url: str, where: str) -> Any:
    """The file system of a URL.

    Raises:
        DataError: its protocol is unknown, or needs a package that is not installed.
    """
    match = _URL.fullmatch(url)
    protocol = match[1] if match else ""
    fsspec: Any = importlib.import_module("fsspec")
    try:
        return fsspec.filesystem(protocol)
    except ImportError as err:
        package = _PACKAGES.get(protocol) or f"the package that fsspec names ({first_line(err)})"
        mend = f"Run: pip install {package}" if protocol in _PACKAGES else "Install it."
        raise DataError(where, f'"{url}" needs {package}, which is not installed.', mend) from err
    except ValueError as err:
        mend = "Give a path, a Hub id, or a URL such as s3://bucket/pairs.parquet."
        raise DataError(where, f'"{url}": the protocol {protocol}:// is not known.', mend) from err
    except Exception as err:  # whatever it is, it is about their account
        raise _unreachable(url, where, err) from err


def remote_files(url: str, split: str | None, subset: str | None, where: str) -> list[RemoteFile]:
    """The files of a URL: of one file, of a pattern (``*``), or below a directory those of a split.

    Raises:
        DataError: nothing is there, it cannot be reached, or there is no such split.
    """
    system = filesystem(url, where)
    listed = _listed(system, url, where)
    root = system._strip_protocol(url).rstrip("/")
    if _GLOB.search(url) or listed == [root]:
        if split not in (None, "train") or subset is not None:
            asked = f"subset {subset!r}" if subset is not None else f"split {split!r}"
            raise DataError(
                where, f'"{url}" names files; they have no {asked}.', "Remove it, or name a directory."
            )
        names = [name for name in listed if file_kind(PurePosixPath(name)) is not None] or listed
        return [_file(system, name) for name in names]
    below = f"{root}/{subset}/" if subset is not None else f"{root}/"
    by_split = files_by_split(name.removeprefix(below) for name in listed if name.startswith(below))
    if not by_split:
        raise DataError(where, f'"{below}" holds no file of rows.', "Known: .jsonl .json .csv .tsv .txt .parquet")
    return [_file(system, below + name) for name in by_split[choose_split(list(by_split), split, url, where)]]


@functools.cache
def content_mark(url: str, where: str = "") -> str:
    """A digest of what the file system says of a URL's files (sizes, ETags, times), which changes with them.

    Raises:
        DataError: it cannot be reached.
    """
    system = filesystem(url, where or url)
    try:
        return digest([[name, system.ukey(name)] for name in _listed(system, url, where or url)])
    except DataError:
        raise
    except Exception as err:  # whatever it is, it is about their server
        raise _unreachable(url, where or url, err) from err


def unreadable(file: RemoteFile, err: Exception) -> DataError:
    """The error of a file that broke off while it was read."""
    return DataError(str(file), f"cannot be read ({first_line(err)}).", "Check the network and the credentials.")


def _listed(system: Any, url: str, where: str) -> list[str]:
    try:
        names = system.glob(url) if _GLOB.search(url) else system.find(url)
    except Exception as err:  # whatever it is, it is about their server
        raise _unreachable(url, where, err) from err
    files = sorted(str(name) for name in names)
    if not files:
        raise DataError(where, f'there is no file "{url}".', "Check the URL.")
    return files


def _file(system: Any, name: str) -> RemoteFile:
    return RemoteFile(system.unstrip_protocol(name), system, name)


def _unreachable(url: str, where: str, err: Exception) -> DataError:
    mend = "Check the URL, the network and the credentials."
    if isinstance(err, FileNotFoundError):
        return DataError(where, f'there is no file "{url}".', "Check the URL.")
    return DataError(where, f'"{url}" cannot be read ({first_line(err)}).', mend)
