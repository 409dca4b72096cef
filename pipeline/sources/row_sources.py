"""Stream rows, as they are and in order, from a local file, a directory, or a dataset on the Hub."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pipeline.base.errors import DataError, PipelineError, first_line
from pipeline.sources import hub, hub_files
from pipeline.sources.remote_files import RemoteFile, filesystem, is_url, remote_files, unreadable
from pipeline.sources.row_files import Located, Row, file_kind, read_file
from pipeline.sources.split_names import choose_split, files_by_split

_HUB = "hf://datasets/"
_HUB_URL = re.compile(r"(?P<name>[^/@]+(/[^/@]+)?)(@(?P<revision>[^/]+))?(/(?P<files>.+))?", re.DOTALL)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def located_rows(
    source: str, *, split: str | None = None, subset: str | None = None, revision: str | None = None, where: str
) -> Iterator[Located]:
    """``(place, row)`` for every row; ``place`` is ``file:line``, for messages.

    Args:
        source: a file (``.jsonl .json .csv .tsv .txt .parquet``); a directory (of such files, in a Hub
            repository's layout, a version of ours, or written by ``save_to_disk``); or a Hub id such as
            ``stanfordnlp/imdb``. ``hf://datasets/org/name`` is the Hub even where a directory ``org`` exists. A
            URL of files (``hf://datasets/org/name/data/*.parquet``, ``s3://bucket/pairs/``) is read in pieces,
            where it is.
        split: by default ``train``, or the only split there is.
        subset: a subdirectory, or the Hub's configuration name.
        revision: the Hub's branch, tag or commit.
        where: who asked, for messages: a config key.
    Raises:
        DataError: nothing there, at once; anything unreadable in it, when it is reached.
    """
    dataset = hub_dataset(source)
    if dataset is not None:
        revision = hub_revision(source, revision, where)
        if (pattern := _hub_pattern(source)) is not None:
            files = _streamed(dataset, pattern, split, subset, revision, where)
            return _rows_of_files(files, source)
        return _hub_rows(dataset, split, subset, revision, where)
    check_source(source, where)
    if is_url(source):
        if revision is not None:
            raise DataError(where, f'"{source}" has no revisions.', "Remove revision.")
        return _rows_of_files(remote_files(source, split, subset, where), source)
    path = Path(source).expanduser()
    if revision is not None:
        raise DataError(where, f'"{source}" is local and has no revisions.', "Remove revision.")
    return _rows_of_files(_local_files(path, split, subset, where), source)


def check_source(source: str, where: str) -> None:
    """Refuse a source of rows that is neither on this machine nor the name of something on the Hub.

    Raises:
        DataError: it is neither.
    """
    if hub_dataset(source) is None and is_url(source):
        filesystem(source, where)
        return
    if not source.strip():
        raise DataError(where, "no file is named: the name is empty.", "Name one; . is this directory.")
    path = Path(source).expanduser()
    if hub_dataset(source) is None and not path.exists():
        raise DataError(where, f'no file or directory "{source}".', _near(path))


def hub_dataset(source: str) -> str | None:
    """The Hub id that ``source`` means; None where it means something local."""
    if source.startswith(_HUB):
        match = _HUB_URL.fullmatch(source.removeprefix(_HUB))
        return match["name"] if match else source.removeprefix(_HUB)
    path = Path(source).expanduser()
    if path.exists() or not _HUB_ID.fullmatch(source) or file_kind(path) is not None or _looks_local(path):
        return None
    return source


def hub_revision(source: str, revision: str | None, where: str) -> str | None:
    """The revision of the Hub that a source is read at: ``revision``, or that of ``hf://datasets/org/name@v1``.

    Raises:
        DataError: both are there, and differ.
    """
    match = _HUB_URL.fullmatch(source.removeprefix(_HUB)) if source.startswith(_HUB) else None
    named = match["revision"] if match else None
    if named is not None and revision not in (None, named):
        raise DataError(
            where, f'"{source}" names a revision, and revision is "{revision}".', "Remove one of them."
        )
    return named or revision


def _hub_pattern(source: str) -> str | None:
    """The files that a URL of the Hub names; None of a whole dataset."""
    match = _HUB_URL.fullmatch(source.removeprefix(_HUB)) if source.startswith(_HUB) else None
    return match["files"] if match else None


def _streamed(
    dataset: str, pattern: str, split: str | None, subset: str | None, revision: str | None, where: str
) -> list[RemoteFile]:
    """Files of the Hub at one commit, which are not downloaded."""
    at = hub.dataset_at(dataset, revision, where)
    return remote_files(f"{_HUB}{dataset}@{at.commit}/{pattern}", split, subset, where)


def rename_columns(row: Row, columns: Mapping[str, str]) -> Row:
    """``row`` with the columns of ``{our name: their name}`` under our names; one that is absent stays absent."""
    if not columns:
        return row
    theirs = set(columns.values())
    kept = {k: v for k, v in row.items() if k not in theirs}
    return kept | {ours: row[name] for ours, name in columns.items() if name in row}


def require_columns(row: Row, names: Iterable[str], place: str, mend: str | None = None) -> None:
    """Check that every one of ``names`` is a column.

    Raises:
        DataError: names the missing column, the columns there are, and ``mend`` (by default how to map one).
    """
    for name in names:
        if name not in row:
            there = ", ".join(row) or "none"
            near = difflib.get_close_matches(name, row, n=1) or [k for k in row if k] or ["their_name"]
            what = f'no column "{name}"; the columns are: {there}.'
            raise DataError(place, what, mend or f"If one of them is it, map it:  columns: {{{name}: {near[0]}}}")


def _looks_local(path: Path) -> bool:
    # "data/typo" has the shape of a Hub id; asking the network about it would only hide the typo.
    return path.parent != Path(".") and path.parent.is_dir()


def _near(path: Path) -> str:
    if not path.parent.is_dir():
        return "Check the path; a Hub dataset is written org/name."
    there = sorted(p.name for p in path.parent.iterdir())
    near = difflib.get_close_matches(path.name, there, n=1)
    return f'Did you mean "{path.parent / near[0]}"?' if near else f"{path.parent}/ holds no such name."


def _rows_of_files(files: Sequence[Path | RemoteFile], source: str) -> Iterator[Located]:
    empty = True
    for file in files:
        for located in read_file(file) if isinstance(file, Path) else _elsewhere(file):
            empty = False
            yield located
    if empty:
        raise DataError(source, "is empty: it has no rows.", "Point to a file with at least one row.")


def _elsewhere(file: RemoteFile) -> Iterator[Located]:
    """The rows of a file elsewhere, whose reading may fail in any way."""
    try:
        yield from read_file(file)
    except PipelineError:
        raise
    except Exception as err:
        raise unreadable(file, err) from err


def _local_files(path: Path, split: str | None, subset: str | None, where: str) -> list[Path]:
    if path.is_file():
        if split not in (None, "train") or subset is not None:
            asked = f"subset {subset!r}" if subset is not None else f"split {split!r}"
            raise DataError(where, f'"{path}" is one file; it has no {asked}.', "Remove it, or name a directory.")
        return [path]
    if (path / "versions").is_dir() and (path / "refs").is_dir():
        versions = sorted(p for p in (path / "versions").iterdir() if p.is_dir())
        example = versions[-1] if versions else path / "versions" / "v000001"
        raise DataError(where, f'"{path}" holds versions, not rows.', f"Name one of them: {example}")
    if subset is None and (path / "manifest.json").is_file() and (path / "data").is_dir():
        subset = "data"  # a version of ours, whose other directories are other configs: votes, items ...
    root = path / subset if subset is not None else path
    if not root.is_dir():
        there = ", ".join(sorted(p.name for p in path.iterdir() if p.is_dir())) or "none"
        raise DataError(where, f'"{path}" has no subset "{subset}".', f"Its directories: {there}")
    by_split = files_by_split(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
    if not by_split:
        raise DataError(where, f'"{root}" holds no file of rows.', "Known: .jsonl .json .csv .tsv .txt .parquet")
    return [root / name for name in by_split[choose_split(list(by_split), split, str(root), where)]]


def _hub_rows(
    dataset: str, split: str | None, subset: str | None, revision: str | None, where: str
) -> Iterator[Located]:
    at = hub.dataset_at(dataset, revision, where)
    wanted = hub_files.choose(at, split, subset, where)
    if isinstance(wanted, list):
        return _rows_of_files(hub.fetch(at, wanted, where), dataset)
    return _prepared_rows(at, wanted.files, split, subset, where)


def _prepared_rows(
    at: hub.DatasetAt, files: list[str], split: str | None, subset: str | None, where: str
) -> Iterator[Located]:
    """Rows that only ``datasets`` can read (archives, options in the card), from the snapshot of that commit."""
    hub.fetch(at, files, where)
    datasets: Any = importlib.import_module("datasets")  # slow to load
    try:
        loaded: Any = datasets.load_dataset(str(at.path), subset, split=split)
    except Exception as err:  # whatever it is, it is about their files
        local = "Or convert it elsewhere and give the path of a local file or directory instead."
        raise DataError(where, f"{at.name} cannot be read: {first_line(err)}.", local) from err
    if isinstance(loaded, dict):
        splits = cast("dict[str, Any]", loaded)
        loaded = splits[choose_split(list(splits), None, at.name, where)]
    if not len(loaded):
        raise DataError(at.name, "is empty: it has no rows.", "Choose another split or subset.")
    return ((f"{at.name}: row {number}", dict(row)) for number, row in enumerate(loaded, 1))
