"""Typed results as the JSON of a manifest's ``stats``, and back.

A result is a frozen dataclass whose fields are the JSON's keys. JSON has no NaN and no infinity: a ``float`` that
is not finite is null there, and null is read as NaN. Two rules keep versions of different ages readable: a field
that has its default is not written, and a missing key is read as that default, as None where the type allows it,
or as an empty collection. Keys without a field are a newer version's, and are skipped.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast, get_args, get_origin

from pipeline.base.errors import DataError

T = TypeVar("T")
Stats = Mapping[str, Any]

FLAT: Mapping[str, bool] = {"flat": True}
"""Metadata of a field whose own keys, of a mapping or a dataclass, stand among the keys of its owner."""

FROM_CONFIG: Mapping[str, bool] = {"from_config": True}
"""Metadata of a number that older versions copied from a config, where YAML reads 5e-2 as text."""


def to_json(value: object) -> Any:
    """``value`` as plain JSON: dataclasses and mappings as dicts, sequences as lists."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: to_json(entry) for key, entry in cast("Stats", value).items()}
    if isinstance(value, list | tuple):
        return [to_json(entry) for entry in cast("Sequence[Any]", value)]
    if not dataclasses.is_dataclass(value):
        return value
    stats: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        entry = getattr(value, field.name)
        if entry != _default(field):
            stats |= to_json(entry) if field.metadata.get("flat") else {field.name: to_json(entry)}
    return stats


def from_json(kind: type[T], stats: object, where: str) -> T:
    """The ``kind`` that ``stats`` holds.

    Args:
        where: the source, such as a version's reference, for messages.
    Raises:
        DataError: a value has a wrong type, or a key that every version has written is missing.
    """
    try:
        return _read(kind, stats, "stats")
    except _Unreadable as err:
        what = f"its {kind.__name__.lower()} cannot be read: {err}."
        mend = "Make the version again; it was written or changed by something else."
        raise DataError(where, what, mend) from err


class _Unreadable(ValueError):
    """The path of a value, and its fault."""


def _read(hint: object, value: object, path: str) -> Any:
    if hint is Any:  # plain JSON
        return value
    origin, args = get_origin(hint), get_args(hint)
    if origin in (typing.Union, types.UnionType):  # of a type and None
        return None if value is None else _read(next(a for a in args if a is not type(None)), value, path)
    if origin is typing.Literal and value in args:
        return value
    if origin is Mapping and isinstance(value, Mapping):
        return {key: _read(args[1], entry, f"{path}.{key}") for key, entry in cast("Stats", value).items()}
    if origin is Sequence and isinstance(value, list | tuple):
        entries = enumerate(cast("Sequence[Any]", value))
        return tuple(_read(args[0], entry, f"{path}[{i}]") for i, entry in entries)
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return _read_fields(hint, cast("Stats", value), path)
    if hint is float and (value is None or (isinstance(value, int | float) and not isinstance(value, bool))):
        return math.nan if value is None else float(value)
    if hint in (int, bool, str) and type(value) is hint:
        return value
    raise _Unreadable(f"{path} is {repr(value)[:40]}, not {_spell(hint)}")


def _read_fields(kind: Any, stats: Stats, path: str) -> Any:
    hints = _hints(kind)
    entries: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        name, hint = field.name, hints[field.name]
        if field.metadata.get("flat"):
            own = _own_keys(hint)
            rest = {k: entry for k, entry in stats.items() if (k not in hints if own is None else k in own)}
            entries[name] = _read(hint, rest or _missing(hint, path), path)
        elif name in stats:
            entry = stats[name]
            if field.metadata.get("from_config") and isinstance(entry, str):
                entry = _number(entry)
            entries[name] = _read(hint, entry, f"{path}.{name}")
        elif _default(field) is dataclasses.MISSING:
            entries[name] = _read(hint, _missing(hint, f"{path}.{name}"), f"{path}.{name}")
    return kind(**entries)


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _missing(hint: object, path: str) -> Any:
    """The value of a missing key of this type."""
    if type(None) in get_args(hint):
        return None
    if get_origin(hint) in (Mapping, Sequence):
        return {} if get_origin(hint) is Mapping else ()
    if dataclasses.is_dataclass(hint):
        return {}
    raise _Unreadable(f"{path} is missing")


def _own_keys(hint: object) -> Mapping[str, Any] | None:
    """The keys of a flat field: those of its dataclass; None of a mapping, which has all that are left."""
    kind = next((a for a in (hint, *get_args(hint)) if dataclasses.is_dataclass(a)), None)
    return None if get_origin(hint) is Mapping or kind is None else _hints(kind)


def _spell(hint: Any) -> str:
    if get_origin(hint) is typing.Literal:
        return " or ".join(map(repr, get_args(hint)))
    names = {float: "a number", int: "a whole number", bool: "true or false", str: "text", Sequence: "a list"}
    return names.get(get_origin(hint) or hint, "an object")


_hints = functools.cache(typing.get_type_hints)
