"""Check keys and values against a dataclass: names, types, missing keys."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import difflib
import functools
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pipeline.base.errors import ConfigError

T = TypeVar("T")

DECIMAL = re.compile(r"[+-]?\d{1,30}(\.\d{0,30})?([eE][+-]?\d{1,3})?", re.ASCII)
"""A number as people write it: ``1e-3``, which YAML reads as text."""


def parse_options(cls: type[T], values: Mapping[str, Any], where: str, prefix: str = "") -> T:
    """Build the dataclass ``cls`` from ``values``, checking names and types.

    Args:
        where: the file, for messages.
        prefix: of keys in messages, such as ``"ppo."``.
    Raises:
        ConfigError: a key is unknown or missing, a value has a wrong type, or ``__post_init__`` refuses it.
    """
    return build(cls, check_types(cls, values, where, prefix), where, prefix)


def build(cls: type[T], checked: Mapping[str, Any], where: str, prefix: str = "") -> T:
    """Build the dataclass from values of the right types; see :func:`parse_options`."""
    for field in dataclasses.fields(typing.cast("Any", cls)):
        no_default = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if field.init and no_default and field.name not in checked:
            raise ConfigError(where, f'"{prefix}{field.name}" is missing.')
    try:
        return cls(**checked)
    except (ValueError, TypeError) as err:
        key = prefix if prefix.startswith("--") else f"{prefix.rstrip('.') or cls.__name__}: "
        raise ConfigError(where, f"{key}{err}") from err


def check_types(cls: type, values: Mapping[str, Any], where: str, prefix: str = "") -> dict[str, Any]:
    """Convert every value to its field's type (YAML reads ``1e-3`` as text).

    Raises:
        ConfigError: an unknown key or a value that does not convert.
    """
    fields = [f.name for f in dataclasses.fields(cls) if f.init]
    hints = _hints(cls)
    for key in values:
        if key not in fields:
            raise unknown_key(where, prefix + str(key), [prefix + f for f in fields])
    return {key: _convert(value, hints[key], where, prefix + key) for key, value in values.items()}


@functools.cache
def _hints(cls: type) -> dict[str, object]:
    return typing.get_type_hints(cls)


def accepted(hint: object, values: Iterable[Any]) -> list[Any]:
    """The ``values`` that convert to this type, converted, each once."""
    converted: list[Any] = []
    for value in values:
        with contextlib.suppress(ConfigError):
            converted.append(_convert(value, hint, "", ""))
    return [v for i, v in enumerate(converted) if v not in converted[:i]]


def _convert(value: Any, hint: Any, where: str, key: str) -> Any:
    if value is None and _allows_none(hint):
        return None
    if value is False and "no" in _choices(hint):  # YAML 1.1 reads the word no as false
        return "no"
    # Python takes a bool for an int; `epochs: yes` is a mistake, not 1.
    if _holds_bool(value) and not _mentions(hint, bool):
        raise ConfigError(where, f"{key} = {short(value)} should be {spell(hint)}.")
    if _is_one(value, hint):
        return copy.copy(value)
    if hint in (float, float | None):
        if isinstance(value, int) and abs(value) < 2**53:
            return float(value)
        if isinstance(value, str) and DECIMAL.fullmatch(value):
            return float(value)
    return _validated(value, hint, where, key)


def _is_one(value: Any, hint: Any) -> bool:
    """Whether ``value`` is of the type itself, so that pydantic, which takes long to import, would return it."""
    if _is_union(hint):
        return any(_is_one(value, a) for a in typing.get_args(hint))
    if typing.get_origin(hint) is typing.Literal:
        return any(type(value) is type(choice) and value == choice for choice in typing.get_args(hint))
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is dict and type(value) is dict:
        entries = typing.cast("dict[Any, Any]", value)
        return all(_is_one(k, parts[0]) and _is_one(v, parts[1]) for k, v in entries.items())
    if origin is list and type(value) is list:
        return all(_is_one(item, parts[0]) for item in typing.cast("list[Any]", value))
    return hint is Any or (hint in (bool, int, float, str) and type(value) is hint)


def _validated(value: Any, hint: Any, where: str, key: str) -> Any:
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    try:
        config = ConfigDict(arbitrary_types_allowed=True)
        return TypeAdapter(hint, config=config).validate_python(value)
    except ValidationError as err:
        near = difflib.get_close_matches(str(value), [str(c) for c in _choices(hint)], n=1, cutoff=0.5)
        mend = f'Did you mean "{near[0]}"?' if near else ""
        reason = "" if _choices(hint) else f" ({err.errors()[0]['msg']})"
        raise ConfigError(where, f"{key} = {short(value)} should be {spell(hint)}{reason}.", mend) from err
    except Exception:  # pydantic cannot read some hints of TrainingArguments, whose __post_init__ checks
        return value


def short(value: object) -> str:
    """``value`` for a message, cut to 120 characters."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _allows_none(hint: object) -> bool:
    return hint is Any or type(None) in typing.get_args(hint)


def _holds_bool(value: object) -> bool:
    items = typing.cast("list[Any]", value) if isinstance(value, list) else []
    return isinstance(value, bool) or any(map(_holds_bool, items))


def _mentions(hint: Any, kind: type) -> bool:
    if hint in (kind, Any) or (isinstance(hint, kind)):
        return True
    return any(_mentions(a, kind) for a in typing.get_args(hint))


def _choices(hint: object) -> tuple[Any, ...]:
    """The values of a Literal; none of other types."""
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)
    return next((c for a in typing.get_args(hint) if (c := _choices(a))), ()) if _is_union(hint) else ()


def _is_union(hint: object) -> bool:
    return typing.get_origin(hint) in (types.UnionType, typing.Union)


def spell(hint: Any) -> str:
    """A type in words: ``a whole number``, ``one of eos``."""
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Any: "anything"}
    if hint in names:
        return names[hint]
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(hint)))
    if _is_union(hint):
        return " or ".join(spell(a) for a in typing.get_args(hint) if a is not type(None))
    if hint is dict or typing.get_origin(hint) is dict:
        return "a mapping (key: value)"
    if hint is list or typing.get_origin(hint) is list:
        return "a list"
    return getattr(hint, "__name__", str(hint))


def unknown_key(where: str, key: str, keys: list[str]) -> ConfigError:
    """The error of an unknown key, with the nearest one of ``keys``."""
    near = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
    hint = f'Did you mean "{near[0]}"?' if near else f"Known: {', '.join(sorted(keys)[:12])} ..."
    return ConfigError(where, f'unknown key "{key[:120]}".', hint)
