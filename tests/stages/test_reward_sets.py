"""A reward model on named sets: in its stage, and afterwards by the command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline import reward
from pipeline.base.errors import ConfigError, DataError
from pipeline.base.records import PREFERENCES, VOTES, Comparison, row_id
from tests.helpers.row_files import write_rows
from tests.stages.conftest import Project

Rows = list[dict[str, Any]]
TEXTS = ("prompt", "chosen", "rejected")


def rows_of(finished: Project, split: str, n: int | None = None) -> Rows:
    rows = finished.latest("preferences").rows(split)[:n]
    return [{k: r[k] for k in TEXTS} for r in rows]


def long_text(finished: Project) -> str:
    return " ".join(row["chosen"] for row in rows_of(finished, "train"))


@pytest.fixture(scope="module")
def measured(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A second reward model of the finished run, measured on a set as well."""
    made = Project(tmp_path_factory.mktemp("measured"))
    shutil.copytree(finished.root / "data", made.root / "data")
    two_voted(made, finished)
    train, test = (made.store.resolve("mini-voted").rows(s, columns=[*TEXTS]) for s in ("train", "test"))
    seen = [{**row, "kind": "seen"} for row in train[:3]]
    own = [{**row, "kind": "even" if i % 2 == 0 else "odd"} for i, row in enumerate(test)]
    long = {"prompt": "p", "chosen": long_text(finished), "rejected": "It was bad.", "kind": "long"}
    file = write_rows(made.root / "set.jsonl", [*seen, *own, long])
    sets = {"mine": {"dataset": file, "slice": "kind"}}
    made.write(reward={"seed": 5, "test_sets": sets, "inputs": {"preferences": "mini-voted@v1"}})
    assert made.run("reward") == 0
    return made


def two_voted(made: Project, finished: Project) -> None:
    """The same preferences and one more of a known prompt, with a second voter, who contradicts the first on every
    other pair.
    """
    with made.store.draft("mini-voted", kind="preferences", stage="collect") as draft:
        for split in ("train", "test"):
            rows = finished.latest("preferences").rows(split)
            texts = (rows[0]["prompt"], "It was good.", "It was bad.")
            more = {
                "id": row_id(*texts),
                "comparison_id": Comparison(*texts).id,
                "annotator": "p0",
                "margin": None,
            }
            rows.append(more | dict(zip(TEXTS, texts, strict=True)))
            draft.write_rows(split, rows, schema=PREFERENCES)
            votes = [vote for i, row in enumerate(rows) for vote in votes_on(row, i % 2 == 1)]
            draft.write_rows(split, votes, "votes", schema=VOTES)


def votes_on(row: dict[str, Any], agreed: bool) -> Rows:
    first = Comparison(row["prompt"], row["chosen"], row["rejected"]).id == row["comparison_id"]
    choices = ("a" if first else "b", "a" if first == agreed else "b")
    about = {**dict.fromkeys(VOTES), "comparison_id": row["comparison_id"]}
    return [about | {"id": f"{row['id']}{i}", "annotator": f"p{i}", "choice": c} for i, c in enumerate(choices)]


def command(made: Project, capsys: pytest.CaptureFixture[str], *args: str) -> str:
    capsys.readouterr()
    assert reward.main(["--evaluate", *args, "--data-dir", str(made.root / "data")]) == 0
    return capsys.readouterr().out


# Catches: pairs that were trained on among those measured, a set's rows under the default config.
def test_a_set_is_measured_and_kept(finished: Project, measured: Project):
    from datasets import load_dataset

    stats, scores = measured.latest("reward").manifest.stats["evaluation"], measured.latest("scores")
    n = len(rows_of(finished, "test")) + 2
    found = stats["sets"]["mine"]
    assert found["n"] == n
    assert found["set"]["left_out"] == {"trained on": 3}
    assert found["set"]["truncated"] == 1
    assert {row["name"] for row in found["slices"]["kind"]["rows"]} == {"even", "long", "odd"}
    assert scores.splits == {"test": n - 1, "mine/test": n}
    kept = load_dataset(str(scores.path), "mine", split="test")
    assert sum(r["chosen_score"] > r["rejected_score"] for r in kept) == round(found["accuracy"]["value"] * n)
    # Catches: another end of a text, or another model, than on the held-out pairs, which these are too.
    own = {r["id"]: r["chosen_score"] for r in scores.rows("test")}
    assert {r["id"]: r["chosen_score"] for r in kept if r["slice"] != "long"} == pytest.approx(own, abs=1e-5)
    # Catches: the held-out pairs measured otherwise than without a set.
    before = finished.latest("reward").manifest.stats["evaluation"]
    assert before.keys() == stats.keys() - {"sets"}
    confidence = stats["slices"]["confidence"]["rows"]
    assert [(row["name"], row["accuracy"]["n"]) for row in confidence] == [("0.5", 5), ("1", 4)]
    assert stats["dependent"]["prompts"] == n - 2


