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
from tests.helpers.forks import forked
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
    command = [sys.executable, "-c", PUBLISH + textwrap.dedent(code), *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


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


# Before a fork: all that is imported or asked of git at the first version. pyarrow looks for pandas then.
WRITES = f"""
import pandas, pyarrow, pyarrow.parquet, yaml
from pipeline.store.manifest import code_version, environment
{PUBLISH}
code_version(), environment("")
"""
PUBLISH_ONE = f"""
{WRITES}
def work(root):
    publish(root, "x")
"""


# Seen failing with: the head moved before the rename; a copy instead of the rename.
@pytest.mark.thorough
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


# Each begins when all are there, and again before the work that all have in common.
RACE = f"""
{WRITES}
def work(own, same, me):
    for root, key in ((own, None), (same, "k{{}}")):
        print("ready", flush=True)
        sys.stdin.readline()
        for turn in range(5):
            version = publish(root, f"{{me}}-{{turn}}", key=key and key.format(turn))
            print(version.number, me, turn, flush=True)
"""


@pytest.fixture(scope="module")
def race(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Store, list[tuple[int, str]]]]:
    """Two stores, and what four writers say they published there: the number, its writer and its turn."""
    roots = [str(tmp_path_factory.mktemp(name)) for name in ("own", "same")]
    said: list[list[tuple[int, str]]] = [[], []]
    with forked(RACE, [(*roots, me) for me in range(4)]) as writers:
        for lines in said:
            for writer in writers:
                writer.expect("ready")
            for writer in writers:
                writer.send("go")
            for writer in writers:
                for _ in range(5):
                    number, me, turn = writer.stdout.readline().split()
                    lines.append((int(number), f"{me}-{turn}"))
    assert writers.exits == [0] * 4
    return [(Store(Path(root)), lines) for root, lines in zip(roots, said, strict=True)]


# Seen failing with: no lock, and a copy instead of the rename (numbers shared, versions lost).
@pytest.mark.thorough
def test_four_writers_lose_nothing_and_share_no_number(race: list[tuple[Store, list[tuple[int, str]]]]) -> None:
    store, lines = race[0]
    assert sorted(number for number, _ in lines) == list(range(1, 21))
    assert check_intact(store) == 20
    for number, tag in lines:
        assert store.resolve(f"prefs@v{number}").rows()[0]["id"] == f"{tag}-0"
    assert store.resolve("prefs").number == 20


# Seen failing with: publishing without the lock.
@pytest.mark.thorough
def test_four_writers_of_the_same_work_publish_it_once(race: list[tuple[Store, list[tuple[int, str]]]]) -> None:
    store, lines = race[1]
    for turn in range(5):
        assert len({number for number, tag in lines if tag.endswith(f"-{turn}")}) == 1
    assert check_intact(store) == 5
