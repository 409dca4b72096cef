"""Forgetting a person whose answers were published to a double of the Hub: what is named, and taken back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.utils import close_session

from pipeline import __main__ as command
from pipeline.base.errors import DataError, StoreError
from pipeline.governance.audit_log import AuditLog
from pipeline.governance.published import note_published, publications
from pipeline.stages.data.scrub import scrub
from pipeline.store.copies import record_copy
from pipeline.store.store import Version
from tests.helpers.dying import Died, die_after_calls
from tests.helpers.hub_double import Hub, ask_the_double, hub
from tests.helpers.hub_repository import Repository
from tests.helpers.traces import holding
from tests.stages.test_forget import ONE, World, label, train

DATA, MODEL, OTHER = "datasets/org/x-preferences", "org/x", "org/other"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("HF_TOKEN", "right")
    with hub() as running:
        ask_the_double(monkeypatch, running, tmp_path)
        yield running
    close_session()


def repository(server: Hub, repo: str) -> Repository:
    kept = server.repos[repo if repo.startswith("datasets/") else f"models/{repo}"]
    assert isinstance(kept, Repository)
    return kept


def published(server: Hub, world: World, version: Version, repo: str, event: bool = True) -> None:
    """As ``publish`` leaves it; without its event as a kill leaves it, or a program of before."""
    record_copy(version, repo, "v000001")
    kept = server.repos[repo if repo.startswith("datasets/") else f"models/{repo}"] = Repository()
    kept.tag("v000001", kept.add("rlhf-pipeline: x", {"manifest.json": repo.encode()}))
    if event:
        where = {"repo": repo, "tag": "v000001", "commit": kept.head}
        note_published(AuditLog(world.root), {"ref": version.ref, "id": version.id, "manifest": "x", **where})


@pytest.fixture
def world(server: Hub, tmp_path: Path) -> World:
    """Preferences and a policy were published; and preferences of other people."""
    world = World(tmp_path / "data")
    versions = label(world)
    train(world, versions[1])
    published(server, world, versions[1], DATA)
    published(server, world, world.latest("x-policy"), MODEL, event=False)
    with world.store.draft("other", kind="prompts", stage="collect") as draft:
        draft.write_rows("train", [{"id": "1"}])
    published(server, world, draft.version, OTHER)
    return world


def test_every_published_tag_is_named(world: World, server: Hub, capsys: pytest.CaptureFixture[str]):
    assert world.run(ONE, "--dry-run") == 0
    told = capsys.readouterr().out
    kept = repository(server, DATA)
    listed = told.partition("copies on the Hub, which stay until you delete them there\n")[2].splitlines()[:3]
    time = AuditLog(world.root).events()[0].time
    assert listed == [
        f"  x-policy@v000001: {MODEL} at v000001",
        f"  x-preferences@v000002: {DATA} at v000001 (commit {kept.head[:10]}, published {time})",
    ]
    assert world.run(ONE, "--yes") == 0
    assert kept.tags
    assert not kept.private


def test_what_was_published_is_made_private_and_loses_its_tag(
    world: World, server: Hub, capsys: pytest.CaptureFixture[str]
):
    assert world.run(ONE, "--yes", "--withdraw") == 0
    told = capsys.readouterr().out
    for repo in (DATA, MODEL):
        assert (repository(server, repo).private, repository(server, repo).tags) == (True, {})
        assert f"on the Hub, {repo}: private, tag v000001 deleted" in told
    assert (repository(server, OTHER).private, len(repository(server, OTHER).tags)) == (False, 1)
    noted = [e for e in AuditLog(world.root).events() if e.event == "unpublished"]
    assert [(e.facts["ref"], e.facts["repo"]) for e in noted] == [
        ("x-policy@v000001", MODEL),
        ("x-preferences@v000002", DATA),
    ]


def test_rows_are_deleted_and_models_made_private(world: World, server: Hub):
    assert world.run(ONE, "--yes", "--delete") == 0
    assert DATA not in server.repos
    assert (repository(server, MODEL).private, repository(server, MODEL).tags) == (True, {})


# Mutation caught: the copies looked for among what is left once the rows are erased.
def test_a_kill_between_any_two_steps(world: World, server: Hub, monkeypatch: pytest.MonkeyPatch):
    points = [(HfApi, name) for name in ("update_repo_settings", "delete_tag")]
    one = world.ids()[ONE]
    for step in range(12):
        with monkeypatch.context() as killing:
            die_after_calls(killing, [*points, (AuditLog, "append")], step)
            try:
                assert world.run(one, "--yes", "--withdraw") == 0
                break
            except Died:
                continue
    assert step > 1
    for repo in (DATA, MODEL):
        assert (repository(server, repo).private, repository(server, repo).tags) == (True, {})
    noted = [e.facts["repo"] for e in AuditLog(world.root).events() if e.event == "unpublished"]
    assert noted == [MODEL, DATA]
    assert not (world.root / ".forgetting").exists()


def test_a_hub_that_does_not_answer_leaves_the_erasure_to_be_finished(
    world: World, server: Hub, capsys: pytest.CaptureFixture[str]
):
    one = world.ids()[ONE]
    server.tokens = {"another"}
    with pytest.raises(StoreError, match="does not accept the token"):
        world.run(ONE, "--yes", "--withdraw")
    assert "the same command finishes it" in capsys.readouterr().err
    server.tokens = None
    assert world.run(one, "--yes", "--withdraw") == 0
    assert repository(server, DATA).private


def test_unpublish(world: World, server: Hub, capsys: pytest.CaptureFixture[str]):
    by = ["--by", "Ann", "--note", "asked to", "--root", str(world.root)]
    kept = repository(server, DATA)
    kept.tags["v000001"] = kept.add("somebody's work", {})
    assert command.main(["unpublish", "x-preferences@v2", *by]) == 0
    assert "its tag is of another commit and stays" in capsys.readouterr().out
    assert (kept.private, list(kept.tags)) == (True, ["v000001"])
    last = AuditLog(world.root).events()[-1]
    assert (last.event, last.by, last.facts["note"]) == ("unpublished", "Ann", "asked to")
    # The same again is no event; and it is still known where the rows lie.
    assert command.main(["unpublish", "x-preferences@v2", *by]) == 0
    assert AuditLog(world.root).events()[-1] == last
    assert [c.taken_back for c in publications(world.store, ["x-preferences@v000002"])] == [last.facts["done"]]
    assert command.main(["unpublish", "x-preferences@v2", "--delete", *by]) == 0
    assert DATA not in server.repos
    with pytest.raises(DataError, match="has no copy on the Hub that was made here"):
        command.main(["unpublish", "x-preferences@v2", *by])


def test_a_scrubbed_version_is_replaced_too_and_stays_scrubbed(tmp_path: Path):
    world = World(tmp_path / "data")
    versions = label(world)
    scrubbed, _ = scrub(world.store, versions[1])
    one = world.ids()[ONE]
    assert world.run(ONE, "--yes") == 0
    assert holding(world.root, one) == []
    latest = world.latest()
    assert latest.manifest.governance["replaces"] == scrubbed.ref
    assert latest.manifest.stage == "scrub"
    plain = world.store.resolve(next(p.ref for p in latest.manifest.parents))
    assert plain.manifest.governance["replaces"] == versions[1].ref
    # As if it had been scrubbed without the person.
    again, _ = scrub(world.store, plain)
    assert {row["id"] for row in again.rows("train")} == {row["id"] for row in latest.rows("train")}
