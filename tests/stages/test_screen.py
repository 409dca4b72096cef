"""screen, on the finished run: rates of both sides, one version for the same work, and the screens measured."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from pipeline.base.errors import ConfigError, StoreError
from pipeline.base.terminal_text import escape_for_terminal
from pipeline.results.screening import Screening, harm_rate_over_base
from pipeline.results.stats import from_json
from pipeline.scoring.harm import screens
from pipeline.stages.scrutiny import screen
from pipeline.stages.scrutiny.screen import main
from pipeline.store.store import Store
from tests.helpers.refusals import refusal
from tests.stages.conftest import Project
from tests.unit.scoring.harm.test_screens import classifier


@pytest.fixture
def store(finished: Project, tmp_path: Path) -> Store:
    """The finished run's versions."""
    shutil.copytree(finished.root / "data", tmp_path / "data")
    return Store(tmp_path / "data")


def flag_texts_with(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of words is one word long."""

    def rows(_: str) -> Iterable[dict[str, str]]:
        return [{"label": "odd", "words": word}]

    screens._patterns.cache_clear()
    monkeypatch.setattr(screens, "_rows", rows)


def test_a_version_of_rates_made_once(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    texts = store.resolve("mini-evaluation").rows("test")
    word = max(texts[0]["policy_completion"].replace(".", " ").split(), key=len)
    flag_texts_with(word, monkeypatch)
    try:
        assert main(["mini", "--root", str(store.root), "--show", "1"]) == 0
        out = capsys.readouterr().out
        made = store.resolve("mini-screening@v1")
        screening = from_json(Screening, made.manifest.stats, made.ref)
        shares = {s: sum(word in t[f"{s}_completion"].split() or f"{word}." in t[f"{s}_completion"].split()
                         for t in texts) / len(texts) for s in ("base", "policy")}  # fmt: skip
        flagged = screening.screens["words"].flagged
        assert flagged.policy.value >= 1 / len(texts)
        assert flagged.policy.value == pytest.approx(shares["policy"], abs=0.05)
        assert harm_rate_over_base(screening) == flagged.difference
        assert flagged.difference.value == pytest.approx(flagged.policy.value - flagged.base.value)
        assert f"words, policy, odd: {escape_for_terminal(texts[0]['policy_completion'])}" in out
        rows = made.rows("test")
        assert [row["id"] for row in rows] == [row["id"] for row in texts]
        assert rows[0]["policy_flags"] == "odd"
        assert {p.role for p in made.manifest.parents} == {"evaluation", "policy"}
        assert not any(word in str(row) for row in rows)  # no texts

        assert main(["mini-policy@v1", "--root", str(store.root), "--json"]) == 0
        captured = capsys.readouterr()
        assert json.loads(captured.out[captured.out.index("{") :])["version"] == made.ref
        assert len(store.versions("mini-screening")) == 1
    finally:
        screens._patterns.cache_clear()


def test_a_classifier_counts_before_the_words(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    classifier(tmp_path / "judge", ["toxic"], problem_type="multi_label_classification")
    more = ["--classifier", str(tmp_path / "judge"), "--labels", "toxic", "threat", "--root", str(store.root)]
    assert main(["mini", *more]) == 0
    assert f"by {tmp_path / 'judge'}" in capsys.readouterr().out
    assert main(["mini", *more, "--threshold", "0.9"]) == 0
    made = store.versions("mini-screening")
    assert len(made) == 2
    screening = from_json(Screening, made[0].manifest.stats, made[0].ref)
    assert screening.main[0] == str(tmp_path / "judge")
    assert list(screening.screens) == ["words", str(tmp_path / "judge")]
    assert set(screening.main[1].by_label) == {"toxic", "threat"}
    assert made[0].splits["test"] == 2 * store.resolve("mini-evaluation").splits["test"]


def test_the_screens_themselves_are_measured(capsys: pytest.CaptureFixture[str]):
    assert main(["--probe", "--json"]) == 0
    (words,) = json.loads(capsys.readouterr().out)
    # Figures of docs/screening.md.
    assert words["recall"]["all"]["n"] == words["false_alarms"]["all"]["n"] == 40
    assert words["recall"]["all"]["value"] == pytest.approx(11 / 40)
    assert words["recall"]["hate"]["value"] == 0
    assert words["false_alarms"]["all"]["value"] == pytest.approx(2 / 40)
    assert words["false_alarms"]["identity"]["value"] == 0
    assert main(["--probe"]) == 0
    assert "harmful, all            40   27.5 % [16.1, 42.8]" in capsys.readouterr().out


def test_what_cannot_be_screened(finished: Project):
    root = ["--root", str(finished.root / "data")]
    assert "names no policy" in refusal(ConfigError, main, root)
    assert "--labels: is of a classifier" in refusal(ConfigError, main, ["mini", "--labels", "x", *root])
    assert "not a probability" in refusal(ConfigError, main, ["mini", "--threshold", "2", *root])
    assert "not a run" in refusal(StoreError, main, ["mini-reward", *root])
    assert screen.FORMAT == 1
