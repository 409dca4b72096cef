"""What garbage collection keeps for heads, tags and lineage, what it refuses, and staging that nobody holds."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pipeline.base.errors import StoreError
from pipeline.store.store import Store
from tests.helpers.versions import chain, new, numbered, publish


def test_gc_keeps_what_heads_tags_and_their_ancestors_need(store: Store) -> None:
    chain(store)
    for _ in range(3):
        publish(store, name="prefs")
    store.tag("prefs@v3", "gold")
    # prefs: v1 and v2 are ancestors of adapter@v1, v3 is tagged, v5 the head.
    # Catches: looking at heads only; at direct parents only; at this name's parents only.
    swept = store.gc(dry_run=True)
    assert [v.ref for v in swept.versions] == ["prefs@v000004"]
    assert len(store.versions("prefs")) == 5
    assert store.gc(keep=["prefs@v4"]).versions == []
    assert [v.ref for v in store.gc().versions] == ["prefs@v000004"]
    assert [v.number for v in store.versions("prefs")] == [1, 2, 3, 5]
    assert store.gc().versions == []


def test_gc_refuses_when_what_a_version_needs_is_unknown(store: Store) -> None:
    publish(store)
    publish(store)
    file = store.root / "prefs/versions/v000002/manifest.json"
    file.write_text("{")
    with pytest.raises(StoreError, match="nothing was collected"):
        store.gc()
    assert (store.root / "prefs/versions/v000001").exists()


def test_gc_leaves_a_damaged_version_that_nobody_needs(store: Store) -> None:
    for _ in range(2):
        publish(store)
    (store.root / "prefs/versions/v000001/manifest.json").write_text("{")
    swept = store.gc()
    assert (swept.versions, len(swept.damaged)) == ([], 1)


def test_gc_frees_only_what_no_other_version_links_to(store: Store) -> None:
    a = publish(store, numbered(3000))
    with new(store) as draft:
        draft.write_rows("train", numbered(10, 3000), carry=a)
    swept = store.gc()
    assert [v.ref for v in swept.versions] == [a.ref]
    # Catches: deleting in place what a later version links to, or counting it as freed.
    assert draft.version.verify() == []
    assert swept.bytes < 5000


def test_gc_removes_old_staging_that_nobody_holds(store: Store) -> None:
    publish(store)
    staging = store.root / "prefs/.staging"
    yesterday = time.time() - 25 * 3600

    def left(name: str, age: float) -> Path:
        path = staging / name
        path.mkdir()
        (path / "part").write_text("x")
        for p in (path / "part", path):
            os.utime(p, (age, age))
        return path

    old, fresh = left("old", yesterday), left("fresh", time.time())
    with new(store) as draft:
        (draft.path / "slow").write_text("x")
        for p in (draft.path / "slow", draft.path):
            os.utime(p, (yesterday, yesterday))
        # Catches: leaving out the lock (a stage of two days would lose its draft) or the age.
        assert store.gc().staging == [old]
        assert fresh.exists()
        assert not old.exists()
    assert draft.version.verify() == []
