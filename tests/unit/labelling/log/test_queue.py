"""Who is asked what next: by hand, and random sequences against a model of the log made of lists."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.labelling.items import Item
from pipeline.labelling.log import queue
from pipeline.labelling.log.database import Refused
from pipeline.labelling.log.log import Log
from pipeline.labelling.log.queue import Assignment, Plan
from pipeline.labelling.log.sqlite import SqliteDatabase
from pipeline.labelling.settings import LabelSection
from tests.unit.labelling.helpers import new_event, open_log, vote

ITEMS = [Item(f"prompt {i}", ("x", "y")) for i in range(6)]


@dataclass
class Clock:
    now: float = 1_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(queue, "time", SimpleNamespace(time=clock.time))
    return clock


@pytest.fixture
def log(backend: str, tmp_path: Path, clock: Clock) -> Iterator[Log]:
    log = new(tmp_path / "labels")
    yield log
    log.close()


def new(directory: Path, items: list[Item] = ITEMS) -> Log:
    log = open_log(directory)
    if isinstance(log.database, SqliteDatabase):
        log.database.row("PRAGMA synchronous=OFF")  # what is tested here needs no disk
    log.batches.add_items(items)
    return log


def send(log: Log, kind: str, who: str, item: Item | None = None, **content: Any) -> None:
    if kind == "adjudicate":
        content.setdefault("choice", "a")
    log.events.append(new_event(kind, who, item, **content))


def next_item(log: Log, who: str, plan: Plan = Plan()) -> Item | None:  # noqa: B008
    assignment = log.queue.next(who, plan)
    return assignment and assignment.item


def people(log: Log, n: int) -> list[str]:
    return [log.people.add(f"person {i}").id for i in range(n)]


def test_the_same_item_until_it_is_answered(log: Log, clock: Clock) -> None:
    (one,) = people(log, 1)
    assert log.queue.current(one) is None
    for _ in range(3):
        assert log.queue.next(one, Plan()) == log.queue.current(one)
        assert next_item(log, one) == ITEMS[0]
        clock.now += 100_000
    send(log, "vote", one, ITEMS[0])
    assert next_item(log, one) == ITEMS[1]
    send(log, "skip", one, ITEMS[1])
    assert [next_item(log, one), log.queue.current(one)] == [ITEMS[2], log.queue.next(one, Plan())]


def test_until_none_is_left(log: Log) -> None:
    (one,) = people(log, 1)
    seen = []
    while (item := next_item(log, one)) is not None:
        seen.append(item)
        send(log, "vote" if len(seen) % 2 else "skip", one, item)
    assert seen == ITEMS
    log.batches.add_items([Item("late", ("x", "y"))])
    assert next_item(log, one) == Item("late", ("x", "y"))


def test_before_there_is_anything(tmp_path: Path) -> None:
    log = Log(tmp_path / "l")
    one = log.people.add("first").id
    assert (log.queue.next(one, Plan()), log.queue.current(one), log.queue.answered_and_left(one, 1)) == (
        None,
        None,
        (0, 0),
    )
    log.batches.open("b", {})
    assert log.queue.next(one, Plan()) is None


def test_who_is_not_there_gets_nothing(log: Log) -> None:
    one, two = people(log, 2)
    assert next_item(log, one) == ITEMS[0]
    log.people.withdraw(one)
    for who in (one, "p_0123456789", "operator"):
        with pytest.raises(Refused, match="annotator"):
            log.queue.next(who, Plan())
    # What the withdrawn person had is free at once.
    assert next_item(log, two) == ITEMS[0]


def test_two_people_get_two_items_and_the_same_one_with_two_votes(log: Log) -> None:
    one, two, three = people(log, 3)
    assert [next_item(log, who) for who in (one, two)] == ITEMS[:2]
    twice = new(log.directory.parent / "twice")
    one, two, three = people(twice, 3)
    assert [next_item(twice, who, Plan(votes=2)) for who in (one, two, three)] == [ITEMS[0], ITEMS[0], ITEMS[1]]
    # A vote and another's lease are two.
    send(twice, "vote", one, ITEMS[0])
    assert next_item(twice, one, Plan(votes=2)) == ITEMS[1]


def test_when_all_are_leased_one_of_them_rather_than_nothing(tmp_path: Path) -> None:
    log = new(tmp_path / "l", ITEMS[:2])
    one, two, three = people(log, 3)
    assert [next_item(log, who) for who in (one, two, three)] == [*ITEMS[:2], ITEMS[0]]
    # Each vote is accepted, also the one too many.
    send(log, "vote", one, ITEMS[0])
    send(log, "vote", three, ITEMS[0])
    assert len(log.answers.votes()) == 2
    assert next_item(log, three) == ITEMS[1]
    send(log, "vote", two, ITEMS[1])
    assert next_item(log, one) is None


def test_a_lease_ends(log: Log, clock: Clock) -> None:
    one, two, three = people(log, 3)
    plan = Plan(lease_seconds=60)
    assert next_item(log, one, plan) == ITEMS[0]
    clock.now += 59
    assert next_item(log, two, plan) == ITEMS[1]
    clock.now += 2
    assert next_item(log, three, plan) == ITEMS[0]
    # Who comes back still has it, and may answer it.
    assert next_item(log, one, plan) == ITEMS[0]
    send(log, "vote", three, ITEMS[0])
    # Now it is done; the open page is still good, for as long as the lease that this page made anew.
    assert next_item(log, one, plan) == ITEMS[0]
    clock.now += 61
    assert next_item(log, one, plan) == ITEMS[1]


def test_an_open_page_keeps_its_lease(log: Log, clock: Clock) -> None:
    one, two = people(log, 2)
    plan = Plan(lease_seconds=60)
    for _ in range(5):
        assert next_item(log, one, plan) == ITEMS[0]
        clock.now += 40
    assert next_item(log, two, plan) == ITEMS[1]


# Seen failing with: the comparison with lease_seconds left out, so that the lease lasts a day.
def test_a_clock_that_is_set_back_ends_leases(log: Log, clock: Clock) -> None:
    one, two = people(log, 2)
    assert next_item(log, one) == ITEMS[0]
    clock.now -= 86_400
    assert next_item(log, two) == ITEMS[0]
    assert next_item(log, one) == ITEMS[0]
    clock.now += 2 * 86_400
    assert next_item(log, one) == ITEMS[0]
    for _ in range(3):
        send(log, "vote", one, log.queue.next(one, Plan()).item)  # type: ignore[union-attr]
    clock.now -= 365 * 86_400
    send(log, "undo", one)
    assert next_item(log, one) == ITEMS[2]


def test_what_is_undone_comes_back_first_and_then_what_was_open(log: Log) -> None:
    one, two = people(log, 2)
    for item in ITEMS[:2]:
        send(log, "vote", one, item, choice="b")
    assert next_item(log, one) == ITEMS[2]
    send(log, "undo", one)
    undone = log.queue.next(one, Plan())
    assert isinstance(undone, Assignment)
    assert (undone.item, undone.round) == (ITEMS[1], 0)
    assert undone.undone is not None
    assert (undone.undone.payload["choice"], undone.undone.item) == ("b", ITEMS[1].id)
    assert next_item(log, two) == ITEMS[3]
    send(log, "undo", one)
    assert next_item(log, one) == ITEMS[0]
    for item in (*ITEMS[:3], ITEMS[4]):
        assert next_item(log, one) == item
        send(log, "vote", one, item)
    assert log.queue.next(one, Plan()).undone is None  # type: ignore[union-attr]


# Seen failing with: an undone skip whose assignment is dropped, as others have done the item.
def test_an_undone_skip_comes_back_although_the_item_is_done(log: Log) -> None:
    one, two = people(log, 2)
    send(log, "skip", one, ITEMS[0])
    send(log, "vote", two, ITEMS[0])
    send(log, "undo", one)
    undone = log.queue.next(one, Plan())
    assert undone is not None
    assert (undone.item, undone.undone and undone.undone.type) == (ITEMS[0], "skip")


# Seen failing with: no table of what was reopened.
def test_what_is_undone_is_open_for_those_who_are_past_it(log: Log, clock: Clock) -> None:
    one, two = people(log, 2)
    send(log, "vote", two, ITEMS[0])
    for item in ITEMS[1:4]:
        assert next_item(log, one) == item
        send(log, "vote", one, item)
    send(log, "undo", two)
    clock.now += 10_000
    assert next_item(log, one) == ITEMS[0]
    send(log, "vote", one, ITEMS[0])
    assert next_item(log, one) == ITEMS[4]


def test_skipped_is_seen_but_not_done(log: Log) -> None:
    one, two = people(log, 2)
    send(log, "skip", one, ITEMS[0])
    assert next_item(log, one) == ITEMS[1]
    assert next_item(log, two) == ITEMS[0]
    assert (log.queue.answered_and_left(one, 1), log.queue.answered_and_left(two, 1)) == ((0, 5), (0, 6))


def test_what_the_operator_decided_is_not_asked(log: Log) -> None:
    (one,) = people(log, 1)
    send(log, "adjudicate", "operator", ITEMS[0])
    assert next_item(log, one, Plan(votes=3)) == ITEMS[1]


def test_more_votes_than_yesterday_open_all_again(log: Log) -> None:
    one, two = people(log, 2)
    for who, items in ((one, ITEMS[:4]), (two, ITEMS[4:])):
        for item in items:
            assert next_item(log, who) == item
            send(log, "vote", who, item)
    assert next_item(log, one) is None
    assert next_item(log, one, Plan(votes=2)) == ITEMS[4]
    assert next_item(log, two, Plan(votes=2)) == ITEMS[0]


# Seen failing with: cursors that stay where they are when items or priorities come.
def test_what_comes_in_front_is_asked_first(log: Log) -> None:
    (one,) = people(log, 1)
    for item in ITEMS[:2]:
        assert next_item(log, one) == item
        send(log, "vote", one, item)
    first = Item("first", ("x", "y"))
    log.batches.add_items([first], [-1.0])
    assert next_item(log, one) == first
    send(log, "vote", one, first)
    log.batches.set_priorities({ITEMS[5].id: -5.0})
    assert next_item(log, one) == ITEMS[5]
    send(log, "vote", one, ITEMS[5])
    assert next_item(log, one) == ITEMS[2]


def test_another_batch(log: Log) -> None:
    one, two = people(log, 2)
    assert next_item(log, one) == ITEMS[0]
    send(log, "vote", two, ITEMS[3])
    log.batches.open("two", {})
    log.batches.add_items([Item("other", ("x", "y")), ITEMS[3], ITEMS[4]])
    assert next_item(log, one) == Item("other", ("x", "y"))
    # A page that was open before: its answer is taken.
    send(log, "vote", one, ITEMS[0])
    send(log, "vote", one, Item("other", ("x", "y")))
    # The vote that another batch has of it counts.
    assert next_item(log, one) == ITEMS[4]
    log.batches.open("b", {})
    assert [v.item for v in log.answers.votes()] == [ITEMS[3].id, ITEMS[0].id]
    assert next_item(log, one) == ITEMS[4]


def within(n: int, of: int, share: float) -> bool:
    """Five standard deviations of a binomial either way: fails by chance once in a million."""
    return abs(n - of * share) < 5 * math.sqrt(of * share * (1 - share))


# Seen failing with: repeats drawn at gold_share, and a draw that is the same at every turn.
def test_shares_of_gold_and_repeats(tmp_path: Path) -> None:
    items = [Item(f"prompt {i}", ("x", "y")) for i in range(600)]
    gold = [Item(f"gold {i}", ("x", "y"), gold="a") for i in range(200)]
    log = new(tmp_path / "l", items + gold)
    plan = Plan(votes=2, gold_share=0.2, repeat_share=0.1, repeat_after=20)
    told: dict[str, list[Assignment]] = {}
    for who in people(log, 2):
        shown = told[who] = []
        for _ in range(500):
            assignment = log.queue.next(who, plan)
            assert assignment is not None
            shown.append(assignment)
            send(log, "vote", who, assignment.item)
    for shown in told.values():
        ordinary = [a.item.id for a in shown if a.round == 0]
        repeats = [(n, a.item) for n, a in enumerate(shown) if a.round == 1]
        assert within(sum(a.item.gold is not None for a in shown), 500, 0.2)
        assert within(len(repeats), 500, 0.1)
        assert len(set(ordinary)) == len(ordinary)
        assert len({item.id for _, item in repeats}) == len(repeats)
        first = {a.item.id: n for n, a in reversed(list(enumerate(shown)))}
        # Twenty answers between at least, and not always the oldest.
        gaps = [n - first[item.id] - 1 for n, item in repeats]
        assert min(gaps) >= 20
        assert min(gaps) < 60
        assert max(gaps) > 200
        assert all(item.gold is None for _, item in repeats)
        places = [first[item.id] for _, item in repeats]
        assert places != sorted(places)
    one, two = told.values()
    assert [a.item.gold for a in one] != [a.item.gold for a in two]
    # Repeats and gold items make nothing done, and are nobody's progress.
    votes = [v for v in log.answers.votes() if v.round == 1]
    assert len(votes) == sum(a.round for shown in told.values() for a in shown)
    both = {a.item.id for a in one if a.item.gold is None} & {a.item.id for a in two if a.item.gold is None}
    assert log.batches.ready(2, None).done == len(both)
    assert log.batches.ready(1, None).items == 600
    before = [log.queue.answered_and_left(who, 2) for who in told]
    assert [answered for answered, _ in before] == [500, 500]
    log.rebuild()
    assert [log.queue.answered_and_left(who, 2) for who in told] == before


def test_a_repeat_is_answered_undone_and_skipped_like_any_other(tmp_path: Path) -> None:
    log = new(tmp_path / "l", [Item(f"prompt {i}", ("x", "y")) for i in range(60)])
    (one,) = people(log, 1)
    plan = Plan(repeat_share=0.5, repeat_after=1)
    while (assignment := log.queue.next(one, plan)) is not None and assignment.round == 0:
        send(log, "vote", one, assignment.item)
    assert assignment is not None
    send(log, "vote", one, assignment.item, choice="b")
    with pytest.raises(Refused, match="already"):
        send(log, "vote", one, assignment.item)
    rounds = [(v.round, v.choice) for v in log.answers.votes() if v.item == assignment.item.id]
    assert rounds == [(0, "a"), (1, "b")]
    send(log, "undo", one)
    again = log.queue.next(one, plan)
    assert again is not None
    assert (again.item, again.round, again.undone and again.undone.payload["choice"]) == (assignment.item, 1, "b")
    send(log, "skip", one, again.item)
    assert [e.round for e in log.answers.skips()] == [1]
    done = log.batches.ready(1, None).done
    send(log, "undo", one)
    # All the way back to the first vote on it: then there is nothing to repeat.
    while assignment.item.id in {v.item for v in log.answers.votes()}:
        send(log, "undo", one)
    assert log.batches.ready(1, None).done < done
    for _ in range(20):
        assignment = log.queue.next(one, Plan())
        assert assignment is not None
        assert assignment.round == 0
        send(log, "vote", one, assignment.item)


def test_nothing_is_repeated_before_it_is_time(log: Log) -> None:
    (one,) = people(log, 1)
    for n in range(6):
        assignment = log.queue.next(one, Plan(repeat_share=0.999, repeat_after=4))
        assert assignment is not None
        # Four answers lie between an item and its repeat: the sixth is the first that may be one.
        assert assignment.round == (n == 5)
        send(log, "vote", one, assignment.item)


def test_an_answered_item_without_a_planned_repeat_is_refused(log: Log) -> None:
    (one,) = people(log, 1)
    send(log, "skip", one, ITEMS[0])
    with pytest.raises(Refused, match="already"):
        send(log, "vote", one, ITEMS[0])


def test_counts_and_pace(log: Log) -> None:
    one, two = people(log, 2)
    for item, ms in zip(ITEMS[:4], (1000, 9000, None, 2000), strict=True):
        # A log of an earlier version may hold votes without a time.
        log.events.append(vote(one, item).model_copy(update={"ms": ms}))
    send(log, "skip", one, ITEMS[4])
    send(log, "vote", one, ITEMS[5], ms=50_000)
    send(log, "undo", one)
    first, second = log.queue.counts()
    assert (first.annotator, first.answered, first.skipped, first.undone, first.pace_ms) == (one, 4, 1, 1, 2000)
    assert first.last_at == list(log.events.read())[-1].at
    assert (second.answered, second.pace_ms, second.last_at) == (0, None, None)
    assert (log.queue.pace(one), log.queue.pace(two)) == (2000, None)
    assert (log.queue.answered_and_left(one, 1), log.queue.answered_and_left(two, 2)) == ((4, 1), (0, 6))


def test_the_plan_of_a_config() -> None:
    settings = LabelSection(votes=3, gold_share=0.1, repeat_share=0.2, repeat_after=7, lease_minutes=2.5)
    assert Plan.of(settings) == Plan(3, 0.1, 0.2, 7, 150.0)


# --- against a model


@dataclass
class Said:
    seq: int
    kind: str
    who: str
    item: str
    round: int = 0
    undone: bool = False
    value: Any = None


@dataclass
class Model:
    """The log as a list. Everything is counted anew whenever it is asked for."""

    order: list[Item] = field(default_factory=list[Item])
    said: list[Said] = field(default_factory=list[Said])
    leases: list[list[Any]] = field(default_factory=list[list[Any]])  # who, item, round, until; newest last

    def add(self, kind: str, who: str, item: str, value: Any = None, round_: int = 0) -> Said:
        self.said.append(Said(len(self.said) + 1, kind, who, item, round_, value=value))
        return self.said[-1]

    def answers(self, who: str | None = None) -> list[Said]:
        return [s for s in self.said if s.kind in ("vote", "skip") and not s.undone and who in (None, s.who)]

    def seen(self, who: str, item: str, round_: int = 0) -> bool:
        return any(s.item == item and s.round == round_ for s in self.answers(who))

    def done(self, item: Item, votes: int) -> bool:
        if any(s.kind == "adjudicate" and s.item == item.id for s in self.said):
            return True
        return self.votes_on(item) >= votes

    def votes_on(self, item: Item) -> int:
        return len({s.who for s in self.answers() if s.kind == "vote" and s.item == item.id and s.round == 0})

    def answer(self, kind: str, who: str, item: str, value: Any) -> bool:
        round_ = 0
        if self.seen(who, item):
            round_ = 1
            if not any(lease[:3] == [who, item, 1] for lease in self.leases):
                return False
        self.add(kind, who, item, value, round_)
        self.leases = [lease for lease in self.leases if lease[:3] != [who, item, round_]]
        return True

    def undo(self, who: str) -> str | None:
        if not self.answers(who):
            return None
        last = self.answers(who)[-1]
        last.undone = True
        self.add("undo", who, last.item, round_=last.round)
        self.leases = [lease for lease in self.leases if lease[:2] != [who, last.item]]
        self.leases.append([who, last.item, last.round, 0.0])
        return last.item

    def next(self, who: str, plan: Plan, now: float) -> tuple[str, int] | None:
        """Without gold items and repeats, which a hash decides."""
        by_id = {item.id: item for item in self.order}
        for lease in reversed([each for each in self.leases if each[0] == who]):
            _, item, round_, until = lease
            alive = 0 < until - now <= plan.lease_seconds
            if alive or until == 0 or round_ == 1 or by_id[item].gold or not self.done(by_id[item], plan.votes):
                if not plan.lease_seconds / 2 < until - now <= plan.lease_seconds:
                    lease[3] = now + plan.lease_seconds
                return item, round_
            self.leases.remove(lease)
        mine = [
            item
            for item in self.order
            if item.gold is None and not self.done(item, plan.votes) and not self.seen(who, item.id)
        ]
        for item in mine:
            others = [each for each in self.leases if each[0] != who and each[1] == item.id and each[2] == 0]
            live = [each for each in others if 0 < each[3] - now <= plan.lease_seconds]
            if self.votes_on(item) + len(live) < plan.votes:
                return item.id, 0
        return (mine[0].id, 0) if mine else None

    def left(self, who: str, votes: int) -> int:
        return sum(i.gold is None and not self.done(i, votes) and not self.seen(who, i.id) for i in self.order)


def compare(log: Log, model: Model, who: list[str], plan: Plan) -> None:
    votes = [(v.seq, v.item, v.annotator, v.choice, v.round) for v in log.answers.votes()]
    answers = sorted(model.answers(), key=lambda s: s.seq)
    assert votes == [(s.seq, s.item, s.who, s.value, s.round) for s in answers if s.kind == "vote"]
    assert [(e.seq, e.item) for e in log.answers.skips()] == [(s.seq, s.item) for s in answers if s.kind == "skip"]
    on = {(s.who, s.item): s for s in model.said if s.kind == "flag"}
    assert {(e.annotator, e.item) for e in log.answers.flags()} == {key for key, s in on.items() if s.value}
    assert log.answers.adjudications() == {s.item: s.value for s in model.said if s.kind == "adjudicate"}
    ready = log.batches.ready(plan.votes, None)
    ordinary = [item for item in model.order if item.gold is None]
    assert (ready.done, ready.items) == (sum(model.done(i, plan.votes) for i in ordinary), len(ordinary))
    for each in who:
        own = model.answers(each)
        answered = sum(s.kind == "vote" for s in own)
        assert log.queue.answered_and_left(each, plan.votes) == (answered, model.left(each, plan.votes))
        last = log.answers.last(each)
        assert (last.seq if last else None) == (own[-1].seq if own else None)


def derived(log: Log) -> list[Any]:
    tables = ("answers", "levels", "tallies WHERE answered + skipped > 0", "places")
    return [log.database.rows(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables]


# Seen failing with, among others: levels not lowered by an undo, a cursor that passes leased items, one that is
# kept for another number of votes, skips that count as votes, a round-one vote that counts.
@pytest.mark.parametrize("seed", range(12))
def test_random_sequences_against_the_model(tmp_path: Path, clock: Clock, seed: int) -> None:
    pace = random.Random(seed)
    special = seed % 3 == 2
    log, model = new(tmp_path / "l", []), Model()
    who = people(log, 3)
    shares = {"gold_share": 0.2, "repeat_share": 0.2} if special else {}
    plan = Plan(pace.choice([1, 2, 3]), repeat_after=2, lease_seconds=60.0, **shares)
    priorities: dict[str, float] = {}

    def add(n: int) -> None:
        for _ in range(n):
            gold = "a" if special and pace.random() < 0.3 else None
            item = Item(f"prompt {len(model.order)}", ("x", "y"), gold=gold)
            priorities[item.id] = pace.choice([0.0, 1.0, 2.0])
            log.batches.add_items([item], [priorities[item.id]])
            model.order.append(item)
        model.order.sort(key=lambda i: (priorities[i.id], int(i.prompt.split()[1])))

    add(8)
    for step in range(140):
        clock.now += pace.choice([1, 1, 1, 20, 70, -500])
        each = pace.choice(who)
        drawn = pace.random()
        if drawn < 0.45:
            wanted = model.next(each, plan, clock.now)
            got = log.queue.next(each, plan)
            if got is not None and wanted is not None and (got.item.gold or got.round):
                assert special
                assert not model.seen(each, got.item.id, got.round)
                assert got.round == 0 or model.seen(each, got.item.id)
            else:
                assert (got and (got.item.id, got.round)) == wanted
            if got is not None and not any(x[:3] == [each, got.item.id, got.round] for x in model.leases):
                model.leases.append([each, got.item.id, got.round, got.until])
                # Given anew: only to who has not answered it.
                assert not model.seen(each, got.item.id, got.round)
            if got is not None:
                assert abs(got.until - clock.now) <= plan.lease_seconds
        elif drawn < 0.75:
            current = log.queue.current(each)
            # Mostly what is assigned; at times anything at all, as from a page that was left open.
            item = current.item if current and pace.random() < 0.9 else pace.choice(model.order)
            kind = "skip" if pace.random() < 0.2 else "vote"
            choice = pace.choice("ab")
            content = {"choice": choice} if kind == "vote" else {}
            if model.answer(kind, each, item.id, choice):
                send(log, kind, each, item, **content)
            else:
                with pytest.raises(Refused):
                    send(log, kind, each, item, **content)
        elif drawn < 0.87:
            item_id = model.undo(each)
            if item_id is None:
                with pytest.raises(Refused):
                    send(log, "undo", each)
            else:
                send(log, "undo", each)
        elif drawn < 0.91:
            item, on = pace.choice(model.order), pace.random() < 0.6
            log.events.append(new_event("flag", each, item, on=on))
            model.add("flag", each, item.id, on)
        elif drawn < 0.93:
            item, choice = pace.choice(model.order), pace.choice("ab")
            send(log, "adjudicate", "operator", item, choice=choice)
            model.add("adjudicate", "operator", item.id, choice)
        elif drawn < 0.96:
            add(pace.randrange(1, 3))
        elif drawn < 0.98:
            changed = {i.id: pace.choice([0.0, 1.0, 2.0]) for i in pace.sample(model.order, 3)}
            log.batches.set_priorities(changed)
            priorities |= changed
            model.order.sort(key=lambda i: (priorities[i.id], int(i.prompt.split()[1])))
        else:
            plan = Plan(pace.choice([1, 2, 3]), repeat_after=2, lease_seconds=60.0, **shares)
        if step % 10 == 9:
            compare(log, model, who, plan)
            before = derived(log)
            if step % 40 == 39:
                log.rebuild()
                assert derived(log) == before
    log.close()
