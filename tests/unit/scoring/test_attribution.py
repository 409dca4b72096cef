"""Attributions that add up to the score's difference."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.base.errors import ConfigError
from pipeline.scoring.attribution import attribute
from pipeline.scoring.followable_models import FollowableAdapter
from pipeline.scoring.foreign_reward_models import AdapterScorer
from pipeline.scoring.reward_adapter import Position
from pipeline.scoring.token_scores import token_scores
from tests.helpers.refusals import refusal
from tests.unit.scoring.test_foreign_reward_models import load, save_classifier
from tests.unit.scoring.test_token_scores import COMPLETION, PROMPT, adapter


@pytest.mark.parametrize("position", ["last", "eos"])
def test_attributions_add_up_to_the_difference(position: Position):
    pytest.importorskip("captum")
    scorer = adapter(position)
    attribution = attribute(scorer, PROMPT, COMPLETION)
    assert attribution.score == pytest.approx(token_scores(scorer, PROMPT, COMPLETION).score, abs=1e-5)
    assert attribution.reference == pytest.approx(reference_of(scorer), abs=1e-5)
    total = sum(value for _, value in (*attribution.prompt, *attribution.completion))
    assert total == pytest.approx(attribution.score - attribution.reference, abs=0.02)
    assert attribution.residual == pytest.approx(total - (attribution.score - attribution.reference), abs=1e-9)
    assert attribution.adds_up
    assert [token for token, _ in attribution.completion] == COMPLETION.split()
    # Mutation caught: gradients at the text instead of along the way, which do not add up.
    assert max(abs(value) for _, value in attribution.completion) > 0.05


def reference_of(scorer: AdapterScorer) -> float:
    padding = 51 if scorer.role.scoring.score_position == "last" else 52
    model = FollowableAdapter(scorer)
    text = model.ids(PROMPT, COMPLETION)
    return float(model.scores([[padding] * 8 + text.end])[0])


def test_attributions_of_a_classifier(tmp_path: Path):
    pytest.importorskip("captum")
    attribution = attribute(load(save_classifier(tmp_path, "distilbert")), PROMPT, " " + COMPLETION)
    assert attribution.adds_up
    assert len(attribution.prompt) == 3


def test_captum_is_asked_for_in_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "captum.attr", None)
    message = refusal(ConfigError, attribute, adapter("last"), PROMPT, COMPLETION)
    assert "needs captum, which is not installed" in message
    assert "rlhf-pipeline[explain]" in message
