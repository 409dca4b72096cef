"""Forgetting a person: what is left in the logs and versions, what is told, and a death at any moment."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline import __main__ as command
from pipeline.base.errors import ConfigError, DataError, StoreError
from pipeline.base.records import COMPARISONS, PREFERENCES, Comparison, row_id
from pipeline.erasure import amend, mentions, successors
from pipeline.erasure import erase_person as forgetting
from pipeline.governance.audit_log import AuditLog
from pipeline.labelling.items import Item, order_of
from pipeline.labelling.log.log import Log
from pipeline.labelling.session.project import LabellingProject
from pipeline.labelling.session.session import LabellingSession
from pipeline.store import refs
from pipeline.store.store import Store, Version
from tests.helpers.dying import Died, die_after_calls, raising
from tests.helpers.traces import holding
from tests.unit.labelling.helpers import agree, new_event

ONE, TWO, THREE = "the first person", "the second person", "the third person"
NOTE = "a note that only the first one could write"
EDIT = "an answer in the first one's own words"
MODELS = ("adapter", "model")


@dataclass
class World:
    """A data directory with an experiment ``x`` that people labelled."""

    root: Path
    people: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return Store(self.root)

    def ids(self) -> dict[str, str]:
        with closing(Log(self.root / "x-labels")) as log:
            return {p.name: p.id for p in log.people.all()}

    def run(self, *args: str) -> int:
        return command.main(["data", "forget", *args, "--root", str(self.root)])

    def latest(self, name: str = "x-preferences") -> Version:
        return self.store.resolve(name)


def publish(
    store: Store, name: str, kind: str, rows: Any, parents: list[tuple[Version, str]], **more: Any
) -> Version:
    with store.draft(name, kind=kind, stage="test", parents=parents, config={"name": "x"}, **more) as draft:
        if kind in MODELS:
            (draft.path / "adapter_model.safetensors").write_bytes(name.encode())
        else:
            draft.write_rows("test", rows)
    return draft.version


def comparisons(store: Store, name: str = "x-comparisons", count: int = 12) -> Version:
    some = [Comparison(f"{name} {i}", f"first {i}", f"second {i}") for i in range(count)]
    rows = [{"id": c.id, **{k: getattr(c, k) for k in ("prompt", "completion_a", "completion_b")}} for c in some]
    with store.draft(name, kind="comparisons", stage="collect", key=name) as draft:
        draft.write_rows("train", rows[: count // 2], schema=COMPARISONS)
        draft.write_rows("test", rows[count // 2 :], schema=COMPARISONS)
    return draft.version


class Evening:
    """People before the page of an experiment."""

    def __init__(self, store: Store, name: str = "x", previous: Version | None = None, **label: Any) -> None:
        self.made = comparisons(store, f"{name}-comparisons")
        settings = {"votes": 3, "ask": ["note", "edit", "strength"], "margin": "strength", **label}
        self.project = LabellingProject(settings, store.home(f"{name}-labels"), "x.yaml")
        self.log = self.project.open(f"{name}-batch", {})

        def open_draft(made: Version, governance: dict[str, Any]) -> Any:
            parents = [(made, "comparisons")] + ([(previous, "previous")] if previous else [])
            return store.draft(
                f"{name}-preferences",
                kind="preferences",
                stage="collect",
                key=f"key of {name}",
                parents=parents,
                config={"name": name},
                governance=governance,
                republish_if_changed=True,
            )

        self.session = LabellingSession(self.project, self.log, open_draft, previous)
        self.session.ask_about(self.made)

    def say(self, who: str, kind: Any, item: Item | None, **payload: Any) -> None:
        person = self.log.people.add(who)
        if self.log.answers.consent_of(person.id) is None:
            agree(self.log, person.id)
        if kind == "vote":
            assert item is not None
            payload["order"] = order_of(item.id, person.id, self.log.people.salt, 2)
        key = hashlib.sha256(repr((who, kind, item, payload)).encode()).hexdigest()
        self.log.events.append(new_event(kind, person.id, item and item.id, key=key, **payload))

    def publish(self) -> Version:
        self.session.published = None
        self.session.publish()
        assert self.session.published is not None
        return self.session.published


def label(world: World, without: str = "", evenings: int = 2) -> list[Version]:
    """Two evenings of three people; ``without`` leaves out everything of one of them."""
    evening = Evening(world.store, order="sampled")
    items = list(evening.log.batches.items())

    def say(who: str, *args: Any, **payload: Any) -> None:
        if who != without:
            evening.say(who, *args, **payload)

    versions: list[Version] = []
    for n, item in enumerate(items):
        # Alone on the first two of each split, decisive on the next, and of no weight on the rest.
        say(ONE, "vote", item, choice="a", strength="much", note=NOTE if n == 0 else "")
        if n % 6 > 1:
            say(TWO, "vote", item, choice="b" if n % 6 == 2 else "a")
        if n % 6 > 2:
            say(THREE, "vote", item, choice="a", strength="slightly")
        if n % 6 == 2:
            say(THREE, "vote", item, choice="a")
    say(ONE, "edit", items[4], completion=1, text=EDIT)
    decided = {"choice": "b"}
    evening.log.events.append(new_event("adjudicate", "operator", items[5], key="by-the-operator", **decided))
    say(ONE, "flag", items[4], on=True, reason="other", note=NOTE)
    versions.append(evening.publish())
    if evenings > 1:
        say(TWO, "skip", items[0], reason="not my subject", note="of the second one")
        say(TWO, "edit", items[5], completion=0, text="better, says the second one")
        versions.append(evening.publish())
    evening.log.close()
    return versions


def train(world: World, preferences: Version) -> None:
    """What stages make of preferences, less the training."""
    store = world.store
    rows = [
        {**{k: r[k] for k in ("id", "prompt", "chosen", "rejected")}, "score": 0.5}
        for r in preferences.rows("test")
    ]
    scores = publish(store, "x-scores", "scores", rows, [(preferences, "preferences")])
    reward = publish(store, "x-reward", "adapter", None, [(preferences, "preferences"), (scores, "scores")])
    policy = publish(store, "x-policy", "adapter", None, [(reward, "reward")])
    publish(store, "x-evaluation", "evaluation", [{"prompt": "p", "score": 1.0}], [(policy, "policy")])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Looked at and copied, never changed."""
    world = World(tmp_path_factory.mktemp("made") / "data")
    versions = label(world)
    world.store.tag(versions[1].ref, "gold")
    train(world, versions[1])
    return world


