"""How long a person waits for the log of labelling: 100,000 comparisons, 21 people, one with 60,000 answers.

``QUICK=1`` takes a tenth of each. HTTP and the browser are not timed. ``python -m tests.bench.labelling`` prints
one JSON object.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.labelling.items import Item, order_of
from pipeline.labelling.log.events import append_in
from pipeline.labelling.log.log import Log
from pipeline.labelling.log.new_event import NewUndo, NewVote
from pipeline.labelling.log.queue import Plan
from tests.bench.harness import QUICK, say

SHARE = 10 if QUICK else 1
ITEMS, PEOPLE, ANSWERS, BUSIEST = 100_000 // SHARE, 20, 2_000 // SHARE, 60_000 // SHARE
PLAN = Plan(votes=2, gold_share=0.05, repeat_share=0.05)
CALLS = 500 // SHARE
TARGET_MS = 50.0


def bench(out: Path) -> dict[str, Any]:
    """The figures as ``label``, and what a page waits for at most as ``label_next_ms``."""
    del out  # a directory of its own, which ends first
    say(f"labelling page: {ITEMS:,} comparisons and {PEOPLE + 1} people")
    figures = labelling()
    for name, numbers in figures.items():
        if isinstance(numbers, dict):
            say(f"  {name:10}{numbers['p50']:8.2f} ms, at most {numbers['max']:.2f}")
    return {"label": figures, "label_next_ms": figures["next"]["max"]}


def labelling() -> dict[str, Any]:
    """Milliseconds of each call that a page makes, each on a connection of its own.

    ``cpu`` is the most that one call computed; ``flush`` is this disk's time for 4 kB, meanwhile.
    """
    pace = random.Random(0)
    with tempfile.TemporaryDirectory() as text:
        directory = Path(text) / "bench-labels"
        started = time.perf_counter()
        people = build(directory, pace)
        result: dict[str, Any] = {"build_s": round(time.perf_counter() - started, 1)}
        result["file_mb"] = round(sum(p.stat().st_size for p in directory.iterdir()) / 1e6)
        calls = ("open", "next", "append", "my_count", "last", "pace", "flush")
        taken: dict[str, list[float]] = {name: [] for name in calls}
        cpu: dict[str, float] = dict.fromkeys(calls, 0.0)

        def timed(name: str, work: Callable[..., Any], *values: Any) -> Any:
            before, computed = time.perf_counter(), time.thread_time()
            value = work(*values)
            taken[name].append((time.perf_counter() - before) * 1000)
            cpu[name] = max(cpu[name], (time.thread_time() - computed) * 1000)
            return value

        # A server holds connections too; without one, each close would empty the write-ahead log.
        server = Log(directory)
        for who in people:
            server.queue.next(who, PLAN)
        for i in range(CALLS):
            who = people[i % len(people)]
            log: Log = timed("open", Log, directory)
            log.close()  # so that the next call connects anew
            assignment = timed("next", log.queue.next, who, PLAN)
            log.close()
            timed("append", log.events.append, vote(f"bench-{i:06}", who, assignment.item, pace))
            timed("my_count", log.queue.answered_and_left, who, PLAN.votes)
            timed("last", log.answers.last, who)
            timed("pace", log.queue.pace, who)
            timed("flush", flush, directory / "flush")
            if i % 50 == 0:
                log.events.append(NewUndo(key=f"bench-undo-{i:06}", annotator=who))
            log.close()
        for name, values in taken.items():
            values.sort()
            numbers = {"p50": statistics.median(values), "p95": values[len(values) * 95 // 100], "max": values[-1]}
            result[name] = {k: round(v, 2) for k, v in (numbers | {"cpu": cpu[name]}).items()}
        result |= whole(server, people[0])
    result["target_ms"] = TARGET_MS
    result["met"] = max(result[name]["max"] for name in ("next", "append")) < TARGET_MS
    return result


def flush(path: Path) -> None:
    with path.open("ab") as f:
        f.write(bytes(4096))
        f.flush()
        os.fsync(f.fileno())


def whole(log: Log, who: str) -> dict[str, float]:
    """Milliseconds of what only the operator waits for."""
    works: dict[str, Callable[[], Any]] = {
        "ready": lambda: log.batches.ready(PLAN.votes, None),
        "counts": log.queue.counts,
        "votes": log.answers.votes,
        "next_after_rebuild": lambda: log.queue.next(who, PLAN),
        "rebuild": log.rebuild,
    }
    out: dict[str, float] = {}
    for name, work in works.items():
        if name == "next_after_rebuild":
            log.rebuild()
        started = time.perf_counter()
        work()
        out[f"{name}_ms"] = round((time.perf_counter() - started) * 1000, 2)
    log.close()
    return out


def build(directory: Path, pace: random.Random) -> list[str]:
    """A project half-way through; returns the people, the one with most answers first."""
    log = Log(directory)
    log.batches.open("bench", {})
    prompt, completion = "word " * 30, "word " * 40
    items = [Item(f"{prompt}{i}", (f"{completion}a", f"{completion}b")) for i in range(ITEMS)]
    log.batches.add_items(items, [pace.random() for _ in items])
    gold = [Item(f"gold {i}", (f"{completion}a", f"{completion}b"), gold="a") for i in range(200)]
    log.batches.add_items(gold)
    log.batches.finish()
    order = [item for item in log.batches.items() if item.gold is None]
    people = [log.people.add(f"person {i}").id for i in range(PEOPLE + 1)]
    # One transaction; a flush to disk for each of 100,000 votes would take ten minutes.
    with log.database.write() as db:
        for i in range(BUSIEST):
            append_in(db, vote(f"busiest-{i:06}", people[0], order[i], pace))
        for n, who in enumerate(people[1:]):
            for i in range(ANSWERS):
                append_in(db, vote(f"person{n}-{i:06}", who, order[n * ANSWERS + i], pace))
    log.close()
    return people


def vote(key: str, who: str, item: Item, pace: random.Random) -> NewVote:
    choice, order = pace.choice(["a", "b", "tie"]), order_of(item.id, who, "salt", 2)
    return NewVote(
        key=key, annotator=who, item=item.id, choice=choice, order=order, ms=pace.randrange(800, 30_000)
    )


if __name__ == "__main__":
    print(json.dumps(labelling()))
    sys.exit(0)
