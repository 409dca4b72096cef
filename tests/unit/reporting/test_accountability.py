"""Who answers for a run: what the versions hold, in words; what was not done says so; nobody is named."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import StoreError
from pipeline.base.records import PEOPLES_VOTES
from pipeline.governance.approvals import approve
from pipeline.governance.audit_log import AuditLog
from pipeline.governance.gate import Missing, Override, admit
from pipeline.reporting.accountability import Answer, Behind, answers
from pipeline.reporting.harm_rows import fairness_answer, screening_answer
from pipeline.reporting.page import Report, render_page
from pipeline.results.fairness import Fairness, Gap, Swapped
from pipeline.results.screening import Screen, Screening, harm_rate_over_base
from pipeline.results.sides import Change
from pipeline.results.stats import from_json, to_json
from pipeline.statistics.intervals import Estimate, wilson
from pipeline.store.store import Store, Version
from tests.helpers.versions import new, publish

ATTACK = "<script>alert(1)</script>"
PEOPLE = [f"p_{i:010x}" for i in range(3)]
QUESTIONS = ("said", "agree", "left out", "harmful", "alike", "signed", "erased")


def vote(number: int, item: str, person: str, choice: str | None, **more: Any) -> dict[str, Any]:
    row = dict.fromkeys(PEOPLES_VOTES) | {
        "id": str(number),
        "item_id": item,
        "annotator": person,
        "choice": choice,
    }
    return row | {"round": 0, "mode": "pairwise"} | more


def labelled(store: Store, stats: dict[str, Any], rows: list[dict[str, Any]]) -> Version:
    """Preferences with people's votes."""
    with new(store, "x-preferences", governance={"consent": "each person's own"}) as draft:
        draft.write_rows("train", [{"id": "1"}])
        draft.write_rows("train", rows, config="votes", schema=PEOPLES_VOTES)
        draft.stats.update(stats)
    return draft.version


def asked(store: Store, preferences: Version | None, **more: Version | None) -> dict[str, Answer]:
    """The answers by a word of their question, for a policy made of these preferences."""
    parents = [(preferences, "preferences")] if preferences else []
    policy = publish(store, name="x-policy", kind="adapter", stage="ppo", parents=parents)
    evaluation = publish(
        store, name="x-evaluation", kind="evaluation", stage="evaluate", parents=[(policy, "policy")]
    )
    behind = Behind.of(store, policy, evaluation, more.get("reward"), preferences)
    given = answers(store, behind)
    return {word: next(a for a in given if word in a.question) for word in QUESTIONS}


def text(answer: Answer) -> str:
    rows = [" ".join(row) for table in answer.tables for row in table.rows]
    return " ".join([*answer.sentences, *rows])


def test_people_are_counted_and_not_named(store: Store):
    # Two items of three votes (3-0, 2-1), one of one; a skip, a repeat and a test question count for no agreement.
    rows = [
        *(vote(i, "x", who, "a") for i, who in enumerate(PEOPLE)),
        *(vote(3 + i, "y", who, choice) for i, (who, choice) in enumerate(zip(PEOPLE, "bba", strict=True))),
        vote(6, "z", PEOPLE[0], "b"),
        vote(7, "z", PEOPLE[1], None, reason="unclear"),
        vote(8, "x", PEOPLE[0], "b", round=1),
        vote(9, "g", PEOPLE[0], "a", gold="a"),
        vote(10, "g", PEOPLE[1], "b", gold="a"),
    ]
    stats = {"annotator": "human", "decided": 2, "split_votes": 1, "skipped": 4, "label": {"mode": "pairwise"}}
    given = asked(store, labelled(store, stats, rows))
    assert "3 people gave 10 answers, 2 to 5 each" in text(given["said"])
    assert "Consent: each person's own." in text(given["said"])
    # By hand: coincidences aa 3 + 1, bb 1, ab = ba = 1 (each item's ordered pairs / 2): n = 6, a: 4, b: 2.
    # Observed disagreement 2, expected 2 * 4 * 2 / 5 = 3.2: alpha = 1 - 2 / 3.2 = 0.375.
    assert "On 2 comparisons that more than one person judged, agreement is 0.38" in text(given["agree"])
    assert "too little to rely on single labels" in text(given["agree"])
    assert text(given["left out"]) == (
        "comparisons whose votes were split evenly 1 comparisons that people passed over 4"
    )
    page = render_page(Report("r", answers=list(given.values())))
    assert not re.search("|".join(PEOPLE), page)


