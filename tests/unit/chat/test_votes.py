"""What people say of answers: events in the log, and the rows that the functions for all votes make of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from pipeline.base.errors import DataError
from pipeline.chat import votes
from pipeline.chat.exchange import Shown, read_ticket, ticket
from pipeline.chat.project import open_log
from pipeline.labelling.log.log import Log
from pipeline.labelling.log_rows import publishable_rows
from pipeline.labelling.settings import LabelSection
from pipeline.labelling.votes_to_rows import answered_only
from pipeline.store.store import Store
from tests.helpers.refusals import refusal
from tests.helpers.scripted_chat import BASE, POLICY, agreed, exchange, opinion
from tests.unit.labelling.helpers import tables

KEYS = (f"said-{n:08d}" for n in range(10**6))


@pytest.fixture
def log(store: Store) -> Iterator[Log]:
    with closing(open_log(store, "demo")) as log:
        yield log


@pytest.fixture
def ada(log: Log) -> str:
    return agreed(log, "Ada")


def say(log: Log, of: Any, type: str, key: str = "", **content: Any) -> votes.Recorded:
    return votes.record(log, of.who, opinion(log, of, type, key or next(KEYS), **content))


def rows(log: Log) -> Any:
    return answered_only(publishable_rows(log, LabelSection()))


def pairs(log: Log) -> list[tuple[str, str]]:
    return [(r["chosen"], r["rejected"]) for split in rows(log).preferences.values() for r in split]


def liked(log: Log) -> list[tuple[str, bool]]:
    return [(r["completion"], r["label"]) for split in rows(log).unpaired.values() for r in split]


def test_a_choice_is_a_pair(log: Log, ada: str) -> None:
    of = exchange(ada)
    say(log, of, "better", choice="b", ms=900)
    base, policy = of.completions
    assert pairs(log) == [(policy, base)]
    (event,) = [e for e in log.events.read() if e.type == "vote"]
    assert (event.annotator, event.ms, event.payload["order"]) == (ada, 900, [0, 1])
    source = event.payload["source"]
    assert source["answerers"] == [BASE.model_dump(), POLICY.model_dump()]
    assert source["sampling"] == {"temperature": 0.7, "completion_tokens": 40, "seed": 7}
    assert (source["exchange"], source["scores"], source["blind"]) == (of.id, [0.25, -0.75], False)


# A tie is kept as a vote, and makes no pair.
@pytest.mark.parametrize("choice", ["tie", "both_bad"])
def test_an_even_choice_is_a_vote_and_no_pair(log: Log, ada: str, choice: str) -> None:
    say(log, exchange(ada), "better", choice=choice)
    assert pairs(log) == []
    assert [r["choice"] for split in rows(log).votes.values() for r in split] == [choice]


def test_thumbs_are_unpaired_rows_and_an_up_beats_a_down(log: Log, ada: str) -> None:
    of = exchange(ada)
    say(log, of, "thumb", place=0, choice="dislike")
    assert (liked(log), pairs(log)) == ([(of.completions[0], False)], [])
    say(log, of, "thumb", place=1, choice="like")
    assert liked(log) == [(of.completions[0], False), (of.completions[1], True)]
    assert pairs(log) == [(of.completions[1], of.completions[0])]


def test_a_better_answer_is_a_demonstration_and_a_pair(log: Log, ada: str) -> None:
    of = exchange(ada)
    say(log, of, "edit", place=1, text="Mine.")
    (edit,) = [r for split in rows(log).edits.values() for r in split]
    # It begins with the blank that the original begins with, as a model's tokens do.
    assert (edit["prompt"], edit["completion"], edit["annotator"]) == (of.prompt, " Mine.", ada)
    assert pairs(log) == [(" Mine.", of.completions[1])]
    say(log, of, "edit", place=1, text=of.completions[1])
    assert pairs(log) == []


# Mutation caught: an undo of the person's newest vote rather than of the one on this answer.
def test_changing_ones_mind_replaces_that_vote_alone(log: Log, ada: str) -> None:
    of = exchange(ada)
    say(log, of, "thumb", place=0, choice="like")
    say(log, of, "thumb", place=1, choice="like")
    say(log, of, "better", choice="a")
    say(log, of, "thumb", place=0, choice="dislike")
    assert liked(log) == [(of.completions[0], False), (of.completions[1], True)]
    say(log, of, "thumb", place=1, choice=None)
    assert liked(log) == [(of.completions[0], False)]
    assert pairs(log) == [(of.completions[0], of.completions[1])]
    say(log, of, "better", choice=None)
    assert pairs(log) == []
    before = tables(log)
    log.rebuild()
    assert tables(log) == before


def test_a_retry_is_recorded_once(log: Log, ada: str) -> None:
    of = exchange(ada)
    first = say(log, of, "thumb", "the-same-key", place=0, choice="like").receipt
    say(log, of, "thumb", place=0, choice="dislike")
    again = say(log, of, "thumb", "the-same-key", place=0, choice="like").receipt
    assert (again.seq, again.duplicate) == (first.seq, True)
    assert liked(log) == [(of.completions[0], False)]


def test_blind_the_places_are_shuffled_by_secret_and_votes_mean_the_right_side(log: Log, ada: str) -> None:
    orders = set()
    for n in range(24):
        of = exchange(ada, f"topic {n}", blind=True)
        shown = Shown.of(of, log.people)
        orders.add(shown.order)
        say(log, of, "better", choice="a")
        source = [e for e in log.events.read() if e.type == "vote"][-1].payload["source"]
        assert source["blind"] is True
        # Places are of the page, the item's of the sides; the scores go with their answers.
        assert source["scores"] == [(0.25, -0.75)[shown.order.index(side)] for side in (0, 1)]
        say(log, of, "thumb", place=0, choice="like")
        source = [e for e in log.events.read() if e.type == "vote"][-1].payload["source"]
        # By then the names were shown.
        assert (source["blind"], source["answerers"][0]["role"]) == (False, ("base", "policy")[shown.order[0]])
    assert orders == {(0, 1), (1, 0)}
    chosen = {chosen for chosen, _ in pairs(log)}
    assert chosen == {exchange(ada, f"topic {n}").completions[0] for n in range(24)}


def test_standing(log: Log, ada: str) -> None:
    for n, choice in enumerate(["a", "b", "b", "tie"]):
        say(log, exchange(ada, f"topic {n}"), "better", choice=choice)
    say(log, exchange(ada), "thumb", place=1, choice="like")
    say(log, exchange(ada), "thumb", place=0, choice="dislike")
    say(log, exchange(ada), "edit", place=0, text="mine")
    assert votes.standing(log).lines() == [
        "4 choices: 2 for the policy, 1 for the base, 1 even",
        "base: 0 of 1 thumbs up",
        "policy: 1 of 1 thumbs up",
        "1 better answer written",
        "the reward model agrees with 1 of 3 choices",
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"type": "thumb", "place": 2, "choice": "like"}, "place"),
        ({"type": "thumb", "place": 0, "choice": "meh"}, "choice"),
        ({"type": "better", "choice": "c"}, "choice"),
        ({"type": "edit", "place": 0, "text": " "}, "empty"),
        ({"type": "edit", "place": 0, "text": "a\0b"}, "NUL"),
        ({"type": "vote"}, "type"),
        ({"type": "better", "choice": "a", "order": [0, 1]}, "order"),
    ],
)
def test_a_malformed_opinion_is_refused_in_one_line(
    log: Log, ada: str, content: dict[str, Any], words: str
) -> None:
    type = content.pop("type")
    assert words in refusal(DataError, say, log, exchange(ada), type, **content)
    assert [e.type for e in log.events.read()] == ["consent"]


def test_a_forged_exchange_is_refused(log: Log, ada: str) -> None:
    of = exchange(ada)
    text, signature = ticket(of, log.people)
    for forged in (text.replace("cats", "dogs"), "", "{}", "\ud800"):
        assert "not made here" in refusal(DataError, read_ticket, forged, signature, ada, log.people)
    assert "another person" in refusal(DataError, read_ticket, text, signature, agreed(log, "Ben"), log.people)
    assert read_ticket(text, signature, ada, log.people) == of


def test_what_cannot_be_voted_on(log: Log, ada: str) -> None:
    same, empty = exchange(ada, completions=("yes", " yes ")), exchange(ada, completions=("", "yes"))
    assert "wrote the same" in refusal(DataError, say, log, same, "better", choice="a")
    # An empty answer takes no vote of any kind, so that the refusal of one must not point to the other.
    assert "one wrote nothing" in refusal(DataError, say, log, empty, "better", choice="b")
    assert "which of the two" not in refusal(DataError, say, log, empty, "thumb", place=0, choice="dislike")


def test_a_conversation_is_in_one_split(ada: str) -> None:
    turns = [exchange(ada, prompt=f"user: hi {n}", opening="hi") for n in range(40)]
    assert len({turn.split for turn in turns}) == 1
    assert {exchange(ada, f"opening {n}").split for n in range(60)} == {"train", "test"}


def test_items_whose_votes_were_taken_back_are_not_published(log: Log, ada: str) -> None:
    of, other = exchange(ada), exchange(ada, "dogs")
    for each in (of, other):
        say(log, each, "better", choice="a")
    say(log, of, "better", choice=None)
    assert [item.prompt for item in rows(log).items] == [other.prompt]
    assert rows(log).counts["unanswered"] == 0
