"""Versions of a few rows for the tests of the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.store.store import Draft, Store, Version

Rows = Iterable[Mapping[str, Any]]

STRAYS = (".DS_Store", "Thumbs.db", "._manifest.json", "manifest.json~", ".manifest.json.swp", ".nfs000000000123")
"""What file managers, editors and network file systems leave among files."""


def numbered(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"id": f"row-{i}", "prompt": f"p{i}", "score": i / 7} for i in range(start, start + count)]


def new(store: Store, name: str = "prefs", **settings: Any) -> Draft:
    """A draft of preferences."""
    return store.draft(name, **{"kind": "preferences", "stage": "collect", **settings})


def publish(store: Store, rows: Rows = (), name: str = "prefs", **settings: Any) -> Version:
    """A version with ``rows``, or three of its own."""
    with new(store, name, **settings) as draft:
        draft.write_rows("train", rows or numbered(3))
    return draft.version


def chain(store: Store) -> Version:
    """An adapter of preferences, of earlier preferences, of prompts."""
    prompts = publish(store, name="prompts")
    publish(store, name="prefs", parents=[(prompts, "prompts")])
    second = publish(store, name="prefs", parents=[(store.resolve("prefs@v1"), "base"), (prompts, "prompts")])
    return publish(store, name="adapter", kind="adapter", stage="ppo", parents=[(second, "preferences")])


def publish_votes(
    store: Store,
    ids: str,
    votes: Mapping[str, str] | None = None,
    name: str = "prefs",
    stats: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Version:
    """A version of rows with one letter each for an id, and of one person's choices: ``{"x": "a"}``."""
    with new(store, name, **settings) as draft:
        draft.write_rows("train", [{"id": i} for i in ids])
        rows = [{"id": i, "annotator": "me", "choice": c} for i, c in (votes or {}).items()]
        draft.write_rows(
            "train", rows, config="votes", schema=dict.fromkeys(("id", "annotator", "choice"), "string")
        )
        draft.stats.update(stats or {})
    return draft.version
