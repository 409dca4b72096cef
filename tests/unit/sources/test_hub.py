"""Rows of Hub datasets, from a double of the Hub on localhost: the commit that is asked for is what is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from huggingface_hub.utils import close_session

from pipeline.base.errors import DataError
from pipeline.sources import hub as hub_module
from pipeline.sources.hub import cached_commit, commit_of
from pipeline.sources.hub_files import _glob
from pipeline.sources.row_sources import located_rows
from tests.helpers.hub_double import COMMIT, Hub, ask_the_double, hub
from tests.helpers.read_rows import rows_of

V1, V2 = "1" * 40, "2" * 40
Offline = Callable[[bool], None]


@pytest.fixture
def server() -> Iterator[Hub]:
    with hub() as running:
        yield running


@pytest.fixture
def offline(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Offline]:
    """Points the Hub's client at the double, with a cache of its own; called, it cuts or mends the line."""
    ask_the_double(monkeypatch, server, tmp_path)

    def cut(is_offline: bool) -> None:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", is_offline)
        close_session()
        hub_module._ask.cache_clear()

    cut(False)
    yield cut
    close_session()
    hub_module._ask.cache_clear()


def files(root: Path, content: dict[str, str]) -> Path:
    for name, text in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def one_line(err: BaseException) -> str:
    assert "\n" not in str(err)
    assert len(str(err)) < 700
    return str(err)


def lines(*values: str) -> str:
    return "".join(json.dumps({"text": v}) + "\n" for v in values)


def texts(source: str = "org/set", **options: Any) -> list[str]:
    return [row["text"] for row in rows_of(source, where="task_args.dataset", **options)]


@pytest.fixture
def two_versions(server: Hub, tmp_path: Path) -> None:
    server.repos["datasets/org/set"] = files(tmp_path / "v2", {"train.jsonl": lines("new")})
    converted = files(tmp_path / "converted", {"all/train/0000.jsonl": lines("converted")})
    server.revisions["datasets/org/set"] = {
        "main": (V2, tmp_path / "v2"),
        "v1": (V1, files(tmp_path / "v1", {"train.jsonl": lines("old")})),
        "refs/convert/parquet": (COMMIT, converted),
    }


@pytest.mark.usefixtures("two_versions")
def test_the_revision_that_is_asked_for_is_read_offline_too(offline: Offline) -> None:
    assert texts(revision="v1") == ["old"]
    assert texts() == ["new"]  # what load_dataset would give offline from now on
    offline(True)
    assert texts(revision="v1") == ["old"]
    assert texts(revision=V1) == ["old"]
    assert texts() == texts(revision="main") == ["new"]
    assert (commit_of("org/set", "v1"), commit_of("org/set", None)) == (V1, V2)
    with pytest.raises(
        DataError, match=r'revision "never" .*not in this machine.s cache.*The cache has main, v1'
    ) as e:
        texts(revision="never")
    assert "HF_HUB_OFFLINE" in str(e.value)
    assert commit_of("org/set", "never") is None


@pytest.mark.usefixtures("two_versions")
def test_a_revision_that_is_not_there_names_those_that_are(offline: Offline) -> None:
    with pytest.raises(DataError, match=r'no revision "v9" of "org/set" on the Hub\. It has: main, v1'):
        texts(revision="v9")
    assert texts(revision="refs/convert/parquet", subset="all") == ["converted"]


@pytest.mark.usefixtures("two_versions")
def test_a_branch_that_moves_is_read_where_it_is_and_not_within_a_process(
    offline: Offline, server: Hub, tmp_path: Path
) -> None:
    assert texts() == ["new"]
    moved = files(tmp_path / "v3", {"train.jsonl": lines("newest")})
    server.revisions["datasets/org/set"]["main"] = ("3" * 40, moved)
    assert texts() == ["new"]
    offline(False)  # another process
    assert texts() == ["newest"]
    assert cached_commit("org/set", None) == "3" * 40


@pytest.mark.usefixtures("two_versions")
def test_where_the_hub_does_not_answer_the_cache_does(offline: Offline, server: Hub) -> None:
    assert texts(revision="v1") == ["old"]
    server.shutdown()
    server.server_close()
    offline(False)
    assert texts(revision="v1") == ["old"]
    with pytest.raises(DataError, match="cannot reach the Hub"):
        texts(revision="v2")


CARD = """\
---
license: mit
configs:
- config_name: pairs
  data_files:
  - split: train
    path: pairs/train-*.jsonl
  - split: test
    path: [pairs/test.jsonl, more/**/*.jsonl]
- config_name: votes
  data_dir: votes
{default}---
# A set
"""


