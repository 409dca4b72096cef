"""A data directory that moved: adapters find their base, and other loaders do after ``data relocate``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import ModelError
from pipeline.base.files import sha256_file
from pipeline.stages.data import data
from pipeline.store.store import Store, Version
from pipeline.workflow.graph import External
from pipeline.workflow.relocate import named_base, relocate
from tests.helpers.dying import die_before_every_step

Parents = list[tuple[Version, str]]


def model(store: Store, name: str, base: str | None = None, parents: Parents = (), **fields: Any) -> Version:  # pyright: ignore
    with store.draft(name, kind="model", stage="sft", key=name, parents=list(parents)) as draft:
        (draft.path / "model.safetensors").write_bytes(name.encode())
        if base is not None:
            config = {"base_model_name_or_path": base, "r": 8, "revision": None}
            (draft.path / "adapter_config.json").write_text(json.dumps(config))
        draft.models = fields.get("models", [])
    return draft.version


@pytest.fixture
def moved(tmp_path: Path) -> Store:
    """A base, an adapter on it, one on the Hub's and one on a directory beside the store; all moved."""
    store = Store(tmp_path / "before" / "data")
    base = model(store, "x-base")
    model(store, "x-reward", str(base.path), [(base, "base")])
    model(store, "x-hub", "org/name")
    outside = tmp_path / "before" / "gpt2"
    outside.mkdir()
    (outside / "model.safetensors").write_bytes(b"pretrained")
    known = {"role": "base", "id": str(outside), "content": External(str(outside), None).id}
    model(store, "x-policy", str(outside), models=[known])
    (tmp_path / "before").rename(tmp_path / "after")
    return Store(tmp_path / "after" / "data")


def named(store: Store, name: str) -> str:
    return json.loads((store.resolve(name).path / "adapter_config.json").read_text())["base_model_name_or_path"]


# Seen failing with: the config's path alone.
def test_our_loaders_ask_the_manifest(moved: Store) -> None:
    assert named_base(moved.resolve("x-reward").path) == (str(moved.resolve("x-base").path), None)
    assert named_base(moved.resolve("x-hub").path) == ("org/name", None)
    with pytest.raises(ModelError, match=r"gpt2, where nothing is now\..*data relocate"):
        named_base(moved.resolve("x-policy").path)
    # Another store's version of that name and number is another base.
    shutil.rmtree(moved.resolve("x-base").path.parents[1])
    with moved.draft("x-base", kind="model", stage="sft") as draft:
        (draft.path / "model.safetensors").write_bytes(b"other")
    with pytest.raises(ModelError, match="where nothing is now"):
        named_base(moved.resolve("x-reward").path)


def test_relocating_writes_the_paths_and_damages_nothing(
    moved: Store, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = str(moved.root)
    before = {v.ref: v.manifest.to_json() for name in moved.names() for v in moved.versions(name)}
    assert data.main(["verify", "--root", root]) == 0
    assert capsys.readouterr().out.count("note: ") == 2
    # The one outside the store is not found, until it is said where it is.
    assert data.main(["relocate", "--root", root, "--dry-run"]) == 1
    assert "1 paths would be written, 1 were right, 1 left as they are" in capsys.readouterr().out
    assert "before" in named(moved, "x-reward")
    assert data.main(["relocate", "--root", root]) == 1
    assert named(moved, "x-reward") == str(moved.resolve("x-base").path.resolve())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model.safetensors").write_bytes(b"another base")
    assert data.main(["relocate", "--root", root, "--base", str(tmp_path / "other")]) == 1
    outside = tmp_path / "after" / "gpt2"
    assert data.main(["relocate", "--root", root, "--base", str(outside)]) == 0
    assert named(moved, "x-policy") == str(outside)
    assert named(moved, "x-hub") == "org/name"
    capsys.readouterr()
    assert data.main(["relocate", "--root", root]) == 0
    assert "0 paths written, 3 were right, 0 left" in capsys.readouterr().out
    # The work still counts as done, and no manifest has changed.
    assert data.main(["verify", "--root", root]) == 0
    assert "note" not in capsys.readouterr().out
    assert moved.find("x-reward", "x-reward") is not None
    assert {v.ref: v.manifest.to_json() for name in moved.names() for v in moved.versions(name)} == before


# Seen failing with: the whole file left out of what is compared.
def test_everything_but_the_path_is_still_compared(moved: Store) -> None:
    relocate(moved)
    path = moved.resolve("x-reward").path / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "r": 16}))
    assert "adapter_config.json" in moved.resolve("x-reward").damage()[0]
    assert moved.find("x-reward", "x-reward") is None
    # What is damaged is not written over.
    path.write_text(json.dumps({**config, "r": 16, "base_model_name_or_path": "/gone"}))
    assert relocate(moved).left[0][0] == "x-policy@v000001"
    assert named(moved, "x-reward") == "/gone"
    for damaged in ("", "[]", "{", "\x00"):
        path.write_text(damaged)
        assert moved.resolve("x-reward").damage() != []
        assert relocate(moved).moved == []


def test_a_version_of_before_is_relocated_too(moved: Store) -> None:
    for name in ("x-reward", "x-policy"):
        file = moved.resolve(name).path / "manifest.json"
        manifest = json.loads(file.read_text())
        del manifest["portable"]
        file.write_text(json.dumps(manifest))
    assert [ref for ref, *_ in relocate(moved).moved] == ["x-reward@v000001"]
    assert moved.resolve("x-reward").verify() == []
    assert relocate(moved).moved == []


RELOCATE = """
from pipeline.store.store import Store
from pipeline.workflow.relocate import relocate
def work(root):
    relocate(Store(root))
"""


# Seen failing with: the new sha256 written into the manifest, before or after the file.
@pytest.mark.parametrize("old", [False, True], ids=["new", "of before"])
def test_death_before_every_single_step(moved: Store, tmp_path: Path, old: bool) -> None:
    if old:
        file = moved.resolve("x-reward").path / "manifest.json"
        file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "portable"}))
    root = tmp_path / "copies"
    root.mkdir()
    moved.root.rename(root / "before")
    copies = die_before_every_step(root, RELOCATE, ("fsync", "rename", "replace", "mkdir", "unlink", "open"))
    assert len(copies) > (6 if old else 4)
    for copy in copies:
        store = Store(copy)
        assert store.find("x-reward", "x-reward") is not None, copy
        assert named_base(store.resolve("x-reward").path)[0] == str(store.resolve("x-base").path)
        relocate(store)
        assert named(store, "x-reward") == str(store.resolve("x-base").path.resolve())
        assert store.resolve("x-reward").damage() == []


def test_the_manifest_of_an_adapter_says_what_its_config_is(moved: Store) -> None:
    version = moved.resolve("x-reward")
    assert list(version.manifest.portable) == ["adapter_config.json"]
    entry = next(f for f in version.manifest.files if f.path == "adapter_config.json")
    assert entry.sha256 == sha256_file(version.path / "adapter_config.json")
    assert moved.resolve("x-base").manifest.portable == {}
