"""Schemas of the rows made from votes, in addition to :mod:`pipeline.base.records`."""

from __future__ import annotations

from pipeline.base.records import OUTCOMES as OUTCOMES

SPLITS = ("train", "test")

UNPAIRED = {"id": "string", "prompt": "string", "completion": "string", "label": "bool", "annotator": "string"}
"""Schema of liked and disliked completions: TRL's unpaired preferences."""

EDITS = {
    "id": "string",
    "prompt": "string",
    "completion": "string",
    "annotator": "string",
    "item_id": "string",
    "replaced": "int64",
    "consent": "string",
}
"""Schema of edits: TRL's prompt and completion, and the index in the item of the completion it replaced."""
