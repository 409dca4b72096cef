"""The lineage of a version: walked once, drawn once, and kept by the tombstones of collected versions."""

from __future__ import annotations

import pytest

from pipeline.base.errors import StoreError
from pipeline.store.store import Store
from tests.helpers.versions import chain, publish


def test_lineage_goes_back_to_the_first_parents(store: Store) -> None:
    top = store.lineage(chain(store))
    assert top.draw() == [
        "adapter@v000001  adapter by ppo",
        "└── preferences: prefs@v000002  preferences by collect",
        "    ├── base: prefs@v000001  preferences by collect",
        "    │   └── prompts: prompts@v000001  preferences by collect",
        "    └── prompts: prompts@v000001  preferences by collect",
    ]
    refs = [n.ref for n in store.ancestors(store.resolve("adapter"))]
    assert refs == ["prefs@v000002", "prefs@v000001", "prompts@v000001"]


def test_what_was_drawn_is_only_named_again(store: Store) -> None:
    root = publish(store, name="root")
    base = publish(store, name="base", parents=[(root, "r")])
    a, b = (publish(store, name=n, parents=[(base, "base")]) for n in "ab")
    top = publish(store, name="top", parents=[(a, "a"), (b, "b")])
    lines = [line.replace("  preferences by collect", "") for line in store.lineage(top).draw()]
    # Catches: drawing a shared ancestor's own lineage again at every mention.
    assert lines == [
        "top@v000001",
        "├── a: a@v000001",
        "│   └── base: base@v000001",
        "│       └── r: root@v000001",
        "└── b: b@v000001",
        "    └── base: base@v000001 (above)",
    ]


@pytest.mark.thorough
def test_a_long_lineage_is_neither_recursive_nor_a_wall_of_text(store: Store) -> None:
    from dataclasses import replace

    from pipeline.store.manifest import Parent

    v = publish(store)
    for number in range(2, 1500):
        path = v.path.parent / f"v{number:06d}"
        path.mkdir()
        parent = Parent("prefs", number - 1, v.id, "base")
        m = replace(v.manifest, version=number, parents=[parent, parent])
        (path / "manifest.json").write_text(m.to_json())
    # Catches: a recursive walk, and one that follows both edges to the same parent (2**1498 steps).
    top = store.resolve("prefs@v1499")
    assert len(store.ancestors(top)) == 1498
    lines = store.lineage(top).draw()
    assert len(lines) <= 41
    assert lines[-1] == "..."


def test_tombstones_keep_lineage_and_the_number(store: Store) -> None:
    old = publish(store)
    tip = publish(store, parents=[(old, "base")])
    publish(store)
    store.gc(unfinished=True)
    with pytest.raises(StoreError, match="was collected; only its tombstone"):
        store.resolve("prefs@v1")
    node = store.lineage(tip).parents[0][1]
    assert (node.ref, node.state) == ("prefs@v000001", "collected")
    assert node.manifest == old.manifest
    assert store.lineage(tip).draw()[1].endswith("(collected)")
    # Numbers of collected, and even of removed but still tagged, versions stay used.
    # Catches: next_number without tombstones (after the newest is collected), or without refs.
    home = store.root / "prefs"
    (home / "refs/heads/main.json").unlink()
    (home / "versions/v000003").rename(home / "gone")
    assert publish(store).number == 3
    store.tag("prefs", "keep")
    (home / "tombstones/v000007.json").write_text(tip.manifest.to_json())
    assert publish(store).number == 8
    (home / "refs/tags/far.json").write_text('{"version": 11}')
    assert publish(store).number == 12
