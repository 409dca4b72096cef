"""``configs/schema.json``: what a config may say, for editors that read JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pipeline.workflow.experiment import NOT_STAGES, SECTIONS
from pipeline.workflow.graph import GRAPH
from pipeline.workflow.key_checks.bounds import ANNOTATORS, TASKS, Bound
from pipeline.workflow.key_table import SHARED, Key, keys_of

TARGET = Path(__file__).parents[2] / "configs" / "schema.json"


def schema() -> dict[str, Any]:
    """The schema of a config."""
    shared = mapping(SHARED)
    sections = {name: mapping(name) for name in (*SECTIONS, *NOT_STAGES)}
    for name in GRAPH:
        sections[name]["properties"]["inputs"] = {
            "description": "Versions to read instead of those that this experiment makes, by role.",
            "type": ["object", "null"],
            "additionalProperties": {"type": "string"},
        }
    for section in sections.values():
        section["type"] = ["object", "null"]  # a section may be empty
    sampler = sections["collect"]["properties"]["sampler"]
    sections["collect"]["properties"]["sampler"] = {
        "description": sampler["description"],
        **mapping("collect.sampler"),
        "type": ["object", "null"],
    }
    sections["collect"]["allOf"] = [
        by_name("annotator", name, "annotator_args", mapping(f"collect.annotator_args of {name}"))
        for name in ANNOTATORS
    ]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "An experiment",
        **shared,
        "properties": {**shared["properties"], **sections},
        "allOf": [by_name("task", name, "task_args", mapping(f"task_args of {name}")) for name in TASKS],
    }


def mapping(place: str) -> dict[str, Any]:
    """The keys of one place."""
    keys = keys_of(place)
    return {
        "type": "object",
        "properties": {key.name: value(key) for key in keys},
        "required": [key.name for key in keys if key.default == ""],
        "additionalProperties": False,
    }


def by_name(key: str, name: str, args: str, keys: dict[str, Any]) -> dict[str, Any]:
    """``args`` are ``keys`` where ``key`` names this one."""
    chosen = {"properties": {key: {"const": name}}, "required": [key]}
    return {"if": chosen, "then": {"properties": {args: keys}}}


def value(key: Key) -> dict[str, Any]:
    """The values of a key."""
    if key.idle is not None:
        return {"description": f"Refused. {key.idle.mend}", "enum": key.allowed, "deprecated": True}
    made = TypeAdapter(key.hint).json_schema()
    if key.bound is not None:
        made = bounded(made, key.bound)
    default = f" Default: {key.default}." if key.default else ""
    return {"description": key.help + default, **made}


def bounded(made: dict[str, Any], bound: Bound) -> dict[str, Any]:
    """Every number in a schema within its bounds, or the value that means something of its own."""
    if made.get("type") in ("integer", "number"):
        limits: dict[str, Any] = {}
        if bound.low is not None:
            limits["exclusiveMinimum" if bound.above else "minimum"] = bound.low
        if bound.high is not None:
            limits["exclusiveMaximum" if bound.below else "maximum"] = bound.high
        within = {**made, **limits}
        return within if bound.special is None else {"anyOf": [within, {"const": bound.special[0]}]}
    if "anyOf" in made:
        return {**made, "anyOf": [bounded(each, bound) for each in made["anyOf"]]}
    return {**made, "items": bounded(made["items"], bound)} if "items" in made else made


def text() -> str:
    """The file, a key on a line."""
    return "\n".join(lines(schema(), "", "")) + "\n"


def lines(part: dict[str, Any], indent: str, end: str) -> Iterator[str]:
    """A mapping with an entry on a line; those that hold keys are opened."""
    yield "{"
    for i, (name, entry) in enumerate(part.items(), 1):
        comma, head = "," * (i < len(part)), f"{indent} {json.dumps(name)}: "
        if isinstance(entry, dict) and (name == "properties" or "properties" in entry):
            opened = list(lines(entry, indent + " ", comma))
            yield from (head + opened[0], *opened[1:])
        else:
            yield head + json.dumps(entry, ensure_ascii=False) + comma
    yield indent + "}" + end


def write() -> None:
    """Write it."""
    TARGET.write_text(text(), encoding="utf-8")
