"""The report of a whole small run, of an older one, and of two runs side by side."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import report
from pipeline.base.errors import PipelineError
from pipeline.governance.approvals import approve
from pipeline.stages.report import sample
from pipeline.stages.scrutiny import screen
from pipeline.stages.scrutiny.sample_courses import follow_scores
from pipeline.store.store import Version
from pipeline.workflow.config import load_config
from pipeline.workflow.stage import Planner
from tests.stages.conftest import MINI, Project


@pytest.fixture
def copied(finished: Project, tmp_path: Path) -> Project:
    """The finished run, less its report."""
    made = Project(tmp_path)
    shutil.copytree(finished.root / "data", tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "mini-report")
    made.write()
    return made


def html_of(version: Version) -> str:
    return (version.path / "report.html").read_text(encoding="utf-8")


def edit(version: Version, change: Callable[[dict[str, Any]], None]) -> None:
    """Rewrite a manifest's stats, which no content id covers."""
    path = version.path / "manifest.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content["stats"])
    path.write_text(json.dumps(content), encoding="utf-8")


def test_a_report_has_its_sections_and_its_pictures_as_files(finished: Project):
    version = finished.latest("report")
    html = html_of(version)
    sections = re.findall(r'<section id="(\w+)"', html)
    assert sections == [
        *("findings", "results", "training", "frontier", "diversity", "completions"),
        *("reward", "accountability", "samples", "lineage", "config"),
    ]
    # Before the headline, which speaks of the gold score; the task names its source.
    assert "gold score: truth by parsing (-1..1)" in unescape(html.partition('<p class="verdict')[0])
    files = {path.name for path in version.path.iterdir()}
    drawn = {name.removesuffix(".svg") for name in files if name.endswith(".svg")}
    assert drawn == {
        *("training", "health", "frontier", "diversity", "win-rate", "length"),
        *("reliability", "reward-accuracy"),
        *("means-gold", "means-proxy", "distribution-gold", "distribution-proxy"),
    }
    assert {f"{name}.png" for name in drawn} <= files
    assert html.count("<svg") == len(drawn)
    assert not re.search(r'(?:src|href)="(?!#)', html)
    for role in ("policy", "reward", "preferences", "prompts", "base"):
        assert finished.latest(role).ref in html
    # What every stage was given: who annotated says as much as PPO's settings do.
    shown = yaml.safe_load(unescape(re.search(r"<pre>(name: .*?)</pre>", html, re.S)[1]))  # pyright: ignore
    assert {stage: shown[stage] for stage in ("sft", "collect", "reward", "ppo", "evaluate")} == {
        stage: {k: v for k, v in MINI[stage].items() if k != "logging_steps"}
        for stage in ("sft", "collect", "reward", "ppo", "evaluate")
    }
    assert version.verify() == []


# Mutation caught: a key of this version read without asking whether it is there.
def test_versions_of_before_still_have_a_report(copied: Project):
    kept = {"n", "level", "gold_score", "score", "length", "win_rate", "kl_k1", "kl_k3", "ended", "unique"}

    def as_before(stats: dict[str, Any]) -> None:
        for key in [k for k in stats if k not in kept]:
            del stats[key]

    def reward_as_before(stats: dict[str, Any]) -> None:
        for key in ("slices", "items", "sets", "notes", "dependent"):
            stats["evaluation"].pop(key, None)
        for key in ("equal_mass", "cross_fitted"):
            stats["evaluation"]["calibration"].pop(key, None)

    edit(copied.latest("evaluation"), as_before)
    edit(copied.latest("reward"), reward_as_before)
    assert copied.run("report") == 0
    html = html_of(copied.latest("report"))
    assert "Best-of-n and PPO" not in html
    assert 'id="frontier"' not in html
    assert "Gold score" in html


@pytest.mark.slow
def test_another_run_is_compared_with_the_one_before(copied: Project, capsys: pytest.CaptureFixture[str]):
    for stage in ("ppo", "evaluate", "report"):
        assert copied.run(stage, "ppo.kl_coef=0.3", "evaluate.best_of=0") == 0
    html = html_of(copied.latest("report"))
    row = re.search(
        r'<th scope="row">ppo.kl_coef</th><td[^>]*>default</td><td[^>]*>0.3</td>', html.replace("\n", "")
    )
    assert row, "the setting that differs from the parent run"
    assert "mini-policy@v000001 (the version before)" in html

    out = copied.root / "both.html"
    capsys.readouterr()
    argv = ["--runs", "mini-policy@v1", "mini", "--data-dir", str(copied.root / "data"), "--out", str(out)]
    assert report.main(argv) == 0
    said = capsys.readouterr().out
    assert "paired on 20 prompts" in said
    page = out.read_text(encoding="utf-8")
    assert "mini-policy@v1 against mini" in page
    assert "ppo.kl_coef" in page
    assert (copied.root / "both-pictures" / "compare-training.png").is_file()


