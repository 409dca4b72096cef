"""explain, on the finished run."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from pipeline.base.errors import ConfigError, StoreError
from pipeline.scoring.token_scores import token_scores
from pipeline.stages.scrutiny.explain import load_reward_model, main
from tests.helpers.refusals import refusal
from tests.stages.conftest import Project


def test_explain_ends_on_the_score_of_the_evaluation(finished: Project, capsys: pytest.CaptureFixture[str]):
    root, row = finished.root / "data", next(iter(finished.latest("evaluation").iter_rows("test")))
    text = ["--prompt", row["prompt"], "--completion", row["policy_completion"], "--root", str(root)]
    assert main(["mini-reward", *text, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["score"] == pytest.approx(row["policy_score"], abs=1e-3)
    assert "".join(printed["pieces"]) == row["policy_completion"]
    assert len(printed["scores"]) == len(printed["changes"]) == len(printed["pieces"])

    assert main(["mini-reward@v1", *text]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"mini-reward@v1: score {printed['score']:.3f}; of the prompt alone")
    assert lines[3].split()[-3:-1] == [f"{printed['scores'][0]:.3f}", f"{printed['changes'][0]:+.3f}"] or (
        f"{printed['scores'][0]:.3f}" in lines[3]
    )
    assert "It is not why the text got its score" in lines[-1]


def test_from_python_with_a_conversation(finished: Project):
    scorer = load_reward_model("mini-reward@v1", finished.root / "data")
    course = token_scores(scorer, [{"role": "user", "content": "The radio."}], " It is \x1b[31mnice.")
    assert "".join(course.pieces) == " It is \x1b[31mnice."


def test_what_cannot_be_explained(finished: Project, tmp_path: Path):
    root = finished.root / "data"
    wrong_kind = "is of kind adapter, made by ppo, not a reward model"
    assert wrong_kind in refusal(StoreError, load_reward_model, "mini-policy", root)
    assert "no model whose score can be followed" in refusal(ConfigError, load_reward_model, "json:dumps", root)
    given = ["mini-reward", "--prompt", '[{"role": "user"}]', "--completion", "x", "--root", str(root)]
    assert "is no conversation" in refusal(ConfigError, main, given)
    given[2] = '[{"role"'
    assert "begins as a conversation and is not JSON" in refusal(ConfigError, main, given)


# Seen failing: the line end that ``echo`` adds was the completion's last token, and the score another one.
def test_a_text_of_the_standard_input_has_no_line_end_more(
    finished: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    root = str(finished.root / "data")
    given = ["mini-reward", "--prompt", "The radio.", "--root", root, "--json", "--completion"]
    assert main([*given, " It is nice."]) == 0
    typed = json.loads(capsys.readouterr().out)
    monkeypatch.setattr("sys.stdin", io.StringIO(" It is nice.\n"))
    assert main([*given, "-"]) == 0
    assert json.loads(capsys.readouterr().out) == typed
