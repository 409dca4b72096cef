"""Name the split that a file of rows belongs to, by the Hub's conventions for file names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from pipeline.base.errors import DataError
from pipeline.sources.row_files import file_kind

_SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}")
_SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
}
_NOT_ROWS = {
    "manifest.json",
    "state.json",
    "dataset_info.json",
    "dataset_infos.json",
    "dataset_dict.json",
    "config.json",
    "attribution.json",
}


def files_by_split(names: Iterable[str]) -> dict[str, list[str]]:
    """Files by split: ``train-00000-of-00001.parquet``, ``test.jsonl``, ``dev/part.csv``.

    Files that name no split are ``train`` where no other file is; otherwise they are notes or statistics.

    Args:
        names: of all files below one directory, with ``/`` between their parts.
    """
    listed = sorted(names)
    saved = "dataset_dict.json" in listed
    named: dict[str, list[str]] = {}
    unnamed: list[str] = []
    for name in listed:
        inside = PurePosixPath(name)
        if inside.name in _NOT_ROWS or file_kind(inside) is None or any(p[0] in "._" for p in inside.parts):
            continue
        split = inside.parts[0] if saved else _split_in(inside)
        (unnamed if split is None else named.setdefault(split, [])).append(name)
    if unnamed and "train" not in named:
        named["train"] = unnamed
    return named


def choose_split(there: list[str], split: str | None, source: str, where: str) -> str:
    """The split that is asked for, under its usual name too; by default ``train``, or the only one.

    Raises:
        DataError: there is no such split, or several and none is asked for.
    """
    wanted = split if split is None or split in there else _SPLIT_WORDS.get(split, split)
    if wanted is None:
        wanted = "train" if "train" in there else there[0] if len(there) == 1 else None
    if wanted not in there:
        asked = f'no split "{split}"' if split else "several splits and none is called train"
        raise DataError(where, f'"{source}" has {asked}.', f"Set split to one of: {', '.join(there)}")
    return wanted


def _split_in(inside: PurePosixPath) -> str | None:
    stem = inside.name.split(".")[0]
    shard = _SHARD.fullmatch(stem)
    if shard:
        name = shard[1].rsplit("-", 1)[-1]
        if name not in ("data", "part"):
            return name
    for part in (stem, *reversed(inside.parts[:-1])):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in _SPLIT_WORDS:
                return _SPLIT_WORDS[word]
    return None
