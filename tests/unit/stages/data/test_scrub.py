"""A scrubbed version: no personal data of a known form in any text, and ids that still refer to each other."""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import Any

import pytest

from pipeline.base.errors import DataError
from pipeline.base.records import PEOPLES_VOTES, PREFERENCES, digest, row_id
from pipeline.base.required import REQUIRED
from pipeline.erasure.replacement import without
from pipeline.labelling.items import ITEMS, Item, item_rows
from pipeline.stages.data import data
from pipeline.stages.data.scrub import scrub, scrubbed_groups
from pipeline.store.store import Store, Version
from pipeline.texts.personal_data.count import count
from tests.helpers.dying import Died, die_after_calls
from tests.helpers.versions import new, publish

PROMPT, A, B = "Who is jo@example.com?", "Call +1 202-555-0147.", "jo@example.com, 078-05-1120"
ITEM = Item(PROMPT, (A, B))
ANN = "p_0123456789"


def preferences(store: Store, **settings: Any) -> Version:
    page = {"mode": "pairwise", "shown": "0,1", "tags": "[]", "round": 0, "ms": 9, "at": "2026-11-28T10:00:00"}
    vote = {
        "id": "v",
        "item_id": ITEM.id,
        "comparison_id": ITEM.id,
        "annotator": ANN,
        "choice": "a",
        "consent": "x",
    }
    vote = {**dict.fromkeys(PEOPLES_VOTES), **page, **vote}
    row = {"prompt": PROMPT, "chosen": A, "rejected": B, "margin": 1.0, "annotator": ANN, "comparison_id": ITEM.id}
    settings = {
        "governance": {"consent": "own", REQUIRED: {"sign_off": True}, "hub": [{"repo": "o/p"}]},
        **settings,
    }
    with new(store, config={"label": {"votes": 1}}, **{"key": "k", **settings}) as draft:
        draft.write_rows("train", [{"id": row_id(PROMPT, A, B), **row}], schema=PREFERENCES)
        draft.write_rows("test", [], schema=PREFERENCES)
        draft.write_rows("train", [{**vote, "note": "mail a@example.org"}], config="votes", schema=PEOPLES_VOTES)
        draft.write_rows("train", item_rows([ITEM]), config="items", schema=ITEMS)
        draft.stats.update(people=1, sampling="s")
    return draft.version


def test_every_text_is_scrubbed_and_ids_follow(store: Store):
    old = preferences(store)
    version, made = scrub(store, old)
    assert made
    assert count(version.iter_all()) == {}
    (row,) = version.rows("train")
    prompt, a, b = "Who is <EMAIL_1>?", "Call <PHONE_1>.", "<EMAIL_1>, <NATIONAL_ID_1>"
    assert (row["prompt"], row["chosen"], row["rejected"], row["margin"]) == (prompt, a, b, 1.0)
    item = digest([prompt, a, b])
    assert (row["id"], row["comparison_id"]) == (row_id(prompt, a, b), item)
    (vote,) = version.rows("train", "votes")
    (before,) = old.rows("train", "votes")
    assert vote == {**before, "item_id": item, "comparison_id": item, "note": "mail <EMAIL_1>"}
    (shown,) = version.rows("train", "items")
    assert (shown["id"], json.loads(shown["completions"])) == (item, [a, b])
    assert version.splits == old.splits


def test_it_is_a_version_of_its_own_with_a_lineage(store: Store):
    old = preferences(store)
    version, _ = scrub(store, old)
    m = version.manifest
    assert (version.ref, m.stage, m.kind, m.config) == (
        "prefs@v000002",
        "scrub",
        "preferences",
        old.manifest.config,
    )
    assert [(p.ref, p.role) for p in m.parents] == [(old.ref, "scrubbed")]
    assert m.governance == {"consent": "own", REQUIRED: {"sign_off": True}}
    assert m.stats == {"people": 1, "personal_data_replaced": {"email": 5, "phone": 2, "national_id": 2}}
    # The stage's own work is not taken to be done by it.
    assert store.find("prefs", "k") == old
    assert scrub(store, old) == (version, False)
    again, _ = scrub(store, version)
    assert again.manifest.stats["personal_data_replaced"] == {}
    assert again.rows("train") == version.rows("train")


# Mutation caught: the item's id left as it was, so that an erasure counts every answer as one to an unknown item.
def test_an_erasure_finds_the_answers_to_the_scrubbed_items(store: Store):
    old = preferences(store)
    version, _ = scrub(store, old)
    (item,) = version.rows("train", "items")
    (vote,) = version.rows("train", "votes")
    assert vote["item_id"] == item["id"] == Item(item["prompt"], tuple(json.loads(item["completions"]))).id
    assert without(version, [ANN]).counts["unknown_item"] == 0


def test_prompts_and_comparisons(store: Store):
    prompts = publish(store, [{"id": digest([PROMPT]), "prompt": PROMPT}], name="prompts", kind="prompts")
    (row,) = scrub(store, prompts)[0].rows("train")
    assert row == {"id": digest(["Who is <EMAIL_1>?"]), "prompt": "Who is <EMAIL_1>?"}
    alone = {"id": digest([PROMPT, A, None]), "prompt": PROMPT, "completion_a": A, "completion_b": None}
    pairs = publish(store, [alone], name="pairs", kind="comparisons")
    (row,) = scrub(store, pairs)[0].rows("train")
    texts = {"prompt": "Who is <EMAIL_1>?", "completion_a": "Call <PHONE_1>."}
    assert row == {"id": digest([*texts.values(), None]), **texts, "completion_b": None}


def test_what_cannot_be_scrubbed(store: Store):
    old = preferences(store)
    more = preferences(store, parents=[(old, "previous")], key=None)
    with pytest.raises(DataError, match=r"carries rows of prefs@v000001.*collect\.scrub"):
        scrub(store, more)
    model = publish(store, name="policy", kind="adapter", stage="ppo")
    with pytest.raises(DataError, match="is a version of adapter"):
        scrub(store, model)


def test_a_kill_at_any_moment(store: Store):
    old = preferences(store)
    for step in range(40):
        with pytest.MonkeyPatch.context() as patch:
            die_after_calls(patch, [(os, "rename"), (os, "replace"), (os, "mkdir"), (os, "fsync")], step)
            try:
                scrub(store, old)
                break
            except Died:
                pass
    assert 3 < step < 39
    version, _ = scrub(store, old)
    assert [v.number for v in store.versions("prefs")] == [1, version.number]
    assert (store.head("prefs"), version.verify()) == (version.number, [])


def test_the_command(store: Store, capsys: pytest.CaptureFixture[str]):
    preferences(store)
    assert data.main(["scrub", "prefs", "--root", str(store.root)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("prefs@v000001 -> prefs@v000002: 5 email, 2 national_id, 2 phone replaced\n")
    assert "inputs: {preferences: prefs@v000002}" in out
    assert data.main(["scrub", "prefs@v1", "--root", str(store.root)]) == 0
    assert capsys.readouterr().out.startswith("up to date: prefs@v000001 -> prefs@v000002")


def test_own_groups_to_be_labelled():
    counts = Counter[str]()
    groups = [(PROMPT, (A, B)), ("p", ("x",))]
    assert list(scrubbed_groups(groups, counts)) == [
        ("Who is <EMAIL_1>?", ("Call <PHONE_1>.", "<EMAIL_1>, <NATIONAL_ID_1>")),
        ("p", ("x",)),
    ]
    assert counts == {"email": 2, "phone": 1, "national_id": 1}
