"""What differs between two versions: rows, votes, settings, parents."""

from __future__ import annotations

from pipeline.store.store import Store
from tests.helpers.versions import publish_votes


def test_rows_votes_config_and_parents_that_differ(store: Store) -> None:
    base = publish_votes(store, "p", name="prompts")
    a = publish_votes(
        store, "abc", {"x": "a", "y": "b", "z": "a"}, config={"n": 1, "k": {"l": 2}}, stats={"ties": 1}
    )
    b = publish_votes(
        store, "bcdef", {"x": "b", "y": "b"}, config={"n": 1, "k": {"l": 3}}, parents=[(base, "prompts")]
    )
    found = store.diff(a, b)
    # By hand: a goes, d e f come; z's vote is gone (not changed), x's went from a to b.
    # Catches: added and removed swapped; unchanged votes counted; shared shards counted.
    rows = found.rows["train"]
    assert (rows.added, rows.removed, rows.before, rows.after) == (3, 1, 3, 5)
    assert (found.votes_changed, found.votes) == (1, [("x me", "a", "b")])
    assert found.config == [("k.l", 2, 3)]
    assert found.stats == [("ties", 1, None)]
    assert (found.parents_added, found.parents_removed) == (["prompts@v000001"], [])
    assert not found.same_content


def test_duplicates_and_of_carried_shards(store: Store) -> None:
    a = publish_votes(store, "aab")
    b = publish_votes(store, "abb")
    rows = store.diff(a, b).rows["train"]
    # Catches: sets instead of counts.
    assert (rows.added, rows.removed) == (1, 1)
    with store.draft("prefs", kind="preferences", stage="collect") as draft:
        draft.write_rows("train", [{"id": "z"}], carry=a)
    a.shards()[0].unlink()
    # The carried shard is not read: it is missing, and the difference is still known.
    rows = store.diff(a, draft.version).rows["train"]
    assert (rows.added, rows.removed) == (1, 0)
    same = store.diff(b, b)
    assert same.same_content
    assert all((r.added, r.removed) == (0, 0) for r in same.rows.values())
