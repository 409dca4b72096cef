"""An experiment without a reward model of its own: what the stages leave out, and what they say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.stages.conftest import Project


@pytest.fixture
def scored(finished: Project, tmp_path: Path) -> Project:
    """A project whose policy is scored by a function; its base is there, nothing else is."""
    shutil.copytree(finished.root / "data" / "mini-base", tmp_path / "data" / "mini-base")
    made = Project(tmp_path)
    made.write(collect=None, ppo={"reward": "my_module:my_function"})
    return made


# Seen failing with: comparisons sampled all the same.
def test_collect_writes_prompts_only_and_says_so(scored: Project, capsys: pytest.CaptureFixture[str]):
    assert scored.run("collect") == 0
    said = capsys.readouterr().out
    assert "[collect] prompts only, nobody is asked to choose: ppo.reward is my_module:my_function" in said
    assert scored.store.names() == ["mini-base", "mini-prompts"]
    assert scored.run("collect") == 0
    assert "up to date: mini-prompts@v000001" in capsys.readouterr().out


def test_collect_asks_an_annotator_that_is_named(scored: Project):
    scored.write(ppo={"reward": "my_module:my_function"}, collect={"annotator": "oracle"})
    assert scored.run("collect") == 0
    assert scored.latest("preferences").number == 1


def test_prompts_collected_alone_are_those_collected_with_comparisons(scored: Project, finished: Project):
    scored.run("collect")
    assert scored.latest("prompts").id == finished.latest("prompts").id


def test_there_is_no_reward_model_to_train(scored: Project, capsys: pytest.CaptureFixture[str]):
    for given in ((), ("--check",)):
        assert scored.run("reward", *given) == 0
        assert capsys.readouterr().out == "[reward] nothing to do: ppo.reward is my_module:my_function\n"


# Seen failing with: run.version("reward") read by the report, and by the table of results.
@pytest.mark.slow  # the page itself: tests/unit/reporting/test_page.py
def test_the_report_leaves_out_what_there_is_not(
    finished: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    from pipeline.stages.several_runs import table

    shutil.copytree(finished.root / "data", tmp_path / "data")
    made = Project(tmp_path)
    inputs = {role: f"mini-{role}@v1" for role in ("base", "policy", "evaluation")}
    made.write(name="scored", ppo={"reward": "my_module:my_function"}, report={"inputs": inputs})
    assert made.run("report") == 0
    report = made.store.resolve("scored-report")
    assert {p.role for p in report.manifest.parents} == {"base", "policy", "evaluation"}
    html = (report.path / "report.html").read_text()
    assert "my_module:my_function" in html
    assert "No reward model was evaluated in this run." in html
    assert not [p for p in report.path.iterdir() if p.name.startswith(("reward-accuracy", "reliability"))]
    assert [p for p in report.path.iterdir() if p.name.startswith("training")]
    capsys.readouterr()
    table(str(tmp_path / "data"), None)
    rows = [line for line in capsys.readouterr().out.splitlines() if "seed 0" in line]
    assert len(rows) == 2
