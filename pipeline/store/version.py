"""One published version: its manifest, its rows, and the check of its files against the manifest."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base.errors import DataError, StoreError
from pipeline.base.files import disk_error, sha256_file
from pipeline.base.json_values import parse_json
from pipeline.base.records import digest
from pipeline.store.manifest import FileEntry, Manifest
from pipeline.store.parquet import Row, read_batches
from pipeline.store.refs import spell

# Not listed in a manifest's files: it cannot hold its own sha256, and a card may be reworded.
UNLISTED = frozenset({"manifest.json", "README.md"})


ADAPTER_CONFIG, BASE_KEY = "adapter_config.json", "base_model_name_or_path"
"""The file of an adapter that says where its base is, and its key for that."""
READER_HEADS = "readers/heads.safetensors"
"""Of a shared reward model: the heads that it learnt for readers. Nothing in a folder is published."""


def adapter_digest(path: Path) -> str | None:
    """A digest of an adapter's config without the path of its base; None where it cannot be read."""
    try:
        return config_digest(parse_json(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def config_digest(config: Mapping[str, Any]) -> str:
    """A digest of an adapter's config without the path of its base."""
    return digest({k: v for k, v in config.items() if k != BASE_KEY})


def split_key(split: str, config: str = "default") -> str:
    """``train``, or ``votes/train`` for another config than the default one."""
    return split if config == "default" else f"{config}/{split}"


@dataclass(frozen=True)
class Version:
    """An immutable directory under ``data/<name>/versions/``, or one like it anywhere else."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> Version:
        """Read the version in ``path``.

        Raises:
            StoreError: there is no manifest, it is damaged, or a newer version of this package wrote it.
        """
        file = path / "manifest.json"
        try:
            text = file.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError) as err:
            raise StoreError(str(path), "is not a version: it has no manifest.json.") from err
        except UnicodeDecodeError as err:
            raise StoreError(str(path), f"manifest.json is damaged: {err}.") from err
        except OSError as err:
            raise disk_error(err, str(file)) from err
        return cls(path, Manifest.from_json(text, str(path)))

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def number(self) -> int:
        return self.manifest.version

    @property
    def ref(self) -> str:
        return self.manifest.ref

    @property
    def id(self) -> str:
        """Content id: equal rows and equal weights have an equal one, on any machine."""
        return self.manifest.id

    @property
    def where(self) -> str:
        """How messages name it: ``data/reviews-preferences@v000003``, or its path outside a store."""
        in_store = self.path.name == spell(self.number) and self.path.parent.name == "versions"
        return f"{self.path.parents[2]}/{self.ref}" if in_store else str(self.path)

    @property
    def made_as(self) -> str:
        """What it is, for a message that it is the wrong one."""
        return f"of kind {self.manifest.kind}, made by {self.manifest.stage}"

    @property
    def splits(self) -> dict[str, int]:
        """Rows of each split; see :func:`split_key` for the keys."""
        return {key: split.rows for key, split in self.manifest.splits.items()}

    def has_split(self, split: str = "train", config: str = "default") -> bool:
        return split_key(split, config) in self.manifest.splits

    def shards(self, split: str = "train", config: str = "default") -> list[Path]:
        """The Parquet files of a split, in order.

        Raises:
            DataError: there is no such split.
        """
        files = self.manifest.splits.get(split_key(split, config))
        if files is None:
            there = ", ".join(self.manifest.splits) or "none"
            raise DataError(self.where, f'no split "{split_key(split, config)}".', f"There are: {there}.")
        return [self.path / f.path for f in files.files]

    def iter_rows(
        self, split: str = "train", config: str = "default", columns: list[str] | None = None
    ) -> Iterator[Row]:
        """Rows in the order written, holding 1000 at a time.

        Raises:
            DataError: no such split or column.
            StoreError: a shard is missing or corrupt.
        """
        shards = self.shards(split, config)
        return (row for batch in read_batches(shards, self.where, columns) for row in batch.to_pylist())

    def iter_all(self) -> Iterator[Row]:
        """The rows of all splits of all configs; see :meth:`iter_rows`."""
        for key in self.manifest.splits:
            config, _, split = key.rpartition("/")
            yield from self.iter_rows(split, config or "default")

    def rows(self, split: str = "train", config: str = "default", columns: list[str] | None = None) -> list[Row]:
        """All rows of a split at once; see :meth:`iter_rows`."""
        return list(self.iter_rows(split, config, columns))

    def verify(self) -> list[str]:
        """All that is not as the manifest says, one line each: damage, and files that it does not list."""
        listed = {f.path for f in self.manifest.files} | UNLISTED
        strays = [path for path in list_files(self.path) if path not in listed]
        return self.damage() + [f"{self.where}: {path} is not in the manifest" for path in strays]

    def damage(self) -> list[str]:
        """The missing and changed files of the version, a line each; empty where it is intact.

        A file beside those of the manifest is no damage: a file manager or an editor left it, nobody reads it.
        """
        problems: list[str] = []
        for entry in self.manifest.files:
            try:
                found = _file_problem(self.path / entry.path, entry)
            except OSError as err:
                found = f"cannot be read ({err.strerror})"
            portable = self.manifest.portable.get(entry.path)
            if found and (portable is None or adapter_digest(self.path / entry.path) != portable):
                problems.append(f"{self.where}: {entry.path} {found}")
        if self.path.parent.name == "versions" and self.path.name != spell(self.number):
            problems.append(f"{self.where}: the manifest says it is {spell(self.number)}")
        return problems


def _file_problem(path: Path, entry: FileEntry) -> str | None:
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    if size != entry.bytes:
        return f"has {size} bytes, the manifest says {entry.bytes}"
    return None if sha256_file(path) == entry.sha256 else "does not match its sha256"


def list_files(directory: Path) -> list[str]:
    """Paths of all files under ``directory``, relative, with forward slashes, sorted."""
    return sorted(
        (Path(base) / name).relative_to(directory).as_posix()
        for base, _, names in os.walk(directory)
        for name in names
    )
