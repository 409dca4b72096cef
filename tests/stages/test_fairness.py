"""fairness, on the finished run: equal words make no gap, the same work is done once, odd words are told."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.base.errors import ConfigError, ModelError
from pipeline.modeling.loading import load_tokenizer
from pipeline.results.fairness import Fairness
from pipeline.results.stats import from_json
from pipeline.stages.scrutiny.fairness import main
from pipeline.store.store import Store
from tests.helpers.refusals import refusal
from tests.stages.conftest import Project

HEAD = "attribute\tgroups\tprompt\tcompletion\n"


def known_words(store: Store) -> list[str]:
    """Two words that are one token each; of the mini run's 400 tokens few are."""
    tokenizer = load_tokenizer(str(store.resolve("mini-base").path), None)
    words = (token[1:] for token in tokenizer.get_vocab() if token[:1] == "Ġ" and token[1:].isalpha())
    return sorted(words, key=lambda word: (-len(word), word))[:2]


@pytest.fixture
def store(finished: Project, tmp_path: Path) -> Store:
    shutil.copytree(finished.root / "data", tmp_path / "data")
    return Store(tmp_path / "data")


def result(store: Store, name: str = "mini-fairness") -> Fairness:
    version = store.resolve(name)
    return from_json(Fairness, version.manifest.stats, version.ref)


def test_scores_and_texts_of_swapped_words(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    swaps = tmp_path / "mine.tsv"
    first, second = known_words(store)
    things = [
        f"thing\tx|y\tThe [{first}|{second}] {verb} on Monday. The sound is\t {end}."
        for verb in ("arrived", "came")
        for end in ("lovely", "nice", "bad")
    ]
    # The groups of "same" do not differ: its line is left out.
    swaps.write_text(HEAD + "\n".join([*things, f"same\tx|y\tThe [{first}|{first}] is\t good."]) + "\n")
    argv = ["mini-policy@v1", "--swaps", str(swaps), "--draws", "2", "--root", str(store.root)]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert "thing: x, y; 6 lines, 6 templates" in out
    fairness = result(store)
    thing = fairness.attributes["thing"]
    assert (thing.templates, thing.same, thing.unread) == (6, 0, ())
    measures = {
        "reward",
        *(f"{side}_{of}" for side in ("base", "policy") for of in ("score", "gold_score", "length")),
    }
    assert set(thing.gaps) == measures
    assert fairness.comparisons == len(measures)
    assert fairness.attributes["same"].means_nothing
    assert "NOTHING CAN BE SAID" in out

    version = store.resolve("mini-fairness@v1")
    rows = version.rows("test")
    assert len(rows) == 7 * 2 * 2
    own = [row for row in rows if row["line"] == 0 and row["draw"] == 0]
    assert [row["prompt"] for row in own] == [f"The {t} arrived on Monday. The sound is" for t in (first, second)]
    gaps = [
        sum(r["reward"] * (1 if r["group"] == "x" else -1) for r in rows if r["line"] == line and r["draw"] == 0)
        for line in range(6)
    ]
    assert thing.gaps["reward"]["x"].value == pytest.approx(sum(gaps) / 6, abs=1e-6)
    # A group's prompts get the same random numbers: the same prompt is continued in the same way.
    same = [row for row in rows if row["attribute"] == "same"]
    assert same[0]["policy_completion"] == same[2]["policy_completion"]
    assert same[0]["policy_completion"] != same[1]["policy_completion"]

    assert main(argv) == 0
    assert "up to date: mini-fairness@v000001" in capsys.readouterr().out
    assert {p.role for p in version.manifest.parents} == {"policy", "reward"}


def test_words_that_the_model_does_not_know(store: Store, capsys: pytest.CaptureFixture[str]):
    assert main(["mini", "--draws", "0", "--root", str(store.root)]) == 0
    out = capsys.readouterr().out
    assert "no words to this model: 16 of 16 (Emily" in out
    assert "origin of names: European names" in out
    fairness = result(store)
    assert fairness.attributes["origin of names"].means_nothing
    assert set(fairness.attributes["religion"].gaps) == {"reward"}
    assert not [gap for gap in fairness.gaps() if gap[0] == "origin of names"]


def test_what_cannot_be_swapped(finished: Project):
    root = ["--root", str(finished.root / "data")]
    assert "not a policy" in refusal(ModelError, main, ["mini-reward", *root])
    assert "not 0 or more" in refusal(ConfigError, main, ["mini", "--draws", "-1", *root])
