"""Files that a file manager or somebody leaves among versions, drafts and rows: named, and no damage."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.stages.data import data
from pipeline.store.store import Store, Version


def publish(store: Store, name: str, key: str) -> Version:
    with store.draft(name, kind="model", stage="sft", key=key) as draft:
        (draft.path / "content.bin").write_bytes(b"w")
    return draft.version


@contextmanager
def stray(directory: Path) -> Iterator[None]:
    for name in STRAYS:
        (directory / name).write_bytes(b"x")
    yield
    for name in STRAYS:
        (directory / name).unlink()


STRAYS = (".DS_Store", "Thumbs.db", "._manifest.json", "manifest.json~", ".manifest.json.swp", ".nfs000000000123")


# Seen failing with: every file beside the manifest's taken for damage, so that the work was done anew.
def test_a_file_that_somebody_left_is_named_and_costs_nothing(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    made = publish(store, "x-base", key="k")
    for directory in (made.path, store.home("x-base"), made.path.parent, store.root):
        for name in (*STRAYS, "notes.txt"):
            (directory / name).write_bytes(b"x")
    assert store.find("x-base", "k") == made
    assert capsys.readouterr().err == ""
    assert store.names() == ["x-base"]
    assert data.main(["verify", "--root", str(store.root)]) == 1
    said = capsys.readouterr().out
    for name in (*STRAYS, "notes.txt"):
        assert f"x-base@v000001: {name} is not in the manifest" in said
    # A file of the manifest does count, and the line says which.
    (made.path / "content.bin").unlink()
    assert store.find("x-base", "k") is None
    assert "x-base@v000001: content.bin is missing; not counted as up to date" in capsys.readouterr().err


# Seen failing with: listed in the manifest, so that the version is damaged once the file manager removes its file.
def test_what_a_file_manager_leaves_in_a_draft_is_not_published(store: Store) -> None:
    with store.draft("x-base", kind="model", stage="sft", key="k") as draft:
        (draft.path / "model.safetensors").write_bytes(b"w")
        for name in STRAYS:
            (draft.path / name).write_bytes(b"x")
    assert [f.path for f in draft.version.manifest.files] == ["model.safetensors"]
    for name in STRAYS:
        (draft.version.path / name).unlink()
    assert draft.version.verify() == []


# Seen failing with: every file below a directory that the config names hashed, so that looking at it is new work.
def test_a_stray_file_in_a_directory_that_the_config_names_is_no_new_work(tmp_path: Path) -> None:
    from pipeline.workflow.work_key import local_files

    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "a.jsonl").write_text("{}")
    before = local_files({"dataset": str(folder)})
    with stray(folder):
        assert local_files({"dataset": str(folder)}) == before
    (folder / "b.jsonl").write_text("{}")
    assert local_files({"dataset": str(folder)}) != before
    shutil.rmtree(folder)