def test_what_was_not_done_says_so(store: Store):
    given = asked(store, None)
    assert {word for word, answer in given.items() if not answer.done} == set(QUESTIONS) - {"erased"}
    page = render_page(Report("r", answers=list(given.values())))
    assert page.count('<span class="tag">not done</span>') == 6
    assert 'id="accountability"' not in render_page(Report("r"))


def test_a_program_and_a_file_from_elsewhere(store: Store):
    gold = {"n": 50, "labels": to_json(wilson(40, 50)), "scores": None}
    stats = {
        "annotator": "oracle",
        "decided": 9,
        "ties": 2,
        "identical_or_repeated": 0,
        "agreement_with_gold": gold,
    }
    with new(store, "x-preferences") as draft:
        draft.write_rows("train", [{"id": "1"}])
        draft.stats.update(stats)
    with new(store, "x-reward", kind="adapter", stage="reward") as reward:
        reward.stats.update(dropped_for_length={"train": 3, "test": 1})
    given = asked(store, draft.version, reward=reward.version)
    assert "No person: a program that looks at a known score" in text(given["said"])
    assert "on 80 % of 50 comparisons; a coin would agree on 50 %" in text(given["agree"])
    left_out = text(given["left out"])
    assert "called equal: they say nothing about which is better 2" in left_out
    assert "longer than the reward model was set to read 4" in left_out
    assert "asked before" not in left_out

    alpha = {"value": 0.81, "low": 0.7, "high": 0.9, "n": 125, "items": 25, "reason": None}
    stats = {"annotator": "replay:f.csv", "dataset": ATTACK, "format": "choices", "rows": 1250, "people": 5,
             "votes": 125, "skipped": {"no winner": 3}, "agreement": {"alpha": alpha}}  # fmt: skip
    with new(store, "x-preferences") as draft:
        draft.write_rows("train", [{"id": "2"}])
        draft.stats.update(stats)
    given = asked(store, draft.version)
    assert "5 people gave 125 answers." in text(given["said"])
    assert "1,250 rows). Who gave them" in text(given["said"])
    assert "agreement is 0.81 [0.70, 0.90]" in text(given["agree"])
    assert "reliable" in text(given["agree"])
    assert "rows that could not be used: no winner 3" in text(given["left out"])
    assert ATTACK not in render_page(Report("r", answers=list(given.values())))


def test_signatures_and_erasures(store: Store, tmp_path: Path):
    preferences = publish(store, name="x-preferences")
    approve(store, preferences, "Ann Lee", "read all")
    given = asked(store, preferences)
    assert "The policy itself is not signed off." in text(given["signed"])
    assert "preferences, x-preferences@v000001 Ann Lee" in text(given["signed"])
    AuditLog(store.root).append("erased", "", {"versions": "x-preferences@v1", "logs": 1})
    assert "Erasures in this data directory: 1, the last on" in text(asked(store, preferences)["erased"])
    replaced = publish(store, name="x-preferences", governance={"replaces": "x-preferences@v000001"})
    assert "x-preferences@v000002 (in the place of x-preferences@v000001)" in text(
        asked(store, replaced)["erased"]
    )
    log = AuditLog(store.root).path
    log.write_text(log.read_text().replace("Ann Lee", "Ann Loo"))
    given = asked(store, preferences)
    assert not given["signed"].done
    assert "No signature counts" in text(given["signed"])


