"""References, heads and tags: each spelling resolves, a missing one says what there is, a tag never moves."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.base.errors import StoreError
from pipeline.store.refs import there_is
from pipeline.store.store import Store
from tests.helpers.versions import publish


def test_every_spelling_resolves(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = publish(store), publish(store)
    store.tag("prefs@v1", "gold")
    assert store.resolve("prefs") == store.resolve("prefs@latest") == second
    for ref in ("prefs@v1", "prefs@1", "prefs@v000001", "prefs@gold"):
        assert store.resolve(ref) == first
    assert store.resolve(str(first.path)).ref == first.ref
    monkeypatch.chdir(tmp_path)
    assert store.resolve("data/prefs/versions/v000001/").ref == first.ref
    assert Store("data").resolve("prefs@gold").where == "data/prefs@v000001"


# Seen failing with: directories looked up as names; every text with an @ taken for a reference.
def test_a_version_is_told_from_a_directory_a_hub_id_and_a_function(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = publish(store)
    (tmp_path / "prefs@v1").mkdir()
    for text in ("prefs", "prefs@v1", "prefs@latest"):
        version = store.find_version(text)
        assert version is not None
        assert version.ref == made.ref
    for text in ("org/prefs", "other", "module:function", "module:a@b", str(tmp_path)):
        assert store.find_version(text) is None
    with pytest.raises(StoreError, match='there is no "other"'):
        store.find_version("other@v1")
    monkeypatch.chdir(tmp_path)
    assert store.find_version("prefs@v1") is None


# Seen failing: with eight readers the one line had eight of them, and what was meant somewhere in it.
def test_of_many_names_the_nearest_are_listed() -> None:
    names = [f"a{n}-policy" for n in range(40)] + ["demo-policy", "demo-reward"]
    assert there_is(names, "demo@v1").startswith("There is: demo-policy, demo-reward, a0-policy")
    assert there_is(names, "dmeo-policy").startswith("There is: demo-policy, ")
    assert there_is(names, "demo").endswith("a9-policy, and 30 more (data list).")
    assert there_is(names[:2], "x") == "There is: a0-policy, a1-policy."
    assert there_is([], "x") == "There is: nothing yet."


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        ("nope", 'there is no "nope".*There is: prefs'),
        ("prefs@v9", "v000009: no such version.*v000001; tags gold"),
        ("prefs@silver", "prefs@silver: no such tag.*tags gold"),
        ("prefs@", None),
        ("@v1", "is not a reference"),
        ("./nowhere", "is not a version"),
        ("org/name@tag", "is not a version"),
    ],
)
def test_a_missing_reference_says_what_there_is(store: Store, ref: str, said: str | None) -> None:
    publish(store)
    store.tag("prefs", "gold")
    if said is None:
        with pytest.raises(StoreError, match="is not a reference"):
            store.resolve(ref)
        return
    with pytest.raises(StoreError, match=said):
        store.resolve(ref)


def test_a_tag_never_moves(store: Store) -> None:
    publish(store)
    publish(store)
    store.tag("prefs@v1", "gold")
    store.tag("prefs@v1", "gold")
    # Catches: os.replace instead of os.link in write_tag.
    with pytest.raises(StoreError, match=r"already names v000001.*never moves"):
        store.tag("prefs@v2", "gold")
    assert store.resolve("prefs@gold").number == 1
    assert sorted(p.name for p in (store.root / "prefs/refs/tags").iterdir()) == ["gold.json"]


@pytest.mark.parametrize("tag", ["latest", "main", "v3", "3", "a/b", "", ".x"])
def test_a_tag_must_not_look_like_something_else(store: Store, tag: str) -> None:
    publish(store)
    with pytest.raises(StoreError, match="cannot be a tag"):
        store.tag("prefs", tag)


def test_a_damaged_head_is_told_and_mends_itself(store: Store) -> None:
    publish(store)
    (store.root / "prefs/refs/heads/main.json").write_text("{")
    with pytest.raises(StoreError, match=r"main.json: is damaged.*Remove this file"):
        store.resolve("prefs")
    assert publish(store).number == 2
    assert store.resolve("prefs").number == 2