# Catches: normalised scores, another tokenisation than the stage's, no training pairs for the baselines.
def test_the_command_says_what_the_stage_said(measured: Project, capsys: pytest.CaptureFixture[str]):
    ref = measured.latest("reward").ref
    found = json.loads(command(measured, capsys, ref, "--on", "mini-voted", "--json"))
    stats = measured.latest("reward").manifest.stats["evaluation"]
    for key in ("accuracy", "dependent", "baselines", "ties", "verdict"):
        assert found[key] == stats[key]
    assert found["slices"]["confidence"] == stats["slices"]["confidence"]
    assert found["margin"]["value"] == pytest.approx(stats["margin"]["value"], abs=1e-5)
    assert found["calibration"]["brier"] == pytest.approx(stats["calibration"]["brier"], abs=1e-5)
    file = str(measured.root / "set.jsonl")
    again = json.loads(command(measured, capsys, ref, "--on", file, "--slice", "kind", "--json"))
    assert again["set"] == stats["sets"]["mine"]["set"]
    # Catches: the end of a text that is too long left out instead of its beginning.
    assert again["margin"]["value"] == pytest.approx(stats["sets"]["mine"]["margin"]["value"], abs=1e-5)
    assert again["slices"]["kind"] == stats["sets"]["mine"]["slices"]["kind"]


def test_an_ensemble_of_versions(measured: Project, capsys: pytest.CaptureFixture[str]):
    refs = ["mini-reward@v1", "mini-reward@v2"]
    found = json.loads(command(measured, capsys, *refs, "--on", "mini-preferences", "--json"))
    members = found["ensemble"]["members"]
    assert [m["name"] for m in members] == refs
    for member in members:
        one = json.loads(command(measured, capsys, member["name"], "--on", "mini-preferences", "--json"))
        assert member["accuracy"] == one["accuracy"]
    assert found["accuracy"] == found["ensemble"]["accuracy"]
    said = command(measured, capsys, *refs, "--on", "mini-preferences")
    assert said.splitlines()[0].startswith("mini-reward@v1, mini-reward@v2 on mini-preferences@v000001 (trl): ")
    assert "  their mean" in said


# Catches: a name of theirs that the terminal obeys, or that breaks the table.
def test_any_function_and_any_file(measured: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = [
        {
            "prompt": f"q{i}",
            "chosen": "yes" * (1 + i % 4),
            "rejected": "no",
            "subset": "hep-go\x1b" + "o" * 60,
            "chosen_model": "x",
        }
        for i in range(8)
    ]
    file = write_rows(tmp_path / "bench.jsonl", [{**row, "rejected_model": "y"} for row in rows])
    said = command(measured, capsys, "tests.stages.test_reward_sets:length", "--on", file)
    assert f"tests.stages.test_reward_sets:length on {file} (rewardbench): 8 pairs" in said
    assert "The reward model is right on 1.00" in said
    assert [line.split() for line in said.splitlines() if "hep-go" in line] == [
        ["hep-go␛" + "o" * 33 + "…", "8", "1.00", "[0.68,", "1.00]"]
    ]
    assert "bag of words: 0 training pairs" in said


def length(completions: list[str]) -> list[float]:
    return [float(len(c)) for c in completions]


# Catches: sets read only after hours of training.
@pytest.mark.parametrize(
    ("sets", "error", "said"),
    [
        ({"mine": "nothing.jsonl"}, DataError, "reward.test_sets.mine"),
        ({"mine": {"dataset": "x", "formt": "trl"}}, ConfigError, "reward.test_sets.mine.formt"),
    ],
)
def test_a_mistake_is_told_before_training(
    finished: Project, tmp_path: Path, sets: Any, error: Any, said: str, monkeypatch: pytest.MonkeyPatch
):
    from pipeline.trainers import reward as trainer

    made = Project(tmp_path)
    shutil.copytree(finished.root / "data", tmp_path / "data")
    made.write(reward={"test_sets": sets})
    monkeypatch.setattr(trainer, "train", lambda *_: pytest.fail("trained"))
    with pytest.raises(error, match=said):
        made.run("reward")


def test_the_command_names_what_is_not_there(measured: Project):
    with pytest.raises(ConfigError, match="--evaluate adapter names no model"):
        reward.main(
            ["--evaluate", "adapter", "--on", "mini-preferences", "--data-dir", str(measured.root / "data")]
        )
    with pytest.raises(DataError, match=r'no file or directory "no\.jsonl"'):
        reward.main(["--evaluate", "mini-reward", "--on", "no.jsonl", "--data-dir", str(measured.root / "data")])