def repository(root: Path, default: str = "", **more: str) -> Path:
    return files(
        root,
        {
            "README.md": CARD.format(default=default),
            "pairs/train-00000-of-00002.jsonl": lines("p0"),
            "pairs/train-00001-of-00002.jsonl": lines("p1"),
            "pairs/train.jsonl": lines("not of the card"),
            "pairs/test.jsonl": lines("t0"),
            "more/a/b.jsonl": lines("t1"),
            "votes/train.jsonl": lines("v0"),
            "huge.bin": "x",
            **more,
        },
    )


def test_the_card_says_what_a_subset_is_and_only_its_files_are_fetched(
    offline: Offline, server: Hub, tmp_path: Path
) -> None:
    server.repos["datasets/org/set"] = repository(tmp_path / "repo")
    assert texts(subset="pairs") == ["p0", "p1"]
    assert not any("votes" in asked or "huge" in asked or "test.jsonl" in asked for asked in server.asked)
    assert texts(subset="pairs", split="test") == ["t1", "t0"]
    assert texts(subset="votes") == ["v0"]
    with pytest.raises(DataError, match=r"none is the default\. Set subset to one of: pairs, votes"):
        texts()
    with pytest.raises(DataError, match=r'no subset "pears"\. Its subsets: pairs, votes'):
        texts(subset="pears")
    with pytest.raises(DataError, match=r'no split "dev"\. Set split to one of: train, test'):
        texts(subset="pairs", split="dev")
    offline(True)
    assert texts(subset="pairs") == ["p0", "p1"]


def test_the_default_subset(offline: Offline, server: Hub, tmp_path: Path) -> None:
    server.repos["datasets/org/set"] = repository(tmp_path / "repo", "  default: true\n")
    assert texts() == ["v0"]


def test_a_part_that_is_not_on_this_machine_is_not_left_out(offline: Offline, server: Hub, tmp_path: Path) -> None:
    server.repos["datasets/org/set"] = repository(tmp_path / "repo")
    assert texts(subset="pairs") == ["p0", "p1"]
    offline(True)
    with pytest.raises(DataError, match=r"1 of 1 files are not in this machine's cache, such as train.jsonl"):
        texts(subset="votes")
    # Where another program filled the cache, the listing is not known; a shard's name tells of the others.
    snapshot = tmp_path / "cache" / "datasets--org--set" / "snapshots" / COMMIT
    (snapshot / "pairs" / "train-00000-of-00002.jsonl").unlink()
    for listing in (tmp_path / "assets").rglob("*.json"):
        listing.unlink()
    offline(True)
    with pytest.raises(DataError, match=r"1 of the 2 files of pairs/train are in the cache"):
        texts(subset="pairs")


def test_options_of_the_card_are_kept(offline: Offline, server: Hub, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "prepared")
    card = '---\nconfigs:\n- config_name: default\n  data_files: "*.csv"\n  sep: ";"\n---\n'
    server.repos["datasets/org/set"] = files(
        tmp_path / "repo", {"README.md": card, "a.csv": 'text;n\n"one, two";1\n'}
    )
    assert [row for _, row in located_rows("org/set", where="x")] == [{"text": "one, two", "n": 1}]


def test_gated_and_unreadable_repositories_are_said(offline: Offline, server: Hub, tmp_path: Path) -> None:
    server.repos["datasets/org/set"] = files(tmp_path / "gated", {"README.md": "# x\n", "train.jsonl": lines("a")})
    server.gated.add("datasets/org/set")
    server.repos["datasets/org/script"] = files(tmp_path / "script", {"README.md": "# x\n", "script.py": ""})
    server.repos["datasets/org/none"] = files(tmp_path / "none", {"README.md": "# x\n"})
    for name, said in {
        "org/set": '"org/set" is gated: its terms have to be accepted',
        "org/script": "holds a loading script and no file of rows",
        "org/none": "holds no file of rows",
        "org/absent": 'no dataset "org/absent" on the Hub that you may read',
    }.items():
        with pytest.raises(DataError) as caught:
            texts(name)
        line = one_line(caught.value)
        assert line.startswith("task_args.dataset: ")
        assert said in line


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("data/train-*", "data/train-0.parquet", "data/a/train-0"),
        ("**/*.csv", "a.csv", "a.csv.gz"),
        ("**/*.csv", "a/b/c.csv", "a/b/c.tsv"),
        ("data/**", "data/a/b", "date/a"),
        ("{en,de}/tr?in.jsonl", "de/train.jsonl", "fr/train.jsonl"),
        ("x[0-9].txt", "x7.txt", "xa.txt"),
        ("x[!0-9].txt", "xa.txt", "x7.txt"),
        ("a+b.csv", "a+b.csv", "aab.csv"),
    ],
)
def test_globs(pattern: str, matching: str, other: str) -> None:
    assert _glob(pattern).fullmatch(matching)
    assert not _glob(pattern).fullmatch(other)
