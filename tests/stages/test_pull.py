"""Pulling from a double of the Hub: the same version and lineage, foreign repositories, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.utils import close_session

from pipeline.__main__ import main
from pipeline.base.errors import PipelineError
from pipeline.stages.hub import gate
from pipeline.store.store import Store
from pipeline.workflow.relocate import named_base
from tests.helpers.dying import Died, die_after_calls
from tests.helpers.hub_double import COMMIT, Hub, ask_the_double, hub
from tests.helpers.hub_repository import Refused, Repository
from tests.helpers.read_merged_here import read_merged_here
from tests.helpers.row_files import write_rows
from tests.stages.conftest import Project


@pytest.fixture(scope="module")
def published(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, Store]]:
    """A double that holds a published policy and what belongs to it, and the store that it was published from."""
    root = tmp_path_factory.mktemp("from") / "data"
    shutil.copytree(finished.root / "data", root, ignore=shutil.ignore_patterns("mini-report", "mini-rollouts"))
    main(["data", "relocate", "--root", str(root)])
    with hub() as running, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", "right")
        patch.setattr(gate, "pass_gate", lambda artefacts, commits: gate.Compared())
        ask_the_double(patch, running, root.parent)
        read_merged_here(patch)
        assert main(["publish", "mini-policy", "--repo", "org/mini", "--root", str(root)]) == 0
        close_session()
        yield running, Store(root)
    close_session()


@pytest.fixture
def server(published: tuple[Hub, Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    running = published[0]
    kept = dict(running.repos)
    monkeypatch.setenv("HF_TOKEN", "right")
    ask_the_double(monkeypatch, running, tmp_path)
    for name, value in {"HF_ENDPOINT": running.url, "HF_HUB_OFFLINE": False}.items():
        monkeypatch.setattr(f"datasets.config.{name}", value)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "prepared")
    yield running
    running.repos, running.before, running.tokens = kept, str, None
    running.gated.clear()
    close_session()


def pull(root: Path, *arguments: str) -> int:
    return main(["pull", *arguments, "--root", str(root)])


@pytest.mark.thorough
def test_everything_comes_back_as_it_was(
    server: Hub, published: tuple[Hub, Store], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    origin, root = published[1], tmp_path / "data"
    pulled = Store(root)
    names = {
        "mini-base": "org/mini-base",
        "mini-preferences": "datasets/org/mini-preferences",
        "mini-prompts": "org/mini-prompts@v000001",
        "mini-reward": "org/mini-reward",
        "mini-policy": "org/mini",
    }
    for name, repo in names.items():
        assert pull(root, repo, "--as", name) == 0
        before, after = origin.resolve(name), pulled.resolve(name)
        assert after.verify() == []
        assert after.id == before.id
        assert (after.manifest.kind, after.manifest.stage) == (before.manifest.kind, before.manifest.stage)
        assert [(p.role, p.ref, p.id) for p in after.manifest.parents] == [
            (p.role, p.ref, p.id) for p in before.manifest.parents
        ]
        for split in before.splits:
            config, _, word = split.rpartition("/")
            assert after.rows(word, config or "default") == before.rows(word, config or "default")
        assert after.manifest.governance["pulled"]["version"] == before.ref
    assert "preferences: mini-preferences@v000001  preferences by collect" in capsys.readouterr().out
    # An adapter that was pulled finds its base in the store, and without that on the Hub.
    policy = pulled.resolve("mini-policy")
    assert named_base(policy.path) == (str(pulled.resolve("mini-base").path), None)
    shutil.rmtree(root / "mini-base")
    base = server.repos["models/org/mini-base"]
    assert isinstance(base, Repository)
    assert named_base(policy.path) == ("org/mini-base", base.head)

    assert pull(root, "org/mini", "--as", "mini-policy") == 0
    assert "up to date: mini-policy@v000001" in capsys.readouterr().out


def test_a_parent_of_the_same_name_but_other_content_is_not_taken_for_it(server: Hub, tmp_path: Path):
    store = Store(tmp_path / "data")
    with store.draft("mini-base", kind="model", stage="sft") as draft:
        (draft.path / "model.safetensors").write_bytes(b"another")
    assert pull(store.root, "org/mini") == 0
    lineage = "\n".join(store.lineage(store.resolve("mini")).draw())
    # Without the comparison of ids in lineage: "base: mini-base@v000001  model by sft"
    assert "base: mini-base@v000001 (missing)" in lineage
    assert pull(store.root, "org/mini-base", "--as", "other") == 0
    assert pull(store.root, "org/mini", "--as", "again") == 0
    parents = {p.role: p.ref for p in store.resolve("again").manifest.parents}
    assert parents["base"] == "other@v000001"


def test_a_foreign_model_and_a_foreign_dataset(server: Hub, published: tuple[Hub, Store], tmp_path: Path):
    store = Store(tmp_path / "data")
    model = tmp_path / "model"
    shutil.copytree(published[1].resolve("mini-base").path, model)
    (model / "manifest.json").unlink()
    (model / "README.md").write_text("---\nlicense: mit\n---\n# Theirs\n")
    (model / "pytorch_model.bin").write_bytes(b"\x80\x02")
    (tmp_path / "rows").mkdir()
    write_rows(tmp_path / "rows" / "train.jsonl", [{"prompt": f"p{i}"} for i in range(3)])
    server.repos |= {"models/they/model": model, "datasets/they/rows": tmp_path / "rows"}
    assert pull(store.root, "they/model") == 0
    made = store.resolve("model")
    assert made.manifest.models == [{"role": "source", "id": "they/model", "revision": None, "commit": COMMIT}]
    assert made.manifest.governance["license"] == "mit"
    assert "pytorch_model.bin" not in {f.path for f in made.manifest.files}
    assert pull(store.root, "they/rows@main", "--as", "theirs") == 0
    rows = store.resolve("theirs")
    assert rows.rows("train") == [{"prompt": f"p{i}"} for i in range(3)]
    assert rows.manifest.datasets == [{"dataset": "they/rows", "revision": "main", "commit": COMMIT}]


def edited(server: Hub) -> None:
    kept = server.repos["models/org/mini"]
    assert isinstance(kept, Repository)
    changed = Repository()
    changed.add("by hand", {**kept.commits[-1][2], "scoring.json": b"{}", "adapter_config.json": b"{}"})
    server.repos["models/org/mini"] = changed


def elsewhere(server: Hub) -> None:
    kept = server.repos["models/org/mini"]
    assert isinstance(kept, Repository)
    manifest = json.loads(kept.commits[-1][2]["manifest.json"])
    manifest["files"].append({"path": "../../../x", "sha256": "", "bytes": 0})
    changed = Repository()
    changed.add("by hand", {**kept.commits[-1][2], "manifest.json": json.dumps(manifest).encode()})
    server.repos["models/org/mini"] = changed


def pickled(server: Hub) -> None:
    kept = server.repos["models/org/mini"]
    assert isinstance(kept, Repository)
    changed = Repository()
    changed.add("theirs", {"config.json": b"{}", "pytorch_model.bin": b"x"})
    server.repos["models/org/mini"] = changed


def other_rows(server: Hub) -> None:
    """The manifest's id is not that of its rows, though every file has the sha256 it says."""
    kept = server.repos["models/org/mini"]
    assert isinstance(kept, Repository)
    manifest = json.loads(kept.commits[-1][2]["manifest.json"])
    changed = Repository()
    manifest["id"] = "0" * 64
    changed.add("by hand", {**kept.commits[-1][2], "manifest.json": json.dumps(manifest).encode()})
    server.repos["models/org/mini"] = changed


