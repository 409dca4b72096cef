"""A version in the making: a staging directory that becomes a version as a whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.base.errors import PipelineError, StoreError
from pipeline.base.files import (
    DISK_ERRNOS,
    disk_error,
    disk_errors,
    disk_failure,
    fsync,
    hold,
    is_litter,
    make_dirs,
    sha256_file,
    write_text,
)
from pipeline.base.records import digest
from pipeline.base.required import REQUIRED, strictest
from pipeline.store import content_id, dataset_card, refs
from pipeline.store.manifest import FileEntry, JsonDict, Manifest, Parent, Split, code_version, environment
from pipeline.store.parquet import SplitWriter, arrow, read_batches
from pipeline.store.publish import head_note, publish
from pipeline.store.version import ADAPTER_CONFIG, UNLISTED, Version, adapter_digest, list_files, split_key


class Draft:
    """A version being written; use it in a ``with`` block, and :attr:`version` after the block.

    Attributes:
        path: the staging directory; further files may be written into it (an adapter, metrics.jsonl).
        stats, models, datasets, device: go into the manifest.
        instead_of: the number of the version whose place this one is to take.
        environment, expected_id: of content that was made elsewhere: in which packages, and what it has to be.
        version: the published version, set when the block ends without an exception.
    """

    def __init__(
        self,
        home: Path,
        manifest: Manifest,
        expect_head: Version | int | None = None,
        republish_if_changed: bool = False,
    ) -> None:
        self.home = home
        self.path = home / ".staging" / uuid.uuid4().hex
        self.stats: JsonDict = {}
        self.models: list[JsonDict] = []
        self.datasets: list[JsonDict] = []
        self.device = "cpu"
        self.card: Callable[[Manifest], str] | None = None
        self.instead_of: int | None = None
        self.environment: dict[str, str] | None = None
        self.expected_id: str | None = None
        self._version: Version | None = None
        self._manifest = manifest
        self._republish_if_changed = republish_if_changed
        self._expect_head = expect_head.number if isinstance(expect_head, Version) else expect_head
        self._splits: dict[str, _Written] = {}
        self._held: int | None = None
        self._started = time.monotonic()

    @property
    def version(self) -> Version:
        """Raises StoreError before the block has ended, and after one that failed."""
        if self._version is None:
            raise StoreError(str(self.home), "nothing was published by this draft.")
        return self._version

    def __enter__(self) -> Draft:
        with disk_errors(str(self.home), self._note):
            make_dirs(self.path)
            self._held = hold(self.path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            failed = None if isinstance(err, PipelineError | None) else disk_failure(err, self.path)
            if failed is not None:
                raise disk_error(failed, str(self.home), self._note()) from err
            if err is None:
                with disk_errors(str(self.home), self._note):
                    self._version = self._publish()
        finally:
            if self._held is not None:
                os.close(self._held)
            shutil.rmtree(self.path, ignore_errors=True)

    def write_rows(
        self,
        split: str,
        rows: Iterable[Mapping[str, Any]],
        config: str = "default",
        schema: Any = None,
        carry: Version | None = None,
    ) -> int:
        """Stream rows into Parquet shards; returns how many rows the split now has.

        Args:
            schema: a pyarrow schema or ``{"prompt": "string"}``. None takes that of ``carry``, else of another
                split of the same config, else that of the first 10k rows.
            carry: a version whose shards of this split come first, by hard link, without being rewritten.
        Raises:
            DataError: rows that do not fit the columns; ``carry`` lacks the split.
            StoreError: the disk is full or read-only; a carried shard is corrupt.
            ValueError: the split was already written, or a name cannot be a file name.
        """
        key = split_key(split, config)
        _check_words(split, config)
        if key in self._splits:
            raise ValueError(f"split {key!r} was already written; pass all its rows in one call")
        kept = [] if carry is None else carry.shards(split, config)
        if schema is None and not kept:
            schema = next((w.schema for w in self._splits.values() if w.config == config), None)
        written = self._write(
            SplitWriter(self.path / _directory(config), split, str(self.home), schema), rows, kept
        )
        known = {} if carry is None else _hashes(carry, key, kept, written.files)
        self._splits[key] = dataclasses.replace(written, config=config, known=known)
        return written.rows

    def _write(self, writer: SplitWriter, rows: Iterable[Mapping[str, Any]], kept: list[Path]) -> _Written:
        ids = content_id.RowIds(self.path)
        try:
            writer.directory.mkdir(exist_ok=True)
            writer.carry(kept)
            for batch in read_batches(kept, writer.where, _id_column(writer.schema)):
                ids.add(batch, writer.where)
            for batch in writer.write(rows):
                ids.add(batch, writer.where)
            files = writer.finish()
        except BaseException as err:
            writer.abort()
            # The iterable may read files of its own: only what is surely the disk's failure is told as such.
            if isinstance(err, OSError) and err.errno in DISK_ERRNOS:
                raise disk_error(err, str(self.home), self._note()) from err
            raise
        return _Written("", writer.split, writer.schema, writer.rows, files, ids.digest(), {})

    def _note(self) -> str:
        return head_note(self.home)

    def _publish(self) -> Version:
        known = {path: sha for w in self._splits.values() for path, sha in w.known.items()}
        files = _entries(self.path, known)
        by_path = {f.path: f for f in files}
        splits: dict[str, Split] = {}
        for key, w in self._splits.items():
            own = [by_path[p.relative_to(self.path).as_posix()] for p in w.files]
            splits[key] = Split(w.rows, sum(f.bytes for f in own), own)
        id = content_id.content_id({key: w.digest for key, w in self._splits.items()}, files)
        if self.expected_id not in (None, id):
            raise StoreError(str(self.home), "its content is not what its manifest says.", "Nothing was written.")
        manifest = dataclasses.replace(
            self._manifest,
            id=id,
            created_at=refs.now(),
            models=plain(self.models),
            datasets=plain(self.datasets),
            environment=environment(self.device) if self.environment is None else self.environment,
            splits=splits,
            files=files,
            portable=_portable(self.path, files),
            stats=plain(self.stats),
            wall_seconds=round(time.monotonic() - self._started, 3),
        )
        copied = (self.path / "README.md").exists()

        def finish(number: int) -> Manifest:
            numbered = dataclasses.replace(manifest, version=number)
            if self.card is not None or not copied:
                write_text(self.path / "README.md", self._card(numbered))
            write_text(self.path / "manifest.json", numbered.to_json())
            return numbered

        fsync_tree(self.path)
        same_files = files if self._republish_if_changed else None
        return publish(self.home, self.path, manifest.key, finish, self._expect_head, same_files, self.instead_of)

    def _card(self, manifest: Manifest) -> str:
        if self.card is not None:
            return self.card(manifest)
        _, pq = arrow()
        return dataset_card.render_card(
            manifest, dataset_card.card_splits(manifest, lambda path: pq.read_metadata(self.path / path))
        )


@dataclasses.dataclass(frozen=True)
class _Written:
    config: str
    split: str
    schema: Any
    rows: int
    files: list[Path]
    digest: str
    known: dict[Path, str]


def new_manifest(
    name: str,
    kind: str,
    stage: str,
    key: str | None,
    parents: Sequence[tuple[Version, str]],
    config: Mapping[str, Any] | None,
    seed: int | None,
    governance: Mapping[str, Any] | None,
) -> Manifest:
    """The part of a manifest that is known before the stage runs."""
    settings = plain(dict(config or {}))
    rules = dict(governance or {})
    asked = (v.manifest.governance.get(REQUIRED) for v, _ in parents)
    if required := strictest(rules.get(REQUIRED), *asked, where=name):
        rules[REQUIRED] = required
    return Manifest(
        name=name,
        version=0,
        id="",
        kind=kind,
        stage=stage,
        created_at="",
        key=key,
        seed=seed,
        parents=[Parent(v.name, v.number, v.id, role) for v, role in parents],
        config=settings,
        config_hash=digest(settings),
        code=code_version(),
        governance=plain(rules),
    )


def plain(value: object) -> Any:
    """``value`` as JSON has it: tuples become lists, keys text; numpy scalars numbers; paths and the like text."""
    return json.loads(json.dumps(value, default=_plain_leaf))


def _plain_leaf(value: object) -> Any:
    item = getattr(value, "item", None)
    return item() if callable(item) and getattr(value, "ndim", None) == 0 else str(value)


def fsync_tree(directory: Path) -> None:
    """Flush every file and directory below and including ``directory``.

    Raises:
        StoreError: it holds a symbolic link, which would not mean the same on another machine.
    """
    for base, folders, names in os.walk(directory, topdown=False):
        for name in (*folders, *names):
            path = Path(base) / name
            if path.is_symlink():
                raise StoreError(str(path.relative_to(directory)), "is a link; a version holds plain files only.")
            if name in names:
                fsync(path)
        fsync(Path(base))


def _entries(directory: Path, known: Mapping[Path, str]) -> list[FileEntry]:
    entries: list[FileEntry] = []
    for relative in list_files(directory):
        path = directory / relative
        litter = any(map(is_litter, path.relative_to(directory).parts))  # it may be gone by tomorrow
        if relative not in UNLISTED and not litter and not path.is_symlink():
            entries.append(FileEntry(relative, known.get(path) or sha256_file(path), path.stat().st_size))
    return entries


def _portable(directory: Path, files: Iterable[FileEntry]) -> dict[str, str]:
    """See :attr:`pipeline.store.manifest.Manifest.portable`."""
    digests = {f.path: adapter_digest(directory / f.path) for f in files if f.path == ADAPTER_CONFIG}
    return {path: sha for path, sha in digests.items() if sha is not None}


def _hashes(carry: Version, key: str, kept: list[Path], files: list[Path]) -> dict[Path, str]:
    """sha256 of carried shards as their version recorded it, so that appending reads none of their bytes again."""
    entries = {carry.path / f.path: f for f in carry.manifest.splits[key].files}
    inodes = {(p.stat().st_dev, p.stat().st_ino): entries[p].sha256 for p in kept}
    stats = {p: (p.stat().st_dev, p.stat().st_ino) for p in files}
    return {p: inodes[inode] for p, inode in stats.items() if inode in inodes}


def _id_column(schema: Any) -> list[str] | None:
    return ["id"] if schema is not None and "id" in schema.names else None


def _directory(config: str) -> str:
    return "data" if config == "default" else config


def _check_words(split: str, config: str) -> None:
    for word in (split, config):
        if not word.replace("_", "").replace(".", "").isalnum() or word[0] == ".":
            raise ValueError(f"{word!r} cannot name a split or a config: letters, digits, _ and .")
    if config == "data":
        raise ValueError('a config cannot be called "data": the default config lives in data/')
