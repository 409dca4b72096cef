"""What the stages say of the levels between a label and the truth, and where nothing judges."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline.base.records import Annotation, Comparison
from pipeline.stages.collect import collect
from pipeline.tasks import Task, load_task
from pipeline.tasks._vader import lexicon_words
from pipeline.workflow.sections.collect import CollectSection
from tests.stages.conftest import Project

PROMPT = "We watched it with the whole family. The cast was"


@pytest.fixture
def copy(finished: Project, tmp_path: Path) -> Project:
    shutil.copytree(finished.root / "data", tmp_path / "data")
    return Project(tmp_path)


def judged(a: str, b: str, choice: str, scores: tuple[float, float]) -> collect.Judged:
    comparison = Comparison(PROMPT, a, b)
    return collect.Judged(comparison, Annotation(comparison.id, "x", choice, *scores), "train")  # type: ignore[arg-type]


def test_labels_and_annotator_are_measured_against_the_truth(capsys: pytest.CaptureFixture[str]) -> None:
    # Catches: gold of a and b swapped, completions scored without their prompt.
    task = load_task("reviews", {}, "x.yaml")
    rows = [
        judged(" great.", " dull.", "a", (0.6, -0.4)),
        judged(" great.", " dull. My friends disliked it too.", "b", (0.6, 0.7)),
        judged(" awful.", " nice.", "a", (-0.5, 0.4)),  # a slip
        judged(" long.", " short.", "a", (0.0, 0.0)),  # both are worth 0
    ]
    found = collect.against_gold(task, rows)["agreement_with_gold"]
    assert (found["n"], found["labels"]["value"], found["scores"]["value"]) == pytest.approx((3, 1 / 3, 2 / 3))
    said = capsys.readouterr().out
    assert "labels agree with the gold score (truth by parsing (-1..1)) on 0.33 of the 3 pairs" in said
    assert "the scores the annotator went by, on 0.67" in said
    assert collect.against_gold(task, rows[3:]) == {}


class Blind:
    """A task that cannot know."""

    gold_name = None

    def gold_scores(self, prompts: list[str], completions: list[str]) -> None:
        return None


def test_nothing_is_said_of_a_gold_score_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    blind: Task = Blind()  # type: ignore[assignment]
    assert collect.against_gold(blind, [judged(" great.", " dull.", "a", (1, 0))]) == {}
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("gold", "options", "shared"),
    [
        ("truth", {"view": "vader"}, False),
        ("truth", {}, False),
        ("vader", {}, True),
        ("vader", {"view": "gold"}, True),
        ("vader", {"view": "vader"}, True),
    ],
)
def test_labels_that_share_the_judges_errors(gold: str, options: dict[str, str], shared: bool) -> None:
    task = load_task("reviews", {"gold": gold}, "x.yaml")
    assert collect.shares_its_errors(CollectSection(annotator_args=options), task) is shared
    assert not collect.shares_its_errors(CollectSection(annotator="replay"), task)


def test_collect_says_that_the_judge_is_the_annotator(copy: Project, capsys: pytest.CaptureFixture[str]) -> None:
    copy.write(
        task_args={"corpus_size": 400, "completion_tokens": 12, "gold": "vader"}, collect={"comparisons": 20}
    )
    assert copy.run("collect", "collect.inputs={base: mini-base@v1}") == 0
    assert "NO JUDGE: the labels come from the gold score itself" in capsys.readouterr().out


@pytest.mark.thorough
def test_ppo_says_that_there_is_no_judge(copy: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert copy.store.resolve("mini-policy@v1")
    rows = copy.root / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"Prompt {i}"}) + "\n" for i in range(20)))
    inputs = {role: f"mini-{role}@v1" for role in ("base", "prompts", "reward")}
    blind = {"dataset": str(rows), "completion_tokens": 4}
    for check, said in ((None, True), ("tests.stages.test_judges:length", False)):
        ppo = {"inputs": inputs, "total_episodes": 16, "eval_strategy": "steps", "eval_steps": 1, "check": check}
        copy.write(task="prompts", task_args=blind, ppo=ppo)
        assert copy.run("ppo") == 0
        assert ("[ppo] NO JUDGE: the task has no gold score" in capsys.readouterr().out) is said


def test_evaluate_says_how_much_a_lexicon_knows_of_the_texts(
    copy: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = {role: f"mini-{role}@v1" for role in ("base", "prompts", "reward", "policy")}
    copy.write(
        task_args={"corpus_size": 400, "completion_tokens": 12, "gold": "vader"},
        evaluate={"prompts": 4, "best_of": 0, "inputs": inputs},
    )
    assert copy.run("evaluate") == 0
    assert "of a text it knows nothing but" in capsys.readouterr().out
    known = copy.latest("evaluation").manifest.stats["lexicon_words"]
    rows = copy.latest("evaluation").rows("test")
    by_hand = sum(sum(lexicon_words([r["base_completion"]])) for r in rows) / len(rows)
    assert known["base"]["value"] == pytest.approx(by_hand)


def length(completions: list[str], **_: object) -> list[float]:
    return [float(len(completion)) for completion in completions]
