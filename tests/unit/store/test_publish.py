"""Publishing: what a version holds, its key and number, the head, and a disk that is full."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pipeline.base.errors import StoreError
from pipeline.store.store import Store
from tests.helpers.versions import Rows, new, numbered, publish


def test_a_version_holds_what_was_written(store: Store) -> None:
    parent = publish(store, name="prompts")
    with new(
        store,
        parents=[(parent, "prompts")],
        config={"beta": 0.1, "path": Path("x"), "pair": (1, 2)},
        seed=5,
        governance={"license": "mit"},
    ) as draft:
        assert draft.write_rows("train", iter(numbered(4))) == 4
        draft.write_rows("train", [{"id": "v", "choice": "a"}], config="votes")
        draft.write_rows("test", [])
        (draft.path / "extra").mkdir()
        (draft.path / "extra" / "metrics.jsonl").write_text("{}\n")
        draft.stats.update(ties=2)
        draft.models.append({"role": "policy", "id": "gpt2"})
        draft.device = "cpu, 2 cores"
    v = draft.version
    assert (v.name, v.number, v.ref) == ("prefs", 1, "prefs@v000001")
    assert v.splits == {"train": 4, "votes/train": 1, "test": 0}
    assert v.rows() == numbered(4)
    assert v.rows(config="votes") == [{"id": "v", "choice": "a"}]
    assert v.rows("test") == []
    assert v.rows(columns=["score"])[1] == {"score": 1 / 7}
    assert v.has_split("test")
    assert not v.has_split("dev")
    m = store.resolve("prefs").manifest
    assert m == v.manifest
    assert [(p.ref, p.id, p.role) for p in m.parents] == [("prompts@v000001", parent.id, "prompts")]
    assert m.config == {"beta": 0.1, "path": "x", "pair": [1, 2]}
    assert (m.seed, m.stats, m.governance) == (5, {"ties": 2}, {"license": "mit"})
    assert m.environment["device"] == "cpu, 2 cores"
    assert m.models == [{"role": "policy", "id": "gpt2"}]
    listed = {f.path for f in m.files}
    assert "extra/metrics.jsonl" in listed
    assert not listed & {"manifest.json", "README.md"}
    assert v.verify() == []


def test_an_exception_leaves_nothing(store: Store) -> None:
    first = publish(store)
    draft = new(store)

    def fail() -> None:
        with draft:
            draft.write_rows("train", numbered(2))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [v.ref for v in store.versions("prefs")] == [first.ref]
    assert list((store.root / "prefs" / ".staging").iterdir()) == []
    with pytest.raises(StoreError, match="nothing was published"):
        _ = draft.version


def test_an_error_of_the_rows_is_not_told_as_the_disks(store: Store) -> None:
    def rows() -> Rows:
        yield {"id": "a"}
        raise FileNotFoundError("my-input.csv")

    # Catches: turning every OSError of write_rows into a StoreError.
    with pytest.raises(FileNotFoundError, match="my-input"), new(store) as draft:
        draft.write_rows("train", rows())


def test_equal_keys_publish_once(store: Store) -> None:
    first = publish(store, key="k")
    again = publish(store, numbered(9), key="k")
    other = publish(store, key="l")
    # Catches: ignoring the key when publishing (`again` would be v000002).
    assert (again.ref, other.ref) == (first.ref, "prefs@v000002")
    assert store.find("prefs", "k") == first
    assert store.find("prefs", "m") is None
    assert store.find("nothing", "k") is None


def test_no_key_always_publishes(store: Store) -> None:
    assert [publish(store).number for _ in range(3)] == [1, 2, 3]


def test_work_that_goes_on_is_published_again_under_its_key(store: Store) -> None:
    first = publish(store, key="k")
    # Mutations caught: any version with the key counts as done; the same rows make another version.
    assert publish(store, key="k", republish_if_changed=True).number == first.number
    changed = [{**row, "score": 0.0} for row in numbered(3)]
    second = publish(store, changed, key="k", republish_if_changed=True)
    assert second.number == first.number + 1
    assert second.id == first.id  # the id is that of the rows' ids; it is the bytes that differ
    found = store.find("prefs", "k")
    assert found is not None
    assert found.number == second.number


def test_the_head_may_not_have_moved(store: Store) -> None:
    first = publish(store)
    publish(store)
    with (
        pytest.raises(StoreError, match=r"head moved.*v000001 to v000002.*Run again"),
        new(store, expect_head=first) as draft,
    ):
        draft.write_rows("train", numbered(1))
    assert publish(store, expect_head=2).number == 3
    with pytest.raises(StoreError, match="head moved"), new(store, expect_head=0):
        pass
    assert publish(store, name="fresh", expect_head=0).number == 1


def test_a_publishing_that_died_before_the_head_moved_is_finished(store: Store) -> None:
    publish(store, key="a")
    second = publish(store, key="b")
    head = store.root / "prefs" / "refs" / "heads" / "main.json"
    head.write_text(json.dumps({"version": 1, "id": "x"}))
    assert store.resolve("prefs").number == 1
    # Catches: leaving out repair_head, after which "latest" would stay behind for good.
    assert store.find("prefs", "b") == second
    assert store.resolve("prefs").number == 2
    head.write_text(json.dumps({"version": 1, "id": "x"}))
    assert publish(store, key="b").number == 2
    assert store.resolve("prefs").number == 2


def test_links_are_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"here\.bin: is a link"), new(store) as draft:
        (draft.path / "here.bin").symlink_to(tmp_path / "elsewhere.bin")


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a b", "é"])
def test_a_name_must_be_plain(store: Store, name: str) -> None:
    with pytest.raises(StoreError, match="cannot name"):
        new(store, name)


@pytest.mark.parametrize(("split", "config"), [("a/b", "default"), ("..", "votes"), ("train", "data")])
def test_a_split_must_be_a_plain_word(store: Store, split: str, config: str) -> None:
    with pytest.raises(ValueError, match=r"name|called"), new(store) as draft:
        draft.write_rows(split, [], config=config)


def test_a_split_is_written_once(store: Store) -> None:
    with new(store) as draft:
        draft.write_rows("train", numbered(1))
        with pytest.raises(ValueError, match="already written"):
            draft.write_rows("train", numbered(1))


FULL_DISK = """
    import os, resource, sys
    from pipeline.base.cli import run_cli
    from pipeline.store.store import Store
    def main(argv):
        store = Store(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        with store.draft("prefs", kind="preferences", stage="collect") as draft:
            if sys.argv[2] == "rows":
                draft.write_rows("train", ({"id": os.urandom(32).hex()} for _ in range(30_000)))
            else:
                (draft.path / "weights.bin").write_bytes(os.urandom(60_000))
    run_cli(main)
"""


@pytest.mark.parametrize("what", ["rows", "file"])
def test_a_full_disk_is_one_line_and_leaves_the_head(store: Store, what: str) -> None:
    publish(store)
    code = textwrap.dedent(FULL_DISK)
    done = subprocess.run(
        [sys.executable, "-c", code, str(store.root), what],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "File too large; nothing was published; the head is still v000001." in done.stderr
    assert list((store.root / "prefs/.staging").iterdir()) == []
    assert store.resolve("prefs").verify() == []


def test_a_disk_full_at_the_moment_of_publishing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(store)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipeline.store.publish.prepare_json", full)
    with pytest.raises(StoreError, match=r"No space left.*still v000001\. Free some space"):
        publish(store)
    monkeypatch.undo()
    assert [v.number for v in store.versions("prefs")] == [1]
    assert publish(store).number == 2
