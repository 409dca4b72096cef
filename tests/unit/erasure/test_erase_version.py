"""Heirs, tombstones without content, heads and tags after an erasure, and a death before every step of it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import StoreError
from pipeline.base.required import REQUIRED
from pipeline.erasure import erase_version as erasing
from pipeline.erasure.erase_version import (
    all_records,
    descendants,
    draft_replacement,
    drop_staging,
    erase,
    place_heads,
    redact_tombstone,
    replacement_of,
)
from pipeline.store import refs
from pipeline.store.draft import Draft
from pipeline.store.store import Store, Version
from tests.helpers.dying import Died, die_after_calls

SECRET = "only-in-the-old-one"


def rows(*ids: str) -> list[dict[str, Any]]:
    return [{"id": i, "text": f"text of {i}"} for i in ids]


def publish(store: Store, some: Iterable[Mapping[str, Any]], name: str = "prefs", **settings: Any) -> Version:
    with store.draft(name, **{"kind": "preferences", "stage": "collect", **settings}) as draft:
        draft.write_rows("train", some)
        draft.stats.update(note=SECRET)
    return draft.version


def replace(store: Store, old: Version, some: Iterable[Mapping[str, Any]]) -> Version:
    with draft_replacement(store, old, old.manifest.parents, old.manifest.key) as draft:
        draft.write_rows("train", some)
    erase(store, old, draft.version)
    return draft.version


# Heirs


def test_an_heir_has_the_key_and_what_was_recorded_but_none_of_the_rows(store: Store) -> None:
    base = publish(store, rows("x"), "base")
    other = publish(store, rows("y"), "base")
    old = publish(
        store,
        rows("a", "b"),
        key="k",
        parents=[(base, "base")],
        config={"label": {"votes": 2}},
        seed=7,
        governance={
            "license": "mit",
            "hub": [{"repo": "o/p", "revision": "v1"}],
            REQUIRED: {"sign_off": True},
        },
    )
    parents = [erasing.Parent(other.name, other.number, other.id, "base")]
    with draft_replacement(store, old, parents, "k") as draft:
        draft.write_rows("train", rows("b"))
    replacement = draft.version
    m = replacement.manifest
    assert (replacement.number, m.key, m.seed, m.config) == (2, "k", 7, {"label": {"votes": 2}})
    assert [p.ref for p in m.parents] == ["base@v000002"]
    # Mutation: hub kept. Nobody has pushed this version.
    assert m.governance == {"license": "mit", "replaces": "prefs@v000001", REQUIRED: {"sign_off": True}}
    assert m.stats == {}
    assert replacement.rows() == rows("b")
    # The newest version with the key is the one that counts as done.
    assert store.find("prefs", "k") == replacement
    erase(store, old, replacement)
    assert store.find("prefs", "k") == replacement
    known, damaged = all_records(store)
    assert damaged == []
    found = replacement_of(known, ("prefs", 1))
    assert found is not None
    assert found.ref == "prefs@v000002"
    # Mutation: cut from the tombstone, so that what was made from it is asked for less.
    assert known["prefs", 1].manifest.governance[REQUIRED] == {"sign_off": True}
    assert known["prefs", 1].replacement == "prefs@v000002"
    assert replacement_of(known, ("prefs", 2)) is None


# Erasing


def test_a_tombstone_has_counts_a_hash_and_the_lineage_and_no_content(store: Store) -> None:
    base = publish(store, rows("x"), "base")
    old = publish(store, rows("a", "b"), parents=[(base, "base")], config={"names": [SECRET]}, key="k")
    child = publish(store, rows("c"), "scores", parents=[(old, "preferences")])
    sha = hashlib.sha256((old.path / "manifest.json").read_bytes()).hexdigest()
    erase(store, old)
    text = (store.root / "prefs/tombstones/v000001.json").read_text()
    assert SECRET not in text
    assert "parquet" not in text
    tombstone = json.loads(text)
    assert tombstone["splits"]["train"]["rows"] == 2
    assert tombstone["governance"]["erased"]["manifest_sha256"] == sha
    assert (tombstone["config"], tombstone["stats"], tombstone["files"]) == ({}, {}, [])
    assert not old.path.exists()
    assert list((store.root / "prefs/.staging").iterdir()) == []
    tree = store.lineage(child).draw()
    assert tree[1] == "└── preferences: prefs@v000001  preferences by collect (collected)"
    assert "base@v000001" in tree[2]
    with pytest.raises(StoreError, match="was collected"):
        store.resolve("prefs@v1")
    # Numbers are never used twice.
    assert publish(store, rows("n")).number == 2


def test_an_erased_version_takes_its_tags_along(store: Store) -> None:
    old, other = publish(store, rows("a")), publish(store, rows("b"))
    store.tag("prefs@v1", "gold")
    store.tag("prefs@v1", "paper")
    store.tag("prefs@v2", "stays")
    assert erase(store, old) == ["gold", "paper"]
    assert store.tags("prefs") == {"stays": 2}
    assert store.resolve("prefs@stays") == other
    # The word is free again, as it names nothing.
    store.tag("prefs@v2", "gold")


def test_rows_shared_by_hard_link_stay_where_they_are_carried(store: Store) -> None:
    old = publish(store, rows("a"))
    with store.draft("prefs", kind="preferences", stage="collect") as draft:
        draft.write_rows("train", rows("b"), carry=old)
    erase(store, old)
    assert draft.version.verify() == []
    assert draft.version.rows() == rows("a", "b")


def test_what_cannot_be_removed_is_an_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    old = publish(store, rows("a"))

    def refuse(path: Path) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    # Mutation: rmtree(..., ignore_errors=True), as garbage collection has it.
    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(StoreError, match="Operation not permitted"):
        erase(store, old)
    monkeypatch.undo()
    assert drop_staging(store.root / "prefs") == []
    assert list((store.root / "prefs/.staging").iterdir()) == []


def _exit_without_tidying(self: Draft, kind: Any, err: BaseException | None, trace: Any) -> None:
    try:
        if err is None:
            self._version = self._publish()
    finally:
        assert self._held is not None
        os.close(self._held)


def replace_the_first(store: Store) -> None:
    """Everything, from whatever a death left behind."""
    known, _ = all_records(store)
    if known["prefs", 1].path is not None:
        old = Version.open(store.root / "prefs/versions/v000001")
        if replacement_of(known, ("prefs", 1)) is None:
            with draft_replacement(store, old, [], "k") as draft:
                draft.write_rows("train", rows("b"))
        erase(store, old, store.resolve("prefs@v3"))
    drop_staging(store.root / "prefs")
    place_heads(store, {"prefs": 1})


def test_a_death_before_any_step_is_mended_by_doing_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Store(tmp_path / "made")
    first = publish(made, rows("a", "b"), key="k")
    publish(made, rows("z"), key="z")
    made.tag("prefs@v1", "gold")
    refs.move_head(made.root / "prefs", 1, first.id)
    steps, alive = 0, False
    while not alive:
        store = Store(tmp_path / f"after-{steps}")
        shutil.copytree(made.root, store.root)
        with monkeypatch.context() as patch:
            die_after_calls(patch, [(os, name) for name in ("rename", "replace", "unlink")], steps)
            # A Draft tidies up behind an exception, as a killed process does not.
            patch.setattr(Draft, "__exit__", _exit_without_tidying)
            try:
                replace_the_first(store)
                alive = True
            except Died:
                steps += 1
        replace_the_first(store)
        erased = all_records(store)[0]["prefs", 1]
        assert (erased.path, erased.replacement) == (None, "prefs@v000003")
        assert erased.manifest.governance["erased"]["tags"] == ["gold"]
        assert store.tags("prefs") == {}
        assert refs.numbers(store.root / "prefs") == [2, 3]
        assert list((store.root / "prefs/.staging").iterdir()) == []
        latest = store.resolve("prefs@latest")
        assert latest == store.find("prefs", "k")
        assert latest.rows() == rows("b")
    # Two of them are the tag's and the old version's, the others write files by a new name first.
    assert steps > 6


# Heads


@pytest.mark.parametrize(
    ("head", "gone", "expected"),
    [
        (3, {3: True}, 4),  # the head is replaced
        (3, {1: True}, 3),  # another one has: "latest" still means what it meant
        (3, {1: True, 3: True}, 5),
        (2, {1: True, 2: True}, 5),  # a head moved back by hand
        (3, {3: False}, 2),  # nothing took its place: the newest that is left
        (3, {2: True, 3: False}, 4),
        (3, {1: False, 2: False, 3: False}, None),
    ],
)
def test_heads(store: Store, head: int, gone: dict[int, bool], expected: int | None) -> None:
    versions = {n: publish(store, rows(f"r{n}")) for n in (1, 2, 3)}
    refs.move_head(store.root / "prefs", head, versions[head].id)
    replacements: dict[int, Version] = {}
    for number, has_heir in gone.items():
        if has_heir:
            with draft_replacement(store, versions[number], [], None) as draft:
                draft.write_rows("train", rows(f"h{number}"))
            replacements[number] = draft.version
    for number in gone:
        erase(store, versions[number], replacements.get(number))
    place_heads(store, {"prefs": head})
    assert refs.read_head(store.root / "prefs") == expected


def test_a_head_that_somebody_moved_since_stays(store: Store) -> None:
    old = publish(store, rows("a"))
    replace(store, old, rows("b"))
    new = publish(store, rows("n"))
    place_heads(store, {"prefs": 1})
    assert store.resolve("prefs") == new


def test_heirs_of_heirs_are_followed(store: Store) -> None:
    first = publish(store, rows("a", "b", "c"), key="k")
    second = replace(store, first, rows("b", "c"))
    third = replace(store, second, rows("c"))
    place_heads(store, {"prefs": 1})
    assert store.resolve("prefs") == third
    assert store.find("prefs", "k") == third


# Descendants


def test_descendants_are_found_across_names_and_through_collected_versions(store: Store) -> None:
    prefs = publish(store, rows("a"))
    aside = publish(store, rows("q"))
    reward = publish(store, rows("r"), "reward", kind="adapter", parents=[(prefs, "preferences")])
    policy = publish(store, rows("p"), "policy", kind="adapter", parents=[(reward, "reward"), (aside, "x")])
    report = publish(
        store, rows("o"), "report", kind="report", parents=[(prefs, "preferences"), (policy, "policy")]
    )
    publish(store, rows("u"), "unrelated", parents=[(aside, "x")])
    erase(store, reward)
    known, _ = all_records(store)
    assert [k.ref for k in descendants(known, [("prefs", 1)])] == [report.ref, reward.ref, policy.ref]
    assert known["reward", 1].path is None
    assert known["policy", 1].path == policy.path


def test_nothing_yet(store: Store) -> None:
    assert all_records(store) == ({}, [])


def test_what_cannot_be_read_is_told(store: Store) -> None:
    old = publish(store, rows("a"))
    (old.path / "manifest.json").write_text("{")
    publish(store, rows("b"))
    (store.root / "README.md").touch()  # as data/ has one
    known, damaged = all_records(store)
    assert list(known) == [("prefs", 2)]
    assert len(damaged) == 1
    assert "prefs/versions/v000001: manifest.json is damaged" in damaged[0]


# Leftovers


def test_an_older_tombstone_is_bared(store: Store) -> None:
    publish(store, rows("a"), config={"names": [SECRET]})
    publish(store, rows("b"))
    store.gc(unfinished=True)
    path = store.root / "prefs/tombstones/v000001.json"
    assert SECRET in path.read_text()
    redact_tombstone(store, "prefs", 1)
    once = path.read_text()
    assert SECRET not in once
    assert json.loads(once)["splits"]["train"]["rows"] == 1
    redact_tombstone(store, "prefs", 1)
    assert path.read_text() == once


def test_staging_of_the_dead_goes_and_of_the_living_stays(store: Store) -> None:
    home = store.root / "prefs"
    publish(store, rows("a"))
    dead = home / ".staging" / "dead"
    trash = home / ".staging" / "collected-1"
    for path in (dead, trash):
        path.mkdir()
        (path / "train.part").write_text(SECRET)
    copy = home / "tombstones" / ".v000009.json.0123"
    copy.parent.mkdir()
    copy.write_text(SECRET)
    # Also one that was written to just now: garbage collection would wait a day.
    assert time.time() - dead.stat().st_mtime < 3600
    with store.draft("prefs", kind="preferences", stage="collect") as draft:
        draft.write_rows("train", rows("n"))
        assert drop_staging(home) == [draft.path]
    assert list((home / ".staging").iterdir()) == []
    assert not copy.exists()
    assert draft.version.verify() == []
    assert drop_staging(store.root / "nothing") == []
