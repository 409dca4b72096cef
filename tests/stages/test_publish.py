"""Publishing to a double of the Hub: what goes, what is refused, and a kill between any two steps."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.utils import close_session

from pipeline.__main__ import main
from pipeline.base.errors import PipelineError, StoreError
from pipeline.erasure.case import hub_copies
from pipeline.erasure.erase_version import all_records
from pipeline.sources.hub_repository import OWN
from pipeline.stages.hub import gate, read_back
from pipeline.store.store import Store
from tests.helpers.dying import Died, die_after_calls
from tests.helpers.hub_double import Hub, ask_the_double, hub
from tests.helpers.hub_repository import Refused, Repository
from tests.helpers.read_merged_here import read_merged_here
from tests.stages.conftest import Project

ALL = {
    "models/org/mini",
    "models/org/mini-base",
    "models/org/mini-reward",
    "models/org/mini-reward-merged",
    "datasets/org/mini-preferences",
    "datasets/org/mini-prompts",
}
STEPS = ("create_repo", "create_commit", "create_tag")


@pytest.fixture(scope="module")
def ready(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory of its own whose reward model is merged already."""
    root = tmp_path_factory.mktemp("ready") / "data"
    shutil.copytree(finished.root / "data", root, ignore=shutil.ignore_patterns("mini-report", "mini-rollouts"))
    main(["data", "relocate", "--root", str(root)])
    with pytest.MonkeyPatch.context() as patch:
        read_merged_here(patch)
        assert main(["merge", "mini-reward", "--root", str(root)]) == 0
    return root


@pytest.fixture
def root(ready: Path, tmp_path: Path) -> Path:
    shutil.copytree(ready, tmp_path / "data")
    main(["data", "relocate", "--root", str(tmp_path / "data")])
    return tmp_path / "data"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub() as running:
        running.tokens = {"right"}
        monkeypatch.setenv("HF_TOKEN", "right")
        ask_the_double(monkeypatch, running, tmp_path)
        yield running
    close_session()