def test_a_table_keeps_the_figures_it_shows(finished: Project, tmp_path: Path):
    readme = tmp_path / "README.md"
    readme.write_text("# Mine\n\n<!-- results:begin -->\n<!-- results:end -->\n", encoding="utf-8")
    assert report.main(["--table", "--data-dir", str(finished.root / "data"), "--readme", str(readme)]) == 0
    text = readme.read_text(encoding="utf-8")
    assert "| mini, seed 0 |" in text
    kept = json.loads((tmp_path / "docs" / "results.json").read_text(encoding="utf-8"))["runs"]
    evaluation = finished.latest("evaluation")
    assert kept[0]["source"]["evaluation"] == f"{evaluation.ref} {evaluation.id}"
    difference = evaluation.manifest.stats["gold_score"]["difference"]["value"]
    assert kept[0]["figures"]["gold_score.difference"]["value"] == pytest.approx(difference, abs=1e-4)


# Mutations caught: the base's score beside the policy's completion; a course that ends elsewhere is shown.
def test_gains_and_losses_show_the_score_after_every_token(finished: Project):
    run = Planner(load_config(str(finished.config), []), finished.store).run_of("report")
    rows = finished.latest("evaluation").rows("test")
    samples = [replace(sample(row, i), kind="gain" if i else "random") for i, row in enumerate(rows[:3])]
    followed, note = follow_scores(run, samples, rows)
    assert note == ""
    assert followed[0] == samples[0]
    for made, row in zip(followed[1:], rows[1:3], strict=True):
        assert made.before_course is not None
        assert made.after_course is not None
        assert made.before_course.pieces[-1].score == pytest.approx(row["base_score"], abs=1e-3)
        assert "".join(piece.text for piece in made.after_course.pieces) == row["policy_completion"]

    rows[1]["policy_score"] += 1
    followed, note = follow_scores(run, samples, rows)
    assert followed[1].after_course is None
    assert followed[1].before_course is not None
    assert "1 of 4 completions, as the whole text's score is" in note
    run.config.report.token_scores = False
    assert follow_scores(run, samples, rows) == (samples, "")


# Mutation caught: a screening, or a signature, that comes after the report leaves it "up to date" as it was.
@pytest.mark.thorough
def test_the_report_is_made_again_when_somebody_screens_or_signs(copied: Project):
    policy, root = copied.latest("policy"), str(copied.root / "data")
    assert copied.run("report") == 0
    first = copied.latest("report")
    assert html_of(first).count(">not done</span>") == 4
    assert copied.run("report") == 0
    assert copied.latest("report").ref == first.ref

    assert screen.main(["mini-policy", "--root", root]) == 0
    approve(copied.store, policy, "Ann Lee", "looked at twenty")
    approve(copied.store, first, "Ann Lee", "the report itself")  # of no concern to it
    assert copied.run("report") == 0
    second = copied.latest("report")
    assert second.number == first.number + 1
    assert "screening" in [parent.role for parent in second.manifest.parents]
    html = html_of(second)
    assert "Ann Lee" in html
    assert "a list of words flags" in html.replace("\u00a0", " ")
    approve(copied.store, second, "Ann Lee", "the report itself")
    assert copied.run("report") == 0
    assert copied.latest("report").ref == second.ref


@pytest.mark.parametrize(
    ("runs", "words"),
    [(["mini"], "two runs or more"), (["mini", "mini"], "each named once"), (["mini", "other"], 'called "other"')],
)
def test_runs_that_cannot_be_compared(finished: Project, tmp_path: Path, runs: list[str], words: str):
    out = tmp_path / "page.html"
    with pytest.raises(PipelineError, match=words):
        report.main(["--runs", *runs, "--data-dir", str(finished.root / "data"), "--out", str(out)])
    assert not out.exists()


# Seen failing: a traceback of IsADirectoryError, after minutes of drawing.
def test_a_page_of_several_runs_that_cannot_be_written_is_one_line(
    finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pipeline.stages.several_runs.render", lambda *_: "")
    (tmp_path / "file").touch()
    runs = ["--runs", "mini", "mini-policy@v1", "--data-dir", str(finished.root / "data"), "--out"]
    for out, words in ((tmp_path, "is a directory. Name a file"), (tmp_path / "file" / "page.html", "in the way")):
        with pytest.raises(PipelineError, match=words):
            report.main([*runs, str(out)])
