"""kill -9 while publishing, a stop before every single system call that matters, and several writers at once."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from pipeline.store import refs
from pipeline.store.store import Store
from tests.helpers.dying import die_before_every_step
from tests.helpers.versions import publish

ROWS = 200

PUBLISH = f"""
import sys
from pipeline.store.store import Store
def publish(root, tag, key=None):
    with Store(root).draft("prefs", kind="preferences", stage="collect", key=key) as draft:
        draft.write_rows("train", ({{"id": f"{{tag}}-{{i}}", "text": "x" * 50}} for i in range({ROWS})))
        (draft.path / "adapter.bin").write_bytes(b"w" * 1_000_000)
    return draft.version
"""


def start(code: str, *args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PUBLISH + textwrap.dedent(code), *map(str, args)], stdout=subprocess.PIPE, text=True
    )


def check_intact(store: Store) -> int:
    """Every version complete, the head on one of them; returns the newest number, 0 for none."""
    home = store.root / "prefs"
    there = refs.numbers(home)
    versions = store.versions("prefs")
    assert [v.number for v in versions] == there == list(range(1, len(there) + 1))
    for version in versions:
        assert version.verify() == []
        assert len(version.rows()) == ROWS
    head = refs.read_head(home) if there else None
    # The head is the newest version, or the one before where death came between the rename and the head.
    assert head in ({len(there), len(there) - 1 or None} if there else {None})
    return len(there)


def kill_while_publishing(root: Path, tries: int, seed: int) -> list[int]:
    pace = random.Random(seed)
    counts = [0]
    for attempt in range(tries):
        writer = start(
            """
            publish(sys.argv[1], "warm")
            print("ready", flush=True)
            while True:
                publish(sys.argv[1], sys.argv[2])
            """,
            root,
            attempt,
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        time.sleep(pace.random() * 0.15)
        writer.kill()
        writer.wait()
        writer.stdout.close()
        counts.append(check_intact(Store(root)))
        assert counts[-1] > counts[-2]
    return counts


# Seen failing with: files written in place, under versions/, instead of in staging.
@pytest.mark.slow
def test_kill_9_at_random_moments_breaks_nothing(tmp_path: Path) -> None:
    kill_while_publishing(tmp_path / "data", tries=12, seed=1)
    last = Store(tmp_path / "data").draft("prefs", kind="preferences", stage="collect")
    with last as draft:
        draft.write_rows("train", [{"id": str(i)} for i in range(ROWS)])
    assert Store(tmp_path / "data").resolve("prefs") == draft.version
    assert Store(tmp_path / "data").gc(dry_run=True).damaged == []


@pytest.mark.slow
def test_kill_9_campaign(tmp_path: Path) -> None:
    counts = kill_while_publishing(tmp_path / "data", tries=150, seed=int(time.time()))
    assert counts[-1] > 150


PUBLISH_ONE = f"""
import importlib.metadata, pyarrow, pyarrow.parquet, yaml
from pipeline.store.manifest import code
{PUBLISH}
code()
def work(root):
    publish(root, "x")
"""


# Seen failing with: the head moved before the rename; a copy instead of the rename.
@pytest.mark.parametrize("before", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_death_before_every_single_step(tmp_path: Path, before: int) -> None:
    for _ in range(before):
        publish(Store(tmp_path / "before"), ({"id": f"x-{i}"} for i in range(ROWS)))
    copies = die_before_every_step(tmp_path, PUBLISH_ONE, ("fsync", "rename", "replace", "mkdir"))
    # At least: shard, file, manifest, card, three directories, rename, head.
    assert len(copies) > 9
    counts = [check_intact(Store(copy)) for copy in copies]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (before, before + 1)


RACE = """
    import time
    root, me, start_at = sys.argv[1], sys.argv[2], float(sys.argv[3])
    import pyarrow.parquet
    time.sleep(max(0, start_at - time.time()))
    for turn in range(int(sys.argv[4])):
        version = publish(root, f"{me}-{turn}", key=sys.argv[5] or None)
        print(version.number, me, turn, flush=True)
"""


def race(root: Path, turns: int, key: str = "") -> list[list[str]]:
    begin = time.time() + 1.5
    writers = [start(RACE, root, me, begin, turns, key) for me in range(4)]
    outputs = [writer.communicate(timeout=120)[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 4
    return [line.split() for output in outputs for line in output.splitlines()]


# Seen failing with: no lock, and a copy instead of the rename (numbers shared, versions lost).
def test_four_writers_lose_nothing_and_share_no_number(tmp_path: Path) -> None:
    said = race(tmp_path, turns=5)
    assert sorted(int(number) for number, _, _ in said) == list(range(1, 21))
    assert check_intact(Store(tmp_path)) == 20
    store = Store(tmp_path)
    for number, me, turn in said:
        assert store.resolve(f"prefs@v{number}").rows()[0]["id"] == f"{me}-{turn}-0"
    assert store.resolve("prefs").number == 20


# Seen failing with: publishing without the lock.
def test_four_writers_of_the_same_work_publish_it_once(tmp_path: Path) -> None:
    said = race(tmp_path, turns=2, key="k")
    assert {number for number, _, _ in said} == {"1"}
    assert check_intact(Store(tmp_path)) == 1
