"""Read the rows of one local file, one at a time, each with its place (``file:line``).

No file is held in memory: lines and record batches are read as they are asked for. (The one exception is a
broken ``.json``: it is read on to its end in search of the value's.)
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import json
import logging
import re
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import PurePath
from typing import IO, Any, cast

from pipeline.base.errors import DataError
from pipeline.sources.arrow_files import RowFile, arrow_rows, parquet_rows
from pipeline.sources.json_tables import table_in

Row = dict[str, Any]
Located = tuple[str, Row]
"""A row with its place, ``file:line`` (``file: row 7`` where a file has no lines), for messages."""

log = logging.getLogger(__name__)

_CHUNK = 1 << 16
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_UTF8 = "Convert it:  iconv -f WINDOWS-1252 -t UTF-8"


def file_kind(path: PurePath | RowFile) -> str | None:
    """The extension that decides how ``path`` is read (``.gz`` seen through), or None if it cannot be."""
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        kind = suffixes[-2] if len(suffixes) > 1 else ""
        return kind if kind in _READERS and kind not in (".parquet", ".arrow") else None
    return suffixes[-1] if suffixes and suffixes[-1] in _READERS else None


def read_file(path: RowFile) -> Iterator[Located]:
    """Rows of one ``.jsonl``, ``.json``, ``.csv``, ``.tsv``, ``.txt`` (each also ``.gz``), ``.parquet`` or
    ``.arrow`` file.

    Raises:
        DataError: an unknown extension; not UTF-8; broken JSON, CSV, gzip or Parquet; a JSON value that is no
            object.
    """
    kind = file_kind(path)
    if kind is None:
        extensions = " ".join(_READERS)
        raise DataError(str(path), f'cannot read a "{path.suffix}" file.', f"Known: {extensions} (text also .gz).")
    try:
        yield from _READERS[kind](path)
    except PermissionError as err:
        raise DataError(str(path), "may not be read.", "Check its permissions.") from err
    except (OSError, EOFError, zlib.error) as err:
        raise DataError(str(path), f"is truncated or corrupt ({err}).", "Fetch or write it again.") from err


def _open(path: RowFile) -> IO[bytes]:
    file = path.open("rb")
    return cast("IO[bytes]", gzip.open(file, "rb")) if path.suffix.lower() == ".gz" else file


def _not_utf8(place: str, offset: int, byte: int) -> DataError:
    if offset == 0 and byte in (0xFF, 0xFE):
        return DataError(place, "is UTF-16, not UTF-8.", "Convert it:  iconv -f UTF-16 -t UTF-8")
    return DataError(place, f"is not UTF-8: byte 0x{byte:02x} at offset {offset}.", _UTF8)


def _lines(path: RowFile) -> Iterator[tuple[int, str]]:
    offset = 0
    with _open(path) as file:
        for number, raw in enumerate(file, 1):
            try:
                text = raw.decode("utf-8")
            except UnicodeDecodeError as err:
                raise _not_utf8(f"{path}:{number}", offset + err.start, raw[err.start]) from err
            offset += len(raw)
            yield number, text.removeprefix("\ufeff") if number == 1 else text


def _jsonl(path: RowFile) -> Iterator[Located]:
    lines = ((number, line) for number, line in _lines(path) if line.strip())
    located = ((f"{path}:{number}", _object(f"{path}:{number}", line)) for number, line in lines)
    first = next(located, None)
    if first is None:
        return
    if table_in(first[1]) is None:
        yield first
    else:  # a table only where nothing follows
        second = next(located, None)
        yield from (_whole_table(path, first[1]) if second is None else None) or [first]
        if second is not None:
            yield second
    yield from located


def _object(place: str, line: str) -> Row:
    try:
        value = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as err:
        raise _broken_json(place, err, "one JSON object per line") from err
    if not isinstance(value, dict):
        mend = 'Each line should look like {"prompt": "..."}; a file that is one JSON array is named .json.'
        raise DataError(place, f"is {_json_kind(value)}, not an object.", mend)
    return cast("Row", value)


def _broken_json(place: str, err: Exception, expected: str) -> DataError:
    reason = f"{err.msg}, column {err.colno}" if isinstance(err, json.JSONDecodeError) else "nested too deeply"
    return DataError(place, f"is not JSON ({reason}).", f"Expected {expected}.")


def _json_kind(value: object) -> str:
    if value is None:
        return "null"
    names = {"list": "an array", "str": "a text", "bool": "true or false", "int": "a number", "float": "a number"}
    return names.get(value.__class__.__name__, "a value")


def _json(path: RowFile) -> Iterator[Located]:
    """Objects in one array, or one after another, each with its line.

    ``json.load`` of an array of 200 MB takes 560 MB (1,350 MB where texts hold an emoji); this takes 3.
    """
    pieces, decoder, first = _Pieces(path), json.JSONDecoder(), True
    in_array = pieces.skip_blank() and pieces.text.startswith("[")
    if in_array:
        pieces.drop(1)
    while pieces.skip_blank(","):
        if in_array and pieces.text.startswith("]"):
            pieces.drop(1)
            in_array = False
            continue
        place = f"{path}:{pieces.line}"
        if not pieces.text.startswith("{"):
            mend = 'The file should be an array of objects: [{"prompt": "..."}, ...].'
            if pieces.text.startswith("["):
                mend += ' pandas writes it with  to_json(orient="records").'
            raise DataError(place, f"holds {pieces.text[:20]!r} where an object should start.", mend)
        try:
            value, end = decoder.raw_decode(pieces.text)
        except (json.JSONDecodeError, RecursionError) as err:
            if pieces.more():
                continue
            line = pieces.line + (err.lineno - 1 if isinstance(err, json.JSONDecodeError) else 0)
            raise _broken_json(f"{path}:{line}", err, "an array of objects") from err
        pieces.drop(end)
        alone = first and not in_array and not pieces.skip_blank(",")
        yield from (alone and _whole_table(path, value)) or [(place, value)]
        first = False
    if in_array:
        raise DataError(f"{path}:{pieces.line}", 'ends before the closing "]".', "Fetch or write it again.")


def _whole_table(path: RowFile, value: Row) -> Iterator[Located] | None:
    """The rows of the one object in a file, where that is a whole table; None of any other object."""
    table = table_in(value)
    if table is None:
        return None
    rows, layout = table
    log.warning("%s: is one table as pandas writes it (%s), not an object a row", path, layout)
    return ((f"{path}: row {number}", row) for number, row in enumerate(rows, 1))


class _Pieces:
    """A text file read piece by piece. Pieces double while a value does not end: a long one stays linear."""

    def __init__(self, path: RowFile) -> None:
        self.text, self.line, self._size, self._pieces = "", 1, 1, _decoded_pieces(path)

    def more(self) -> bool:
        got = [p for p in (next(self._pieces, None) for _ in range(self._size)) if p is not None]
        self._size *= 2
        self.text += "".join(got)
        return bool(got)

    def drop(self, n: int) -> None:
        if n == 0:
            return
        self.line += self.text.count("\n", 0, n)
        self.text, self._size = self.text[n:], 1

    def skip_blank(self, also: str = "") -> bool:
        """Whether anything is left after white space."""
        while True:
            self.drop(len(self.text) - len(self.text.lstrip(" \t\r\n" + also)))
            if self.text or not self.more():
                return bool(self.text)


def _decoded_pieces(path: RowFile) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    read = 0
    with _open(path) as file:
        while True:
            raw = file.read(_CHUNK)
            pending = decoder.getstate()[0]
            try:
                text = decoder.decode(raw, final=not raw)
            except UnicodeDecodeError as err:
                raise _not_utf8(str(path), read - len(pending) + err.start, err.object[err.start]) from err
            read += len(raw)
            if not raw:
                return
            yield text


def _csv(path: RowFile, delimiter: str = ",") -> Iterator[Located]:
    try:
        # Lines are split and decoded in C: half of the time that doing it here takes.
        with io.TextIOWrapper(_open(path), encoding="utf-8-sig", newline="") as file:
            yield from _table(path, file, delimiter)
    except UnicodeDecodeError:
        for _ in _lines(path):  # which says where
            pass
        raise


def _table(path: RowFile, file: IO[str], delimiter: str) -> Iterator[Located]:
    csv.field_size_limit(2**31 - 1)
    first = next(file, "")
    if (declared := re.fullmatch(r"sep=(.)\s*", first)) is not None:  # as Excel writes it
        delimiter, lines = declared[1], iter(file)
    else:
        delimiter, lines = _separator(path, first, delimiter), itertools.chain([first], file)
    skipped = 1 if declared is not None else 0
    # Some write a blank after each comma; quotes after it are quotes too.
    spaced = all(name[:1] == " " for name in first.rstrip("\r\n").split(delimiter)[1:]) and delimiter in first
    reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=spaced and declared is None)
    header: list[str] = []
    line = 0
    try:
        for fields in reader:
            place, line = f"{path}:{line + 1 + skipped}", reader.line_num
            if not any(fields):  # a blank line, or what a spreadsheet writes of one
                continue
            if header and len(fields) == len(header):
                yield place, dict(zip(header, fields, strict=True))
            elif not header:
                header = _header(fields, place)
            else:
                what = f"has {len(fields)} fields, the header {len(header)}."
                raise DataError(place, what, f"Quote a field that holds {delimiter!r} or a line break.")
    except csv.Error as err:
        mend = 'A field with quotes is written "he said ""yes""".'
        raise DataError(f"{path}:{line + 1 + skipped}", f"is not valid CSV ({err}).", mend) from err


def _header(fields: list[str], place: str) -> list[str]:
    # Of the index of pandas, and of the empty columns of a spreadsheet.
    header = [name.strip() or f"column {number}" for number, name in enumerate(fields, 1)]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(place, f'the header names "{twice[0]}" twice.', "Rename one of them.")
    return header


def _separator(path: RowFile, header: str, expected: str) -> str:
    """The separator of the fields: ``expected``, unless the header holds only another one."""
    bare = re.sub(r'"[^"]*"', "", header)  # a separator between quotes is none
    if expected in bare:
        return expected
    most = max(_SEPARATORS, key=bare.count)
    if most == expected or most not in bare:
        return expected
    log.warning("%s: fields are separated by %s, not by %s", path, _SEPARATORS[most], _SEPARATORS[expected])
    return most


def _txt(path: RowFile) -> Iterator[Located]:
    for number, line in _lines(path):
        if line.strip():
            yield f"{path}:{number}", {"text": line.rstrip("\r\n")}


_READERS: dict[str, Callable[[RowFile], Iterator[Located]]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": partial(_csv, delimiter="\t"),
    ".txt": _txt,
    ".parquet": parquet_rows,
    ".arrow": arrow_rows,
}