def both(server: Hub) -> None:
    server.repos["datasets/org/mini"] = server.repos["datasets/org/mini-prompts"]


def gated(server: Hub) -> None:
    """The model is; a dataset of that name there is none."""

    def refuse(request: str) -> None:
        if "/models/org/mini" in request:
            raise Refused(403, "Access to model org/mini is restricted", "GatedRepo")

    server.before = refuse


def wrong_token(server: Hub) -> None:
    server.tokens = {"another"}


def nothing(server: Hub) -> None:
    pass


@pytest.mark.parametrize(
    ("spoil", "repo", "said"),
    [
        (edited, "org/mini", "org/mini: is not what was published: adapter_config.json"),
        (elsewhere, "org/mini", "names files that no version holds"),
        (pickled, "org/mini", "has no safetensors weights"),
        (other_rows, "org/mini", "its content is not what its manifest says"),
        (both, "org/mini", "is both a model and a dataset"),
        (gated, "org/mini", "org/mini: is gated"),
        (wrong_token, "org/mini", r"does not accept the token, or there is none \(401\)"),
        (nothing, "org/absent", r"there is no such repository \(404\)"),
        (nothing, "org/mini@v9", r"has no such revision \(404\)"),
        (nothing, "org/mini/x", "is not the name of a repository"),
        (nothing, "or g/mini", "."),
    ],
)
def test_what_cannot_be_pulled_is_one_line(
    spoil: Callable[[Hub], None], repo: str, said: str, server: Hub, tmp_path: Path
):
    spoil(server)
    with pytest.raises(PipelineError, match=said) as caught:
        pull(tmp_path / "data", repo)
    assert "\n" not in str(caught.value)
    assert not Store(tmp_path / "data").names()


def test_a_kill_between_any_two_steps(server: Hub, tmp_path: Path):
    points = [(huggingface_hub, "snapshot_download"), (os, "rename"), (os, "replace"), (shutil, "copyfile")]
    died, step = True, 0
    while died:
        root = tmp_path / str(step)
        with pytest.MonkeyPatch.context() as killing:
            die_after_calls(killing, points, step)
            try:
                pull(root, "datasets/org/mini-prompts", "--as", "prompts")
                died = False
            except Died:
                assert all(v.verify() == [] for n in Store(root).names() for v in Store(root).versions(n))
        assert pull(root, "datasets/org/mini-prompts", "--as", "prompts") == 0
        (made,) = Store(root).versions("prompts")
        assert (made.verify(), made.splits["train"] > 0, Store(root).head("prompts")) == ([], True, 1)
        step += 1
    assert step > 5
