"""What of the events is current: flags, edits, decisions, consents."""

from __future__ import annotations

from pipeline.labelling.items import Item
from pipeline.labelling.log.log import Log
from tests.unit.labelling.helpers import ITEMS, new_event, vote


def test_flags_on_and_off(log: Log, who: str) -> None:
    def flag(item: Item, on: bool, reason: str = "harmful") -> None:
        log.events.append(new_event("flag", who, item, on=on, reason=reason))

    other = log.people.add("second").id
    flag(ITEMS[0], True)
    flag(ITEMS[1], True)
    flag(ITEMS[1], False)
    flag(ITEMS[0], True, "broken text")
    log.events.append(new_event("flag", other, ITEMS[1], on=True, reason="other"))
    log.events.append(new_event("flag", other, ITEMS[0], on=False))
    got = [(e.annotator, e.item, e.payload["reason"]) for e in log.answers.flags()]
    assert got == [(who, ITEMS[0].id, "broken text"), (other, ITEMS[1].id, "other")]
    assert [log.answers.flagged(who, i.id) for i in ITEMS[:3]] == [True, False, False]
    assert [c.flagged for c in log.queue.counts()] == [1, 1]


def test_the_newest_edit_of_each_completion(log: Log, who: str) -> None:
    for completion, text in ((0, "better"), (1, "also"), (0, "best"), (1, "y")):
        log.events.append(new_event("edit", who, ITEMS[0], completion=completion, text=text))
    # Completion 1 is "y": the edit was taken back by writing what was there.
    assert [(e.payload["completion"], e.payload["text"]) for e in log.answers.edits()] == [(0, "best")]


def test_the_operator_decides(log: Log, who: str) -> None:
    for choice in ("a", "tie"):
        log.events.append(new_event("adjudicate", "operator", ITEMS[0], choice=choice))
    assert log.answers.adjudications() == {ITEMS[0].id: "tie"}
    assert log.batches.ready(3, None).done == 1
    assert log.queue.answered_and_left(who, 3) == (0, 9)


def test_consent_is_that_before_the_vote(log: Log, who: str) -> None:
    other = log.people.add("second").id
    log.events.append(vote(who, ITEMS[0]))
    for sha in ("one", "two"):
        log.events.append(new_event("consent", who, version="1", sha256=sha))
        log.events.append(vote(who, ITEMS[1 if sha == "one" else 2]))
    log.events.append(vote(other, ITEMS[3]))
    assert [v.consent for v in log.answers.votes()] == [None, "one", "two", None]
    assert (log.answers.consent_of(who), log.answers.consent_of(other)) == ("two", None)
