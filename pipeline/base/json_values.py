"""JSON and YAML values of unknown shape, as they come from files, requests and configs."""

from __future__ import annotations

import json
from typing import Any, cast

JsonObject = dict[str, Any]


def parse_json(text: str) -> Any:
    """The value that ``text`` spells.

    Raises:
        ValueError: it is no JSON, or nested too deeply for Python to read.
    """
    try:
        return json.loads(text)
    except RecursionError as err:
        raise ValueError("nested too deeply") from err


def dict_of(value: Any) -> JsonObject:
    """A dict as it is; an empty one for anything else."""
    return cast("JsonObject", value) if isinstance(value, dict) else {}
