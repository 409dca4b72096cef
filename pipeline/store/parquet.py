"""Stream rows in and out of Parquet shards, whatever their columns; equal rows give equal bytes."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Generator, Iterable, Iterator, Mapping
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, cast

from pipeline.base.errors import DataError, StoreError, first_line
from pipeline.base.files import disk_error, fsync

Row = dict[str, Any]

GROUP_ROWS = 10_000
SHARD_BYTES = 500_000_000
_READ_ROWS = 1_000


def arrow() -> tuple[Any, Any]:
    """pyarrow and pyarrow.parquet, imported late; typed Any because pyarrow ships no types."""
    return import_module("pyarrow"), import_module("pyarrow.parquet")


def as_schema(schema: Any) -> Any:
    """A pyarrow schema from itself or from ``{"prompt": "string", "ids": "list<int32>"}``.

    Raises:
        DataError: a type that pyarrow does not know.
    """
    pa, _ = arrow()
    if not isinstance(schema, Mapping):
        # Schema metadata (pandas writes index ranges there) would make equal rows differ in bytes.
        return schema.remove_metadata()
    fields = cast("Mapping[str, str]", schema)
    return pa.schema([(name, _as_type(name, alias)) for name, alias in fields.items()])


def _as_type(column: str, alias: str) -> Any:
    pa, _ = arrow()
    if alias.startswith("list<") and alias.endswith(">"):
        return pa.list_(_as_type(column, alias[5:-1]))
    try:
        return pa.type_for_alias(alias)
    except ValueError as err:
        raise DataError(f'column "{column}"', f'type "{alias}" is not known to pyarrow.') from err


class SplitWriter:
    """Writes one split into ``directory`` as ``<split>-00000-of-00002.parquet`` and so on.

    Args:
        directory: exists already.
        where: names the version in messages.
        schema: of pyarrow or a mapping; None takes it from the first 10k rows.
    """

    def __init__(self, directory: Path, split: str, where: str, schema: Any = None) -> None:
        self.directory, self.split, self.where = directory, split, where
        self.schema = None if schema is None else as_schema(schema)
        self.rows = 0
        self._parts: list[Path] = []
        self._writer: Any = None
        self._sink: Any = None

    def carry(self, shards: Iterable[Path]) -> None:
        """Take over finished shards without writing their bytes again. Called before any row is written."""
        for shard in shards:
            meta = read_footer(shard, self.where)
            schema = meta.schema.to_arrow_schema().remove_metadata()
            if self.schema is None:
                self.schema = schema
            elif not schema.equals(self.schema):
                what = f'split "{self.split}" would carry columns {_spell(schema)}, not {_spell(self.schema)}.'
                raise DataError(self.where, what, "Write all rows instead of carrying them.")
            if meta.num_rows:
                link_or_copy(shard, self._next_part())
                self.rows += meta.num_rows

    def write(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Any]:
        """Write all rows; yields each record batch as stored, so that a caller can compute ids from it.

        Raises:
            DataError: a row that does not fit the columns; nothing in it is dropped silently.
        """
        stream = iter(rows)
        while chunk := list(islice(stream, GROUP_ROWS)):
            batch = self._to_batch(chunk)
            self._write_batch(batch)
            yield batch
        self._close_shard()

    def finish(self) -> list[Path]:
        """Give the shards their final names. No rows leave one empty shard, if a schema is known."""
        if not self._parts and self.schema is not None:
            self._open_shard()
            self._close_shard()
        final: list[Path] = []
        for number, part in enumerate(self._parts):
            name = f"{self.split}-{number:05d}-of-{len(self._parts):05d}.parquet"
            final.append(part.rename(self.directory / name))
        return final

    def abort(self) -> None:
        """Drop what is open, after an error: the staging directory is about to go."""
        if self._writer is None:
            return
        # Its finaliser would write the footer to the file closed here, and complain on stderr.
        self._writer.is_open = False
        with contextlib.suppress(OSError):
            self._sink.close()

    def _to_batch(self, chunk: list[Mapping[str, Any]]) -> Any:
        pa, _ = arrow()
        if self.schema is None:
            # from_pylist looks at the first row only; a column may first appear later.
            names = list(dict.fromkeys(name for row in chunk for name in row))
            self.schema = self._infer(names, chunk)
        known = set(self.schema.names)
        nested = [f for f in self.schema if pa.types.is_nested(f.type)]
        for at, row in enumerate(chunk, start=self.rows):
            # pyarrow drops keys that the schema lacks without a word.
            if row.keys() <= known and not nested:
                continue
            extra = [k for k in row if k not in known]
            extra += [p for f in nested for p in _unstored(row.get(f.name), f.type, f.name)]
            if extra:
                what = f'split "{self.split}", row {at}: "{extra[0]}" is not in the columns {_spell(self.schema)}.'
                raise DataError(self.where, what, "Pass a schema that has it.")
        try:
            return pa.RecordBatch.from_pylist(chunk, schema=self.schema)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as err:
            raise DataError(
                self.where,
                f'split "{self.split}", rows {self.rows} to {self.rows + len(chunk) - 1} do not fit the columns '
                f"{_spell(self.schema)}: {err}.",
                "Pass a schema, or mend the rows.",
            ) from err

    def _infer(self, names: list[str], chunk: list[Mapping[str, Any]]) -> Any:
        pa, _ = arrow()
        fields: list[Any] = []
        for name in names:
            try:
                types = pa.array([row.get(name) for row in chunk]).type
            except (pa.ArrowException, TypeError, ValueError, OverflowError) as err:
                what = f'split "{self.split}": column "{name}" has no single type: {err}.'
                raise DataError(self.where, what) from err
            if pa.types.is_struct(types) and types.num_fields == 0:
                raise DataError(
                    self.where,
                    f'split "{self.split}": column "{name}" holds only empty mappings; Parquet cannot store that.',
                    "Store it as JSON text.",
                )
            fields.append((name, types))
        return pa.schema(fields)

    def _write_batch(self, batch: Any) -> None:
        writer = self._writer or self._open_shard()
        before = self._sink.tell()
        writer.write_batch(batch, row_group_size=GROUP_ROWS)
        self.rows += batch.num_rows
        # Close before the next group of about this size would go over, so that shards stay under the limit.
        if self._sink.tell() + (self._sink.tell() - before) > SHARD_BYTES:
            self._close_shard()

    def _next_part(self) -> Path:
        part = self.directory / f".{self.split}.{len(self._parts):05d}.part"
        self._parts.append(part)
        return part

    def _open_shard(self) -> Any:
        _, pq = arrow()
        self._sink = self._next_part().open("wb")
        self._writer = pq.ParquetWriter(
            self._sink,
            self.schema,
            compression="zstd",
            use_content_defined_chunking=True,
            write_page_index=True,
            write_page_checksum=True,
        )
        return self._writer

    def _close_shard(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        self._sink.close()
        self._writer = self._sink = None
        shard = self._parts[-1]
        # Later versions share this file by hard link: an edit in place would change them all.
        shard.chmod(0o444)
        fsync(shard)


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link; copy where the file system cannot (another disk, no links)."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        target.chmod(0o444)
        fsync(target)


def read_batches(shards: Iterable[Path], where: str, columns: list[str] | None = None) -> Iterator[Any]:
    """Record batches of up to 1000 rows, in the order written.

    Raises:
        DataError: a column that is not there.
        StoreError: a shard that is missing or corrupt.
    """
    _, pq = arrow()
    for shard in shards:
        with _reading(shard, where):
            # pyarrow's read-ahead keeps what it has read until the shard's end (480 MB), and takes twice as long.
            file = pq.ParquetFile(shard, page_checksum_verification=True, pre_buffer=False)
        with file:
            names: list[str] = file.schema_arrow.names
            missing = [c for c in columns or [] if c not in names]
            if missing:
                raise DataError(where, f'no column "{missing[0]}".', f"There are: {', '.join(names) or 'none'}.")
            batches = file.iter_batches(batch_size=_READ_ROWS, columns=columns)
            while True:
                # Not around the yield: what the consumer raises there is its own.
                with _reading(shard, where):
                    batch = next(batches, None)
                if batch is None:
                    break
                yield batch


def read_footer(shard: Path, where: str) -> Any:
    """The Parquet metadata of a shard.

    Raises:
        StoreError: it is missing or corrupt.
    """
    _, pq = arrow()
    with _reading(shard, where):
        return pq.read_metadata(shard)


@contextlib.contextmanager
def _reading(shard: Path, where: str) -> Generator[None, None, None]:
    pa, _ = arrow()
    verify = "Run: python -m pipeline data verify"
    try:
        yield
    except FileNotFoundError as err:
        raise StoreError(where, f"{shard.name} is missing.", verify) from err
    except (pa.ArrowException, OSError) as err:
        if isinstance(err, OSError) and err.errno:
            raise disk_error(err, where) from err
        raise StoreError(where, f"{shard.name} is corrupt ({first_line(err)}).", verify) from err


def _spell(schema: Any) -> str:
    return "{" + ", ".join(f"{f.name}: {f.type}" for f in schema) + "}"


def _unstored(value: Any, kind: Any, path: str) -> list[str]:
    """Paths of nested keys in ``value`` that the arrow type ``kind`` has no field for."""
    pa, _ = arrow()
    if isinstance(value, Mapping) and pa.types.is_struct(kind):
        fields = {f.name: f.type for f in kind}
        nested = cast("Mapping[str, Any]", value)
        return [
            lost
            for key, inner in nested.items()
            for lost in (
                [f"{path}.{key}"] if key not in fields else _unstored(inner, fields[key], f"{path}.{key}")
            )
        ]
    if isinstance(value, list | tuple) and (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        if not pa.types.is_nested(kind.value_type):
            return []
        items = cast("list[Any]", value)
        return [lost for inner in items for lost in _unstored(inner, kind.value_type, f"{path}[]")]
    return []