@pytest.fixture
def world(made: World, tmp_path: Path) -> World:
    copy = World(tmp_path / "data")
    shutil.copytree(made.root, copy.root)
    return copy


@pytest.fixture(scope="module")
def never(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The world in which the first person never came."""
    world = World(tmp_path_factory.mktemp("never") / "data")
    label(world, without=ONE)
    return world


def rows_of(version: Version, ids: dict[str, str]) -> dict[str, list[Any]]:
    """All rows, people by name; without what depends on their random ids and on the clock."""
    names = {id: name for name, id in ids.items()}
    found: dict[str, list[Any]] = {}
    for key in version.splits:
        config, _, split = key.rpartition("/")
        rows = version.rows(split, config or "default")
        for row in rows:
            row.pop("at", None)
            row.pop("shown", None)
            if config in ("votes", "edits"):
                row.pop("id")
            if "annotator" in row:
                row["annotator"] = names.get(row["annotator"], row["annotator"])
        found[key] = rows
    return found


def state(root: Path) -> dict[str, Any]:
    """What is there: versions and their rows' ids, tombstones, heads, tags."""
    store, found = Store(root), {}
    for name in sorted(p.name for p in root.iterdir() if (p / "tombstones").is_dir() or (p / "versions").is_dir()):
        versions = {
            v.number: (v.id, v.manifest.key, [p.ref for p in v.manifest.parents]) for v in store.versions(name)
        }
        tombstones = {
            p.stem: json.loads(p.read_text())["governance"]["erased"]["heir"]
            for p in sorted((root / name / "tombstones").glob("*.json"))
        }
        staging = sorted(p.name for p in (root / name / ".staging").glob("*"))
        found[name] = (versions, tombstones, store.head(name), store.tags(name), staging)
    return found


# What is left


def test_nothing_of_the_person_is_left(world: World, made: World, capsys: pytest.CaptureFixture[str]) -> None:
    one = world.ids()[ONE]
    everywhere = {text: holding(made.root, text) for text in (one, ONE, NOTE, EDIT)}
    assert "x-preferences/versions/v000002/edits/train-00000-of-00001.parquet" in everywhere[EDIT]
    assert len(everywhere[NOTE]) >= 3
    assert world.run(ONE, "--yes") == 0
    for text in (one, ONE, NOTE, EDIT):
        assert holding(world.root, text) == [], text
    with closing(Log(world.root / "x-labels")) as log:
        assert one not in [e.annotator for e in log.events.read()]
        assert sorted(p.name for p in log.people.all()) == [TWO, THREE]
    assert not (world.root / ".forgetting").exists()
    assert "still names" not in capsys.readouterr().err


def test_what_is_left_is_as_if_the_person_had_never_come(world: World, never: World) -> None:
    assert world.run(ONE, "--yes") == 0
    expected = rows_of(never.latest(), never.ids())
    found = rows_of(world.latest(), world.ids())
    assert found == expected
    # The third one said slightly, the first one much; the operator decided one; the second one wrote one.
    better = "better, says the second one"
    assert [(r["chosen"], r["margin"]) for r in found["train"]] == [
        ("first 3", 1.0), ("first 4", 1.0), ("second 5", None), (better, None)
    ]  # fmt: skip
    counts = {k: v for k, v in never.latest().manifest.stats.items() if k not in ("flagged", "stage_seconds")}
    assert {k: v for k, v in world.latest().manifest.stats.items() if k != "stage_seconds"} == counts


def test_the_new_version_stands_in_the_place_of_the_old_one(world: World) -> None:
    old = world.latest()
    assert old.number == 2
    assert world.run(ONE, "--yes") == 0
    new = world.latest()
    assert new.ref == "x-preferences@v000003"
    assert new.manifest.key == old.manifest.key
    assert [p.ref for p in new.manifest.parents] == ["x-comparisons@v000001"]
    assert world.store.find("x-preferences", "key of x") == new
    assert new.verify() == []
    # Publishing what is left in the log is the same work, done already.
    evening = Evening(world.store)
    assert evening.publish() == new
    evening.log.close()
    assert world.store.gc(dry_run=True).damaged == []


def test_the_tombstones_hold_no_content(world: World) -> None:
    before = world.latest()
    assert world.run(ONE, "--yes") == 0
    text = (world.root / "x-preferences/tombstones/v000002.json").read_text()
    tombstone = json.loads(text)
    erased = tombstone["governance"]["erased"]
    assert (erased["heir"], erased["tags"]) == ("x-preferences@v000003", ["gold"])
    assert len(erased["manifest_sha256"]) == 64
    assert {k: s["rows"] for k, s in tombstone["splits"].items()} == before.splits
    assert all(s["files"] == [] for s in tombstone["splits"].values())
    # v1 was followed by v2, and no tag names it: nobody needs a version in its place.
    first = json.loads((world.root / "x-preferences/tombstones/v000001.json").read_text())
    assert first["governance"]["erased"]["heir"] is None
    reward = world.latest("x-reward")
    assert [line.split("  ")[0] for line in world.store.lineage(reward).draw()][
        1
    ] == "├── preferences: x-preferences@v000002"
    assert world.store.tags("x-preferences") == {}


def test_what_was_made_from_the_rows_and_shows_them_goes_too(world: World) -> None:
    assert world.run(ONE, "--yes") == 0
    assert "x-scores" not in world.store.names()
    for name in ("x-reward", "x-policy", "x-evaluation", "x-comparisons"):
        assert world.latest(name).verify() == []


def test_scores_without_such_rows_stay(world: World) -> None:
    # Those that two others agreed on.
    kept = [r for r in world.latest().rows("test") if r["chosen"] in ("first 9", "first 10", "first 11")]
    rows = [{"id": r["id"], "score": 1.0} for r in kept]
    assert len(rows) == 3
    version = publish(world.store, "x-scores", "scores", rows, [(world.latest(), "preferences")])
    assert world.run(ONE, "--yes") == 0
    assert world.store.versions("x-scores") == [version]
    assert world.latest("x-scores") == version


def test_versions_that_carry_the_rows_are_replaced_too(world: World, never: World) -> None:
    for one in (world, never):
        evening = Evening(one.store, "y", previous=one.latest())
        for item in list(evening.log.batches.items()):
            evening.say(TWO, "vote", item, choice="b")
        evening.publish()
        evening.log.close()
    # An annotator that is no person carries them as well.
    carried = [r for r in world.latest().rows() if r["annotator"] == world.ids()[ONE]]
    assert carried
    carrying(world, world.latest(), "z-preferences")
    # Of carried rows that two others agreed on.
    kept = [{"id": r["id"], "score": 1.0} for r in world.latest().rows() if r["chosen"] in ("first 3", "first 4")]
    scores = [
        publish(world.store, f"{n}-scores", "scores", kept, [(world.latest(f"{n}-preferences"), "preferences")])
        for n in "yz"
    ]
    assert world.run(ONE, "--yes") == 0
    assert [len(kept), *map(world.store.resolve, ("y-scores", "z-scores"))] == [2, *scores]
    y, z = world.latest("y-preferences"), world.latest("z-preferences")
    assert [p.ref for p in y.manifest.parents] == ["y-comparisons@v000001", "x-preferences@v000003"]
    assert len(y.rows()) == 4 + 6
    assert [{**r, "annotator": ""} for r in y.rows()] == [
        {**r, "annotator": ""} for r in never.latest("y-preferences").rows()
    ]
    assert [r["id"] for r in z.rows()] == [r["id"] for r in world.latest().rows()] + ["own"]
    assert z.rows(config="votes") == [{"id": "v", "choice": "a", "annotator": "oracle"}]
    assert (z.number, z.manifest.key) == (2, "z-preferences")
    # The carried rows are one file on the disk.
    assert os.stat(y.shards()[0]).st_ino == os.stat(world.latest().shards()[0]).st_ino
    assert holding(world.root, EDIT) == []


def test_carried_rows_are_not_told_as_imported(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    one = world.ids()[ONE]
    z = carrying(world, world.latest(), "z-preferences")
    assert one in [r["annotator"] for r in z.rows()]
    assert world.run(ONE, "--dry-run") == 0
    told = capsys.readouterr().out
    assert "z-preferences@v000001: only carried ones" in told
    assert "imported" not in told


def test_an_older_version_that_is_carried_is_replaced_too(world: World) -> None:
    carrying(world, world.store.resolve("x-preferences@v1"), "z-preferences")
    assert world.run(ONE, "--yes") == 0
    first = world.store.resolve("x-preferences@v3")
    assert (first.manifest.key, world.latest().number) == (None, 4)
    z = world.latest("z-preferences")
    assert [p.ref for p in z.manifest.parents] == [first.ref]
    assert [r["id"] for r in z.rows()] == [r["id"] for r in first.rows()] + ["own"]
    assert len(first.rows()) == 3


def test_carried_rows_of_others_stay(world: World) -> None:
    before = carrying(world, None, "w-preferences")
    # One of its rows is what the second one will say as well.
    a, b = "first 0", "second 0"
    row = {"id": row_id("y-comparisons 0", b, a), "prompt": "y-comparisons 0", "chosen": b, "rejected": a}
    with world.store.draft("w-preferences", kind="preferences", stage="collect", key="more") as draft:
        draft.write_rows("train", [{**row, "annotator": "oracle"}], carry=before)
    before = draft.version
    evening = Evening(world.store, "y", previous=before)
    for item in list(evening.log.batches.items()):
        for who in (ONE, TWO):
            evening.say(who, "vote", item, choice="b")
    scored = [{"id": "own", "score": 1.0}]
    scores = publish(world.store, "y-scores", "scores", scored, [(evening.publish(), "preferences")])
    evening.log.close()
    assert world.run(ONE, "--yes") == 0
    assert world.latest("y-scores") == scores
    y = world.latest("y-preferences")
    assert [p.ref for p in y.manifest.parents] == ["y-comparisons@v000001", "w-preferences@v000002"]
    assert y.rows()[: len(before.rows())] == before.rows()
    assert len(y.rows()) == len(before.rows()) + 5


def test_nothing_is_carried_from_a_version_that_left_nothing(tmp_path: Path) -> None:
    world = World(tmp_path / "data")
    evening = Evening(world.store)
    for item in list(evening.log.batches.items()):
        evening.say(ONE, "vote", item, choice="a")
    carrying(world, evening.publish(), "z-preferences")
    evening.log.close()
    assert world.run(ONE, "--yes") == 0
    z = world.latest("z-preferences")
    assert (z.manifest.parents, [r["id"] for r in z.rows()], z.splits["votes/train"]) == ([], ["own"], 1)


def test_without_the_log(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one = world.ids()[ONE]
    with monkeypatch.context() as patch, contextlib.suppress(Died):
        patch.setattr(Log, "forget", raising(Died))
        world.run(one, "--yes")
    shutil.rmtree(world.root / "x-labels")
    with monkeypatch.context() as patch, contextlib.suppress(Died):
        patch.setattr(forgetting, "place_heads", raising(Died))
        world.run(one, "--yes")
    assert (world.root / ".forgetting").exists()
    assert world.run(one, "--yes") == 0
    assert holding(world.root, one) == []
    assert not (world.root / ".forgetting").exists()
    assert not (world.root / "x-labels").exists()


def test_a_head_that_was_moved_back_goes_to_the_version_in_its_place(world: World) -> None:
    first = world.store.resolve("x-preferences@v1")
    refs.move_head(world.root / "x-preferences", 1, first.id)
    assert world.run(ONE, "--yes") == 0
    assert world.latest().ref == "x-preferences@v000003"
    assert "edits/train" not in world.latest().splits  # the second one wrote theirs later


def test_a_version_that_only_the_person_made_leaves_nothing(tmp_path: Path) -> None:
    world = World(tmp_path / "data")
    evening = Evening(world.store)
    for item in list(evening.log.batches.items()):
        evening.say(ONE, "vote", item, choice="a")
    version = evening.publish()
    evening.log.close()
    train(world, version)
    assert world.run(ONE, "--yes") == 0
    assert world.store.names() == ["x-comparisons", "x-evaluation", "x-policy", "x-reward"]
    assert not (world.root / "x-preferences/refs/heads/main.json").exists()
    with pytest.raises(StoreError, match="was collected"):
        world.store.resolve("x-preferences@v1")


def test_heads_and_tags_of_older_versions(world: World) -> None:
    """The head is an oracle's version; the person's is older, tagged, and of other settings."""
    with world.store.draft("x-preferences", kind="preferences", stage="collect", key="oracle") as draft:
        draft.write_rows("train", [{"id": "own", "annotator": "oracle"}])
    world.store.tag("x-preferences@v1", "first")
    assert world.run(ONE, "--yes") == 0
    assert world.latest() == draft.version
    # v1 was tagged, so it is replaced; the work's key is with the replacement of v2.
    keys = {v.number: v.manifest.key for v in world.store.versions("x-preferences")}
    assert keys == {3: "oracle", 4: None, 5: "key of x"}
    assert world.store.tags("x-preferences") == {}


def test_leftovers_and_old_tombstones_are_cleaned(world: World) -> None:
    one = world.ids()[ONE]
    home = world.root / "x-preferences"
    dead = home / ".staging" / "dead"
    dead.mkdir()
    (dead / "train.part").write_text(one)
    tombstone = home / "tombstones" / "v000009.json"
    manifest = json.loads((home / "versions/v000001/manifest.json").read_text())
    tombstone.parent.mkdir()
    tombstone.write_text(json.dumps({**manifest, "version": 9, "stats": {"annotators": {one: 1}}}))
    assert world.run(ONE, "--yes") == 0
    assert not dead.exists()
    assert one not in tombstone.read_text()


def test_what_cannot_be_cleaned_is_told(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    one = world.ids()[ONE]
    export = world.root / "export.jsonl"
    export.write_text(f'{{"annotator": "{one}"}}\n')
    copy = world.root / "copy.parquet"
    shutil.copy(world.latest().shards(config="votes")[0], copy)
    (world.root / "empty").touch()
    assert world.run(ONE, "--yes") == 1
    told = capsys.readouterr().err
    assert told == (
        f"warning: {copy} still names {one}, or cannot be read\n"
        f"warning: {export} still names {one}, or cannot be read\n"
        f"Run again: python -m pipeline data forget {one}\n"
    )
    export.unlink()
    copy.unlink()
    assert world.run(one, "--yes") == 0


# What is told and asked


def test_what_would_go_is_told_before(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    publish(
        world.store, "x-policy", "adapter", None, [(world.latest("x-reward"), "reward")],
        governance={"hub": [{"repo": "org/x-policy", "revision": "v2"}]},
    )  # fmt: skip
    before = state_of_files(world.root)
    assert world.run(ONE, "--dry-run") == 0
    assert state_of_files(world.root) == before
    told = capsys.readouterr().out
    one = world.ids()[ONE]
    # Of the eight: three pairs of each split that rested on their word, the edit, and its pair.
    theirs = "3 in train, 6 in votes/train, 1 in edits/train, 2 in test, 6 in votes/test"
    expected = f"""\
        {one} in x-labels: every event and the name are erased

        versions with this person's rows
          x-preferences@v000001: {theirs}; erased; a later version of the same work exists
          x-preferences@v000002: {theirs}; replaced by a new version with 8 training rows less

        derived from them and showing removed rows: erased
          x-scores@v000001: scores, 3 such rows

        models trained on them, which stay
          x-reward@v000001: adapter, from x-preferences@v000002, x-scores@v000001
          x-policy@v000001: adapter, from x-reward@v000001
          x-policy@v000002: adapter, from x-reward@v000001

        also derived from them, without such rows
          x-evaluation@v000001: evaluation, from x-policy@v000001

        copies on the Hub, which stay until you delete them there
          x-policy@v000002: org/x-policy at v2
        """
    assert told == textwrap.dedent(expected)


def state_of_files(root: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).digest()
        for p in sorted(root.rglob("*"))
        if p.is_file() and "sqlite3" not in p.name
    }


def test_what_was_done_is_told_after(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.run(ONE, "--yes") == 0
    told = capsys.readouterr().out.splitlines()
    # 12 votes, the consent, the edit and the flag.
    assert "erased 15 events in x-labels, and the name" in told
    assert "x-scores@v000001 -> erased" in told
    assert "x-preferences@v000001 -> erased" in told
    assert "x-preferences@v000002 -> x-preferences@v000003" in told
    assert any(line.startswith("tag removed: x-preferences@gold") for line in told)
    assert "These models keep what they learned: x-reward@v000001, x-policy@v000001." in told
    assert any("make report, with the config of x;" in line for line in told)


def test_nothing_happens_unasked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state_of_files(world.root)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(ConfigError, match="there is no terminal to ask on"):
        world.run(ONE)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for said in ("", "n", "nay"):
        monkeypatch.setattr("builtins.input", lambda question, said=said: said)
        assert world.run(ONE) == 1
    assert state_of_files(world.root) == before
    with pytest.raises(ConfigError, match="'a stranger': is not known to the logs in"):
        world.run("a stranger")
    assert world.run("p_0123456789") == 0
    assert state_of_files(world.root) == before
    monkeypatch.setattr("builtins.input", lambda question: "y")
    assert world.run(ONE) == 0
    assert holding(world.root, EDIT) == []


def test_a_stage_at_work_on_it_is_waited_for(world: World) -> None:
    def work(name: str, **what: Any) -> int:
        directory = world.root / ".runs" / name
        directory.mkdir(parents=True)
        (directory / "run.json").write_text(json.dumps({"stage": "reward", "name": "x", "inputs": {}, **what}))
        fd = os.open(directory, os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_EX)
        return fd

    os.close(work("dead", inputs={"preferences": ["x-preferences@v000002", "-"]}))
    other = work("other", inputs={"base": ["x-base@v000001", "-"]})
    for what in ({"stage": "collect"}, {"inputs": {"preferences": ["x-preferences@v000002", "-"]}}):
        fd = work(f"busy-{len(what)}-{next(iter(what))}", **what)
        with pytest.raises(StoreError, match="is running on data that would be erased"):
            world.run(ONE, "--yes")
        os.close(fd)
    assert len(holding(world.root, EDIT)) > 1
    assert world.run(ONE, "--yes") == 0
    os.close(other)


def test_imported_rows_are_told_and_left(world: World) -> None:
    who = "p_00000000aa"
    with world.store.draft("w-preferences", kind="preferences", stage="collect", key="w") as draft:
        draft.write_rows("train", [{"id": "1", "annotator": who}])
        draft.write_rows("train", [{"id": "v", "annotator": who, "choice": "a"}], config="votes")
    with pytest.raises(DataError, match="this person's rows in w-preferences@v000001 were imported"):
        world.run(who, "--yes")
    assert world.latest("w-preferences") == draft.version


def test_imported_rows_of_somebody_who_labelled_too(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    with world.store.draft("w-preferences", kind="preferences", stage="collect", key="w") as draft:
        draft.write_rows("train", [{"id": "1", "annotator": world.ids()[ONE]}])
    assert world.run(ONE, "--yes") == 0
    assert "w-preferences@v000001 has imported rows of this person: it stays" in capsys.readouterr().out
    assert world.latest("w-preferences") == draft.version


def test_a_second_person_can_be_forgotten_later(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.run(ONE, "--yes") == 0
    capsys.readouterr()
    assert world.run(TWO, "--yes") == 0
    told = capsys.readouterr().out
    # The reward model was trained on v2, which v3 took the place of.
    assert "x-reward@v000001: adapter" in told
    assert "models derived from versions erased earlier" not in told
    assert holding(world.root, TWO) == holding(world.root, "of the second one") == []
    assert world.latest().ref == "x-preferences@v000004"
    assert [r["annotator"] for r in world.latest().rows()] == [world.ids()[THREE]] * 3 + ["operator"]


def test_models_made_from_a_version_that_was_only_erased_are_told(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    first = world.store.resolve("x-preferences@v1")
    publish(world.store, "x-early", "adapter", None, [(first, "preferences")])
    assert world.run(ONE, "--yes") == 0
    capsys.readouterr()
    assert world.run(TWO, "--dry-run") == 0
    told = capsys.readouterr().out
    assert (
        "models derived from versions erased earlier, perhaps from this person's rows too\n  x-early@v000001"
        in told
    )


def test_doing_it_again_changes_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    one = world.ids()[ONE]
    assert world.run(ONE, "--yes") == 0
    before = state_of_files(world.root)
    capsys.readouterr()
    assert world.run(one, "--yes") == 0
    assert f"contains nothing of {one}." in capsys.readouterr().out
    assert state_of_files(world.root) == before


def test_an_erasure_is_noted_without_the_person(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    one = world.ids()[ONE]
    assert world.run(ONE, "--yes") == 0
    (event,) = AuditLog(world.root).events()
    assert (event.event, event.by, event.facts["logs"]) == ("erased", "", 1)
    assert "x-preferences@v000001" in str(event.facts["versions"])
    log = AuditLog(world.root)
    assert [text for text in (ONE, one) if text in log.path.read_text()] == []
    # A log that was changed is no reason to keep somebody's answers.
    log.path.write_text("{}\n")
    capsys.readouterr()
    assert world.run(TWO, "--yes") == 0
    assert "warning: not noted in the audit log" in capsys.readouterr().out


def names(world: World, project: str) -> list[tuple[str, str]]:
    with closing(Log(world.root / project)) as log:
        return [(p.name, p.id) for p in log.people.all()]


def test_one_name_in_two_projects(world: World) -> None:
    evening = Evening(world.store, "y")
    for item in list(evening.log.batches.items()):
        for who in (ONE, TWO):
            evening.say(who, "vote", item, choice="b")
    evening.publish()
    other = next(p.id for p in evening.log.people.all() if p.name == ONE)
    evening.log.close()
    # An id is one person in one project.
    assert world.run(other, "--yes") == 0
    assert holding(world.root, EDIT) != []
    assert ONE not in [p for p, _ in names(world, "y-labels")]
    assert {r["annotator"] for r in world.latest("y-preferences").rows(config="votes")} != {other}
    evening = Evening(world.store, "y")
    evening.say(ONE, "vote", next(evening.log.batches.items()), choice="b")
    evening.log.close()
    assert world.run(ONE, "--yes") == 0
    assert holding(world.root, EDIT) == holding(world.root, ONE) == []


# Death


POINTS = [
    (forgetting, "_write"),
    (Log, "forget"),
    (successors, "publish_replacement"),
    (forgetting, "erase"),
    (forgetting, "redact"),
    (forgetting, "drop_staging"),
    (forgetting, "place_heads"),
    (AuditLog, "append"),
]


def carrying(world: World, previous: Version | None, name: str) -> Version:
    """A version by an annotator that is no person, after the rows of another."""
    parents = [(previous, "previous")] if previous else []
    with world.store.draft(name, kind="preferences", stage="collect", key=name, parents=parents) as draft:
        own = [{"id": "own", **dict.fromkeys(list(PREFERENCES)[1:4], "own"), "annotator": "oracle"}]
        draft.write_rows("train", own, schema=PREFERENCES, carry=previous)
        draft.write_rows("train", [{"id": "v", "choice": "a", "annotator": "oracle"}], config="votes")
    return draft.version


class Campaign:
    """The same world, its copies, and what has become of it in the end."""

    def __init__(self, made: World, directory: Path) -> None:
        self.made = World(directory / "made")
        shutil.copytree(made.root, self.made.root)
        # The head is another's version, one is only tagged, and one carries.
        self.made.store.tag("x-preferences@v1", "early")
        carrying(self.made, made.latest(), "a-preferences")
        naming(self.made)
        with self.made.store.draft("x-preferences", kind="preferences", stage="collect", key="oracle") as draft:
            draft.write_rows("train", [{"id": "own", "annotator": "oracle"}])
        self.one = self.made.ids()[ONE]
        whole = self.copy("whole")
        assert whole.run(ONE, "--yes") == 0
        self.expected = state(whole.root)

    def copy(self, name: str) -> World:
        copy = World(self.made.root.parent / name)
        shutil.copytree(self.made.root, copy.root)
        return copy

    def die_before(self, step: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> bool:
        """False where there are no more steps."""
        world = self.copy(f"before-{step}")
        alive = False
        with monkeypatch.context() as patch, contextlib.suppress(Died):
            die_after_calls(patch, POINTS, step)
            assert world.run(ONE, "--yes") == 0
            alive = True
        if not alive:
            capsys.readouterr()
            # By the name, which the log may have forgotten already.
            assert world.run(ONE if step % 2 else self.one, "--yes") == 0
            told = capsys.readouterr().out
            assert "x-preferences@gold" in told
            assert "(collected)" not in told
            assert "These models keep what they learned: m-reward@v000001, x-reward@v000001" in told
        assert state(world.root) == self.expected, f"died before step {step}"
        assert [holding(world.root, text) for text in (EDIT, NOTE, ONE, self.one)] == [[]] * 4
        assert not (world.root / ".forgetting").exists()
        # Mutation caught: the event noted again by the command that finishes the erasure.
        assert [event.event for event in AuditLog(world.root).events()] == ["erased"]
        shutil.rmtree(world.root)
        return not alive


@pytest.mark.slow
def test_a_death_between_any_two_steps_is_mended_by_the_same_command(
    made: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    campaign = Campaign(made, tmp_path)
    assert campaign.expected["x-preferences"][1] == {
        "v000001": "x-preferences@v000004",
        "v000002": "x-preferences@v000005",
    }
    assert campaign.expected["x-preferences"][2] == 3
    step = 0
    while campaign.die_before(step, monkeypatch, capsys):
        step += 1
    # Record, log, record; three replacements; four erasures; two with figures by person; five stagings; heads;
    # record, audit log.
    assert step == 20


@pytest.mark.thorough
def test_a_death_between_two_files_that_name_somebody_is_mended(
    made: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest lists the files as they are to be, so that what was not written yet counts as damaged."""
    campaign = Campaign(made, tmp_path)
    for step in range(5):  # of the model manifest and README, of the report manifest, README and page
        world = campaign.copy(f"files-{step}")
        with monkeypatch.context() as patch:
            die_after_calls(patch, [(amend, "_replace_bytes")], step)
            with pytest.raises(Died):
                world.run(ONE, "--yes")
        assert holding(world.root, campaign.one) != []
        assert world.run(campaign.one, "--yes") == 0
        assert holding(world.root, campaign.one) == []
        for name in ("m-reward", "m-report"):
            assert world.latest(name).verify() == []
        assert state(world.root) == campaign.expected


def naming(world: World) -> tuple[Version, Version]:
    """A model and a report with figures by person, in their manifest, card and page."""
    store, (one, two) = world.store, (world.ids()[ONE], world.ids()[TWO])
    rows = [{"name": one, "accuracy": {"value": 0.125}}, {"name": two, "accuracy": {"value": 0.875}}]
    parents = [(world.latest(), "preferences")]
    with store.draft("m-reward", kind="adapter", stage="reward", key="m", parents=parents) as draft:
        (draft.path / "adapter_model.safetensors").write_bytes(b"weights")
        draft.stats["evaluation"] = {"slices": {"annotator": {"rows": rows}}, "notes": [f"least with {one}"]}
        draft.card = lambda made: f"# {made.ref}\n\n| {one} | .125 |\n| {two} | .875 |\n"
    model = draft.version
    with store.draft("m-report", kind="report", stage="report", key="m", parents=[(model, "reward")]) as draft:
        cells = "".join(f"<tr><td>{r['name']}</td><td>{r['accuracy']['value']}</td></tr>" for r in rows)
        (draft.path / "report.html").write_text(f"<table>{cells}</table><p>See {one}.</p>")
        draft.card = lambda made: f"# {made.ref}\n\nof {one}\n"
    return model, draft.version


def test_figures_by_person_lose_that_person_and_nothing_else(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    model, report = naming(world)
    one, two = world.ids()[ONE], world.ids()[TWO]
    assert world.run(ONE, "--yes") == 0
    told = capsys.readouterr()
    assert "m-reward@v000001: adapter, README.md, manifest.json\n" in told.out
    assert "m-report@v000001: redacted README.md, report.html\n" in told.out
    assert told.err == ""
    assert holding(world.root, one) == holding(world.root, "0.125") == []
    after = world.latest("m-reward")
    assert (after.ref, after.id, after.manifest.key) == (model.ref, model.id, "m")
    assert after.manifest.stats["evaluation"] == {
        "slices": {"annotator": {"rows": [{"name": two, "accuracy": {"value": 0.875}}]}},
        "notes": ["least with (erased)"],
    }
    assert (after.path / "README.md").read_text() == f"# {model.ref}\n\n| {two} | .875 |\n"
    assert (after.path / "adapter_model.safetensors").read_bytes() == b"weights"
    (redacted,) = after.manifest.governance["redacted"]
    assert redacted["files"] == ["README.md", "manifest.json"]
    page = world.latest("m-report").path / "report.html"
    assert page.read_text() == f"<table><tr><td>{two}</td><td>0.875</td></tr></table><p>See (erased).</p>"
    for version in (after, world.latest("m-report")):
        assert version.verify() == []
    found = world.store.find("m-report", "m")
    assert found is not None
    assert (found.ref, found.id) == (report.ref, report.id)
    before = state_of_files(world.root)
    assert world.run(one, "--yes") == 0
    assert capsys.readouterr().out == f"{world.root} contains nothing of {one}.\n"
    assert state_of_files(world.root) == before


def test_what_was_left_by_an_earlier_version_of_this_command_is_found(world: World) -> None:
    """Seen failing: "data contains nothing of p_...", and exit 0, over a model that named them."""
    one = world.ids()[ONE]
    assert world.run(ONE, "--yes") == 0
    stats = world.latest("x-reward").path / "manifest.json"
    manifest = json.loads(stats.read_text())
    stats.write_text(json.dumps({**manifest, "stats": {"annotators": {one: 0.5}}}))
    (world.root / "notes.txt").write_text(one)
    assert world.run(one, "--yes") == 1
    assert holding(world.root, one) == ["notes.txt"]
    assert world.run(one, "--yes") == 1
    (world.root / "notes.txt").unlink()
    assert world.run(one, "--yes") == 0


def test_what_gc_and_dead_writers_left_since_is_found(world: World) -> None:
    one = world.ids()[ONE]
    model, _ = naming(world)
    manifest = (model.path / "manifest.json").read_bytes()
    assert world.run(ONE, "--yes") == 0
    home = world.root / "x-comparisons"
    (home / "tombstones").mkdir(exist_ok=True)
    (home / "tombstones" / "v000009.json").write_bytes(manifest)
    assert world.run(one, "--yes") == 0
    assert holding(world.root, one) == []
    (home / ".staging" / "dead").mkdir(parents=True)
    (home / ".staging" / "dead" / "train.part").write_text(one)
    assert world.run(one, "--dry-run") == 0
    assert holding(world.root, one) != []
    assert world.run(one, "--yes") == 0
    assert holding(world.root, one) == []


def test_what_is_collected_beside_preferences_carries_none_of_their_rows(world: World) -> None:
    """``collect`` gives all three of its outputs the parent ``previous``; seen failing for ever with such ones."""
    before = world.latest()
    same_id = before.rows()[0]["id"]  # as where the first of two completions was chosen
    row = {"id": same_id, "prompt": "p", "completion_a": "a", "completion_b": "b"}
    sampled = [
        publish(world.store, f"z-{kind}", kind, [row], [(before, "previous")])
        for kind in ("prompts", "comparisons")
    ]
    assert world.run(ONE, "--yes") == 0
    assert [world.latest(v.name) for v in sampled] == sampled


def test_a_version_that_carries_rows_on_which_the_person_had_no_weight(tmp_path: Path) -> None:
    """Its successor has the very files of the erased one, and is another version all the same."""
    world = World(tmp_path / "data")
    evening = Evening(world.store, order="sampled")
    for item in list(evening.log.batches.items()):
        evening.say(ONE, "skip", item, reason="not my subject")
        evening.say(TWO, "vote", item, choice="a")
    rows = carrying(world, evening.publish(), "z-preferences").rows()
    evening.log.close()
    assert world.run(ONE, "--yes") == 0
    after = world.latest("z-preferences")
    assert (after.number, after.rows()) == (2, rows)
    assert [p.ref for p in after.manifest.parents] == ["x-preferences@v000002"]
    assert after.verify() == []


def test_interrupted_work_on_erased_versions_goes(world: World) -> None:
    ref = world.latest().ref
    for name, reads in (("theirs", ref), ("other", "x-comparisons@v000001")):
        directory = world.root / ".runs" / name
        (directory / "checkpoint-1").mkdir(parents=True)
        (directory / "checkpoint-1" / "rows.txt").write_text(EDIT if name == "theirs" else "")
        work = {"stage": "reward", "name": "x", "inputs": {"preferences": [reads, "-"]}}
        (directory / "run.json").write_text(json.dumps(work))
    assert world.run(ONE, "--yes") == 0
    assert [p.name for p in (world.root / ".runs").iterdir()] == ["other"]
    assert holding(world.root, EDIT) == []


def test_a_reader_of_what_names_the_person_is_waited_for(world: World) -> None:
    naming(world)
    directory = world.root / ".runs" / "busy"
    directory.mkdir(parents=True)
    (directory / "run.json").write_text(
        json.dumps({"stage": "report", "inputs": {"reward": ["m-reward@v000001", "-"]}})
    )
    fd = os.open(directory, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with pytest.raises(StoreError, match="report is running on data that would be erased"):
        world.run(ONE, "--yes")
    os.close(fd)
    assert world.run(ONE, "--yes") == 0


KILLED = """
    import os, signal, sys
    from pipeline import __main__ as command
    from pipeline.erasure import erase_person as forget
    done = forget.erase
    def erase(*args):
        done(*args)
        os.kill(os.getpid(), signal.SIGKILL)
    forget.erase = erase
    command.main(["data", "forget", sys.argv[1], "--yes", "--root", sys.argv[2]])
"""


@pytest.mark.thorough
def test_kill_9_in_the_middle(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), ONE, str(world.root)], check=False, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL
    # Whoever forgets somebody else meanwhile is told that there is this one still.
    with pytest.raises(ConfigError):
        world.run("a stranger")
    assert "was interrupted; run it again" in capsys.readouterr().err
    assert world.run(ONE, "--yes") == 0
    assert holding(world.root, EDIT) == holding(world.root, ONE) == []
    assert world.latest().ref == "x-preferences@v000003"
    assert mentions.name_somebody(world.root, world.ids().values()) != []


def test_a_full_disk_is_told_and_loses_nothing_of_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> Any:
        raise StoreError("data/x-preferences", "No space left on device.")

    with monkeypatch.context() as patch:
        patch.setattr(successors, "publish_replacement", full)
        with pytest.raises(StoreError, match="No space left"):
            world.run(ONE, "--yes")
    assert world.latest().number == 2
    assert world.run(ONE, "--yes") == 0
    assert world.latest().number == 3
