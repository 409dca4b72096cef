"""A finished run whose data directory moved, and whose old place is gone: every command goes on as before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import __main__, reward
from pipeline.stages import doctor
from pipeline.workflow.experiment import STAGES
from tests.stages.conftest import Project


@pytest.fixture
def moved(finished: Project, tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path / "elsewhere")
    made.root.mkdir()
    shutil.copytree(finished.root / "data", made.root / "data")
    away = finished.root.with_name("away")
    finished.root.rename(away)
    try:
        yield made
    finally:
        away.rename(finished.root)


# Seen failing with: the base looked for where the adapter's config says; the path left as it is by relocate.
@pytest.mark.slow
def test_every_command_goes_on(
    moved: Project, finished: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, gone = str(moved.root / "data"), str(finished.root)
    moved.write()
    for stage in STAGES:  # make, again
        assert moved.run(stage) == 0
        assert "up to date" in capsys.readouterr().out
    for command in (
        ["list"],
        ["show", "mini-policy"],
        ["diff", "mini-policy", "mini-policy"],
        ["gc", "--dry-run"],
        ["verify"],
        ["export", "mini-preferences", str(moved.root / "out.jsonl"), "--format", "trl"],
    ):
        assert __main__.main(["data", *command, "--root", root]) == 0
    said = capsys.readouterr().out
    assert said.count("note: ") == 2
    assert "data relocate" in said
    assert doctor.main(["mini", "--root", root]) in (0, 1)
    measure = ["--evaluate", "mini-reward", "--on", "mini-preferences", "--data-dir", root]
    assert reward.main(measure) == 0
    # The same adapter over a base of its own as a judge, which the evaluation has not seen yet.
    moved.write(evaluate={"prompts": 8, "judges": ["mini-reward@v1"]})
    for stage in ("evaluate", "report"):
        assert moved.run(stage) == 0
    # What other loaders read says where the base is, once it is asked to.
    from peft import AutoPeftModelForCausalLM

    policy = moved.latest("policy").path
    with pytest.raises((OSError, ValueError)):
        AutoPeftModelForCausalLM.from_pretrained(str(policy))
    assert __main__.main(["data", "relocate", "--root", root]) == 0
    monkeypatch.chdir(moved.root)
    assert AutoPeftModelForCausalLM.from_pretrained(str(policy)).peft_config["default"].r > 0
    texts = [p for p in Path(root).rglob("*") if p.is_file() and p.suffix in (".json", ".jsonl", ".md", ".html")]
    assert [p for p in texts if gone in p.read_text("utf-8", "replace")] == []
    assert __main__.main(["data", "verify", "--root", root, "--json"]) == 0
    capsys.readouterr()
    assert moved.run("ppo") == 0
    assert json.loads((policy / "adapter_config.json").read_text())["base_model_name_or_path"].startswith(root)


# Seen failing with: a name that the scores' own config has, refused by the store once all was trained.
@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ({"data": "x.jsonl"}, "no name for a set"),
        ({"a": "nowhere.jsonl"}, 'no file or directory "nowhere.jsonl"'),
        ({"a": {"dataset": "x.jsonl", "fromat": "trl"}}, 'unknown key "reward.test_sets.a.fromat"'),
        (["x.jsonl"], "should be a mapping"),
    ],
)
def test_sets_that_cannot_be_measured_are_refused_before_anything_is_trained(
    project: Project, sets: object, said: str
) -> None:
    from pipeline.base.errors import PipelineError

    project.write(reward={"test_sets": sets})
    for stage in ("sft", "reward"):
        with pytest.raises(PipelineError, match=said):
            project.run(stage, "--check")
    assert not (project.root / "data").exists()
