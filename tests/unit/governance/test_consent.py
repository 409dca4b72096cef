"""Where consent is required, what is not known counts as refused, in all that a version was made from."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from pipeline.governance.consent import STATED, UNKNOWN, missing_consent
from pipeline.store.store import Store, Version
from tests.helpers.versions import new, publish

ANN, JUDGE = "p_0123456789", "oracle"
NOT_NEEDED = "not needed: no person annotated here"


def preferences(
    store: Store, votes: list[dict[str, Any]], said: str | None, stats: dict[str, Any] | None = None
) -> Version:
    with new(store, governance={} if said is None else {"consent": said}) as draft:
        draft.write_rows("train", [{"id": "1", "prompt": "p", "chosen": "a", "rejected": "b", "annotator": JUDGE}])
        columns = list(votes[0]) if votes else ["annotator"]
        draft.write_rows("train", votes, config="votes", schema=dict.fromkeys(columns, "string"))
        draft.stats.update(stats or {})
    return draft.version


def agreed(who: str, consent: str | None) -> dict[str, Any]:
    return {"id": "v", "annotator": who, "choice": "a", "consent": consent}


def silent(who: str) -> dict[str, Any]:
    return {"id": "v", "annotator": who, "choice": "a"}


OWN = "each person's own; votes.consent is the sha256 of the text agreed to"
CASES = {
    "all agreed": ([agreed(ANN, "sha")], OWN, {}, None),
    "one did not": ([agreed(ANN, "sha"), agreed(ANN, None)], OWN, {}, "without their consent: 1"),
    "a judge needs none": ([silent(JUDGE)], NOT_NEEDED, {}, None),
    "a version that does not say": ([silent(JUDGE)], None, {}, "is not known"),
    "people, of before there were consents": ([silent(ANN)], None, {}, "consent is not known: 1"),
    "people that a judge's version holds": ([silent(ANN)], NOT_NEEDED, {}, "consent is not known: 1"),
    "imported by an earlier program": ([silent("replay:x")], NOT_NEEDED, {"format": "hh"}, "is not known"),
    "imported, and the file does not say": ([silent("replay:x")], f"{UNKNOWN}: imported", {}, "is not known"),
    "imported, and stated": ([silent(ANN)], f"{STATED}: asked on paper", {"format": "hh"}, None),
    "stated, but a row says no": ([agreed(ANN, None)], f"{STATED}: paper", {}, "without their consent: 1"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_not_known_is_refused(name: str, store: Store):
    votes, said, stats, why = CASES[name]
    version = preferences(store, votes, said, stats)
    lacking = [m.what for m in missing_consent(store, version)]
    assert len(lacking) == (why is not None)
    assert all(str(why) in what and what.startswith("prefs@v000001, train: ") for what in lacking)


@pytest.fixture
def policy(store: Store) -> Version:
    before = preferences(store, [silent(ANN)], None)
    rows = publish(store, governance={"consent": NOT_NEEDED}, parents=[(before, "previous")])
    reward = publish(store, name="reward", kind="adapter", stage="reward", parents=[(rows, "preferences")])
    return publish(store, name="policy", kind="adapter", stage="ppo", parents=[(reward, "reward")])


def test_all_that_a_policy_was_made_from_counts(store: Store, policy: Version):
    # Mutation caught: only the preferences that are themselves published.
    assert [m.what for m in missing_consent(store, policy)] == [
        "prefs@v000001, train: answers of people whose consent is not known: 1"
    ]


def test_what_is_gone_is_not_known(store: Store, policy: Version):
    shutil.rmtree(store.home("prefs"))
    assert [m.what for m in missing_consent(store, policy)] == [
        "what people agreed to in prefs@v000002 is not known: it is missing"
    ]