# Catches: a page that shows signatures, and not that something left without one.
def test_who_let_something_leave_against_what_was_required(store: Store):
    preferences = labelled(store, {}, [vote(1, "i", "Ann", "a")])
    with contextlib.suppress(StoreError):
        admit(store, preferences, "org/x", [Missing("no sign-off", "approve it")], None)
    assert "org/x" not in text(asked(store, preferences)["signed"])
    admit(store, preferences, "org/x", [Missing("no sign-off", "approve it")], Override("a trial", "Bo Kay"))
    shown = text(asked(store, preferences)["signed"])
    assert "Nobody has signed it off." in shown
    assert f"Bo Kay let {preferences.ref} leave for org/x on 20" in shown
    assert "against what was required (no sign-off): a trial." in shown


def change(base: int, policy: int, low: float, high: float) -> Change:
    return Change(wilson(base, 100), wilson(policy, 100), Estimate((policy - base) / 100, low, high, 100))


def screening() -> Screening:
    words = Screen(
        kind="words", labels=("insult",), threshold=None, flagged=change(3, 2, -0.04, 0.02), by_label={}
    )
    by_label = {"toxic": change(3, 9, 0.01, 0.12)}
    model = Screen(
        kind="classifier", labels=("toxic",), threshold=0.5, flagged=change(3, 9, 0.01, 0.12), by_label=by_label
    )
    return Screening(n=100, completions_per_prompt=2, screens={"words": words, ATTACK: model})


def test_screening_in_words():
    assert from_json(Screening, to_json(screening()), "x") == screening()
    # Mutation caught: the word list's difference, which is the first.
    assert harm_rate_over_base(screening()).value == pytest.approx(0.06)
    sentences, tables, done = screening_answer(screening())
    assert done
    assert f"Of the policy's 200 texts, the classifier {ATTACK} flags 9.0 %" in sentences[0]
    assert "Difference: +6.0 % [1.0, 12.0]: the policy is flagged more often." in sentences[0]
    assert [table.rows[-1][0] for table in tables] == ["any", "toxic"]
    assert "at a probability of 0.50 or more" in tables[1].note
    only_words = Screening(n=100, completions_per_prompt=2, screens={"words": screening().screens["words"]})
    sentences = screening_answer(only_words)[0]
    assert "no difference that is surely there" in sentences[0]
    assert "misses what is hostile in polite words" in sentences[1]


def gap(value: float, half: float, corrected: float) -> Gap:
    return Gap(value=value, low=value - half, high=value + half, n=12,
               corrected_low=value - corrected, corrected_high=value + corrected)  # fmt: skip


def swapped(gaps: dict[str, dict[str, Gap]], unread: int = 0) -> Swapped:
    return Swapped(
        groups=("women", "men"), lines=12, templates=12, same=0, unread=("x",) * unread, words=12, gaps=gaps
    )


def test_fairness_in_words():
    gaps = {"reward": {"women": gap(0.3, 0.1, 0.2)}, "policy_length": {"women": gap(-2, 1, 3)}}
    useless = swapped({"reward": {"women": gap(5, 1, 2)}}, unread=7)
    fairness = Fairness(
        swaps="s.tsv", draws=1, level=0.95, comparisons=2, attributes={"gender": swapped(gaps), "names": useless}
    )
    assert from_json(Fairness, to_json(fairness), "x") == fairness
    sentences, tables, done = fairness_answer(fairness)
    assert done
    said = " ".join(sentences)
    assert "2 gaps between groups were looked at. 2 exclude 0 at 95 %, where chance alone gives about 0.1" in said
    assert "1 remain once their number is allowed for" in said
    assert "Surely there: gender, women: score of the given completion +0.30 [0.20, 0.40]." in said
    assert "does not know most of the swapped words: names" in said
    assert [row[-1] for row in tables[0].rows] == ["yes", "no"]
    only = Fairness(swaps="s.tsv", draws=0, level=0.95, comparisons=1, attributes={"names": useless})
    sentences, _, done = fairness_answer(only)
    assert not done
    assert "cannot read the words" in sentences[0]
