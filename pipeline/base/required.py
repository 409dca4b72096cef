"""The requirements of a version before it may be published: those of its parents, and its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard, cast

from pipeline.base.errors import StoreError
from pipeline.base.json_values import JsonObject

REQUIRED = "required"
"""Governance key: the section ``governance`` of the config, and what the parents ask for."""


def strictest(*asked: object, where: str = "") -> JsonObject:
    """All that any of ``asked`` asks for: of two limits the lower one; true before false.

    What is false, null or empty asks for nothing.

    Raises:
        StoreError: a value is none of these, so that nobody can say which is the stricter one.
    """
    merged: JsonObject = {}
    for one in asked:
        if one is None:
            continue
        if not isinstance(one, Mapping):
            raise _unclear(where, "", one)
        for key, value in cast("Mapping[str, Any]", one).items():
            if value is None or value is False or value == {}:
                continue
            before = merged.get(key)
            if isinstance(value, Mapping) and (before is None or isinstance(before, dict)):
                merged[key] = strictest(cast("object", before), cast("object", value), where=where)
            else:
                merged[key] = _stricter(before, cast("object", value), where, key)
    return merged


def _stricter(before: object, value: object, where: str, key: str) -> bool | float:
    if value is True and before in (None, True):
        return True
    if _is_number(value) and before is None:
        return value
    if _is_number(value) and _is_number(before):
        return min(before, value)
    raise _unclear(where, key, value)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _unclear(where: str, key: str, value: object) -> StoreError:
    what = f"governance.{REQUIRED}{'.' * bool(key)}{key} is {value!r:.60}, which is no requirement."
    return StoreError(
        where or "a manifest", what, "Restore its manifest.json, or upgrade: pip install -U rlhf-pipeline"
    )