@pytest.fixture
def in_this_process(server: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The gate without a process of its own; the names of what passed it."""
    passed: list[str] = []

    def read(jobs: list[dict[str, Any]], out: Path) -> list[dict[str, Any]]:
        read_back.main(json.dumps(jobs), str(out))
        passed.extend(job["repo"] for job in jobs)
        return json.loads((out / "results.json").read_text())

    monkeypatch.setattr(gate, "in_fresh_process", read)
    for name, value in {
        "HF_DATASETS_CACHE": tmp_path / "prepared",
        "HF_ENDPOINT": server.url,
        "HF_HUB_OFFLINE": False,
    }.items():
        monkeypatch.setattr(f"datasets.config.{name}", value)
    return passed


@pytest.fixture
def no_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "pass_gate", lambda artefacts, commits: gate.Compared())


def publish(root: Path, *arguments: str, ref: str = "mini-policy@v1", repo: str = "org/mini") -> int:
    return main(["publish", ref, "--repo", repo, "--root", str(root), *arguments])


def state(server: Hub) -> dict[str, Any]:
    """Everything that the double holds."""
    return {
        name: (kept.private, kept.commits, kept.tags)
        for name, kept in sorted(server.repos.items())
        if isinstance(kept, Repository)
    }


def texts(server: Hub, name: str, suffixes: tuple[str, ...] = (".md", ".json")) -> dict[str, str]:
    at = server.at(name, "v000001")
    assert at is not None
    return {path: data.decode() for path, data in at[1].items() if path.endswith(suffixes)}


@pytest.mark.thorough
def test_all_that_belongs_to_a_policy_is_published(
    server: Hub, root: Path, in_this_process: list[str], capsys: pytest.CaptureFixture[str]
):
    assert publish(root) == 0
    assert set(server.repos) == ALL
    assert {f"models/{r}" if f"models/{r}" in ALL else f"datasets/{r}" for r in in_this_process} == ALL
    for name in ALL:
        kept = server.repos[name]
        assert isinstance(kept, Repository)
        assert kept.private
        assert [title.partition("@")[0] for _, title, _ in kept.commits[1:]] == [
            OWN + json.loads(texts(server, name)["manifest.json"])["name"]
        ]
        assert kept.tags == {"v000001": kept.head}
        # Neither places nor names of this machine, nor of its user, are in any text
        for text in texts(server, name).values():
            assert str(root.parent) not in text
    base = server.repos["models/org/mini-base"]
    assert isinstance(base, Repository)
    for name in ("models/org/mini", "models/org/mini-reward"):
        config = json.loads(texts(server, name)["adapter_config.json"])
        assert (config["base_model_name_or_path"], config["revision"]) == ("org/mini-base", base.head)
    card = texts(server, "models/org/mini")["README.md"]
    assert "base_model: org/mini-base\n" in card
    assert "- org/mini-prompts\n" in card
    assert 'from_pretrained("org/mini")' in card
    names = json.loads(texts(server, "models/org/mini")["tokenizer_config.json"])["model_input_names"]
    assert names == ["input_ids", "attention_mask"]
    assert "metrics.jsonl" not in server.at("models/org/mini", "main")[1]  # type: ignore[index]
    records, _ = all_records(Store(root))
    pushes = hub_copies([records["mini-preferences", 1]])
    assert pushes == [("mini-preferences@v000001", "datasets/org/mini-preferences", "v000001")]
    assert "logits at most" in capsys.readouterr().out

    before, asked = state(server), len(server.asked)
    assert publish(root) == 0
    assert "up to date: org/mini-base@v000001" in capsys.readouterr().out
    assert {line.partition(" ")[0] for line in server.asked[asked:]} == {"GET"}
    assert str(state(server)) == str(before)


@pytest.mark.thorough
@pytest.mark.usefixtures("no_gate")
@pytest.mark.parametrize(("ref", "repositories", "stride"), [("mini-prompts", 1, 1), ("mini-reward", 4, 4)])
def test_a_kill_between_any_two_steps(
    ref: str, repositories: int, stride: int, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Each repository has three steps: it is created, gets its commit, and its tag once all have theirs."""
    monkeypatch.setenv("HF_TOKEN", "right")
    ends: list[str] = []
    for step in range(0, 3 * repositories, stride):
        with hub() as server, monkeypatch.context() as patch:
            ask_the_double(patch, server, tmp_path / str(step))
            with patch.context() as killing:
                die_after_calls(killing, [(HfApi, name) for name in STEPS], step)
                with pytest.raises(Died):
                    publish(root, ref=ref)
            tags = [tag for kept in server.repos.values() if isinstance(kept, Repository) for tag in kept.tags]
            assert len(tags) == max(0, step - 2 * repositories)
            assert publish(root, ref=ref) == 0
            ends.append(str(state(server)).replace(server.url, ""))
        close_session()
    assert len(set(ends)) == 1


@pytest.mark.usefixtures("no_gate")
def test_a_dry_run_says_what_would_go_and_asks_nobody(server: Hub, root: Path, capsys: pytest.CaptureFixture[str]):
    assert publish(root, "--dry-run") == 0
    said = capsys.readouterr().out
    assert server.asked == []
    assert publish(root) == 0
    for name in ALL:
        at = server.at(name, "v000001")
        assert at is not None
        for path, data in at[1].items():
            if path != ".gitattributes":
                assert re.search(rf"{re.escape(path)} +{len(data):,}\n", said)
    assert "dataset org/mini-preferences@v000001  private" in said
    assert "refers to model org/mini-base@v000001 (base)" in said


def upload(repo: str, title: str) -> None:
    HfApi().upload_file(path_or_fileobj=b"x", path_in_repo="x.json", repo_id=repo, commit_message=title)


def somebody_created(server: Hub, root: Path) -> None:
    HfApi().create_repo("org/mini", private=True)
    upload("org/mini", "somebody's work")


def tag_of_others(server: Hub, root: Path) -> None:
    HfApi().create_repo("org/mini", private=True)
    HfApi().create_tag("org/mini", tag="v000001")


def moved_while_sending(server: Hub, root: Path) -> None:
    def commit_before(request: str) -> None:
        if request == "POST /api/models/org/mini/commit/main":
            kept = server.repos["models/org/mini"]
            assert isinstance(kept, Repository)
            kept.add("somebody's work", {"x": b""})

    server.before = commit_before


def is_public(server: Hub, root: Path) -> None:
    HfApi().create_repo("org/mini", private=False)


def wrong_token(server: Hub, root: Path) -> None:
    server.tokens = {"another"}


def answers(status: int, code: str = "") -> Callable[[Hub, Path], None]:
    def spoil(server: Hub, root: Path) -> None:
        def refuse(request: str) -> None:
            if request.startswith("POST /api/repos"):
                raise Refused(status, "no", code)

        server.before = refuse

    return spoil


def no_network(server: Hub, root: Path) -> None:
    server.shutdown()
    server.server_close()


def damaged(server: Hub, root: Path) -> None:
    (root / "mini-reward" / "versions" / "v000001" / "scoring.json").write_text("{}")


def interrupted_erasure(server: Hub, root: Path) -> None:
    (root / ".forgetting").mkdir()
    (root / ".forgetting" / "case.json").write_text("{}")


CONFLICTS = {
    "another's head": (somebody_created, 'org/mini: its head is "somebody\'s work"'),
    "another's tag": (tag_of_others, "org/mini: its tag v000001 holds something else"),
    "a head that moves": (moved_while_sending, r"org/mini: somebody else has written to it meanwhile \(412\)"),
    "a public repository": (is_public, "org/mini: is there and public, and would be private"),
    "a wrong token": (wrong_token, r"does not accept the token, or there is none \(401\).*HF_TOKEN"),
    "no right to write": (answers(403), r"this token may not do that \(403\)"),
    "no organisation": (answers(404, "RepoNotFound"), r"there is no such repository \(404\)"),
    "a failing server": (answers(500), "answers 500"),
    "a gated repository": (answers(403, "GatedRepo"), "is gated"),
    "no network": (no_network, r"cannot be reached.*HF_ENDPOINT"),
    "a damaged version": (damaged, "is damaged"),
    "an interrupted erasure": (interrupted_erasure, "the erasure of a person was interrupted"),
}


@pytest.mark.usefixtures("no_gate")
@pytest.mark.parametrize("name", CONFLICTS)
def test_what_is_in_the_way_is_one_line_and_nothing_is_tagged(name: str, server: Hub, root: Path):
    spoil, said = CONFLICTS[name]
    spoil(server, root)
    with pytest.raises(PipelineError, match=said) as caught:
        publish(root)
    assert "\n" not in str(caught.value)
    for repo, kept in server.repos.items():
        assert isinstance(kept, Repository)
        assert not kept.tags or repo == "models/org/mini"
        assert name == "a head that moves" or len(kept.commits) == 1 or repo == "models/org/mini"


@pytest.mark.parametrize("repo", ["mini", "org/mini/x", "org//mini", "org/mi ni", "/mini", "org/" + "m" * 90, ""])
def test_names_that_are_none(repo: str, root: Path):
    with pytest.raises(PipelineError, match=r"is not the name of a repository .*Write org/name\."):
        publish(root, repo=repo)


@pytest.mark.usefixtures("no_gate")
def test_a_later_version_goes_into_the_same_repository(server: Hub, root: Path):
    assert publish(root, ref="mini-prompts") == 0
    store = Store(root)
    with store.draft("mini-prompts", kind="prompts", stage="collect") as draft:
        draft.write_rows("train", [{"id": "1", "prompt": "p"}])
    assert publish(root, ref="mini-prompts") == 0
    kept = server.repos["datasets/org/mini"]
    assert isinstance(kept, Repository)
    assert [title for _, title, _ in kept.commits[1:]] == [f"{OWN}mini-prompts@v00000{n}" for n in (1, 2)]
    assert not any("select" in path for path in kept.commits[-1][2])  # of the first version
    with pytest.raises(StoreError, match="which is not of mini-preferences"):
        (kept.tags.clear(), publish(root, ref="mini-preferences"))


def test_a_model_that_is_another_when_it_is_read_again_gets_no_tag(
    server: Hub, root: Path, in_this_process: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gate, "TOLERANCE", -1.0)
    with pytest.raises(PipelineError, match=r"read again by its id, its logits are .* apart"):
        publish(root, ref="mini-base")
    kept = server.repos["models/org/mini"]
    assert isinstance(kept, Repository)
    assert not kept.tags
    monkeypatch.undo()


def test_the_card_is_what_the_hub_accepts(server: Hub, root: Path, no_gate: None):
    assert publish(root) == 0
    assert sum(line == "POST /api/validate-yaml" for line in server.asked) == len(ALL)
    path = hf_hub_download("org/mini", "README.md", revision="v000001")
    assert "path/to/this" not in Path(path).read_text()
