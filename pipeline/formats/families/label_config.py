"""The labelling configuration of a Label Studio project: which field stands left, which one a control is about.

https://labelstud.io/tags: a control (``Pairwise``, ``Choices``, ``Rating``, ``Ranker``) names in ``toName`` the
objects (``Text`` ...) it is about, and an object's ``value="$field"`` names a field of the task.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers import expat

from pipeline.base.errors import DataError

_CONTROLS = frozenset(("pairwise", "choices", "rating", "ranker"))
_FIELD = re.compile(r"\$([\w.-]+)")


@dataclass(frozen=True)
class Control:
    """A control with which people choose. ``fields`` are those of the task it is about, in ``toName``'s order."""

    kind: str
    fields: tuple[str, ...]


@dataclass(frozen=True)
class LabelConfig:
    """The fields and the controls (by name) of a labelling configuration."""

    where: str
    controls: Mapping[str, Control]


def read_label_config(path: Path) -> LabelConfig:
    """Read the XML of a project (Settings, Labeling Interface, Code).

    A document type is refused, with whatever entities it declares.

    Raises:
        DataError: no such file, no XML, a control that names an object which is not there.
    """
    where = str(path)
    try:
        tags = _tags(path.read_bytes())
    except OSError as err:
        raise DataError(where, f"cannot be read ({err.strerror}).", "Check the path in label_config.") from err
    except (expat.ExpatError, ValueError, LookupError) as err:
        mend = "Copy it from the project: Settings, Labeling Interface, Code."
        raise DataError(where, f"is no labelling configuration ({err}).", mend) from err
    objects = {
        tag["name"]: field[1]
        for kind, tag in tags
        if kind not in _CONTROLS and "name" in tag and (field := _FIELD.fullmatch(tag.get("value", "").strip()))
    }
    named = {tag.get("name") for _, tag in tags}
    controls: dict[str, Control] = {}
    for kind, tag in tags:
        if kind in _CONTROLS and "name" in tag:
            about = [name.strip() for name in tag.get("toname", "").split(",") if name.strip()]
            missing = [name for name in about if name not in named]
            if missing:
                raise DataError(where, f'"{tag["name"]}" is about "{missing[0]}", and no tag has that name.')
            controls[tag["name"]] = Control(kind, tuple(objects[name] for name in about if name in objects))
    if not controls:
        raise DataError(where, "has no Pairwise, Choices, Rating or Ranker.", "Is it this project's?")
    return LabelConfig(where, controls)


def _tags(xml: bytes) -> list[tuple[str, dict[str, str]]]:
    """Every tag and its attributes, in small letters but for the attributes' values."""
    tags: list[tuple[str, dict[str, str]]] = []
    parser = expat.ParserCreate()

    def start(tag: str, attributes: dict[str, str]) -> None:
        tags.append((tag.lower(), {key.lower(): value for key, value in attributes.items()}))

    def doctype(*_: Any) -> None:
        raise ValueError("a document type is not read")

    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = doctype
    parser.Parse(xml, True)
    return tags
