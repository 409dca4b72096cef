"""Facts of a run: its settings, and error rates of labels."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from pipeline.health import Facts
from pipeline.health.facts import _differing, _error_rate
from pipeline.workflow.sections.ppo import PPOKeys


def test_settings():
    settings = {"kl_target": 6.0, "value_warmup_updates": 3, "learning_rate": 1.0}
    assert Facts.of_settings(settings) == Facts(kl_target=6.0, value_warmup=3)


def test_error_rates_by_hand():
    # Two people who are wrong on one in five differ on 2 x .2 x .8 = .32.
    assert _error_rate(0.32) == pytest.approx(0.2)
    assert _error_rate(0.0) == 0.0
    assert _error_rate(0.5) == _error_rate(0.7) == 0.5
    # Pairs of votes a-a, a-b, a-b.
    assert _differing(Counter("aab")) == pytest.approx(2 / 3)
    assert _differing(Counter("aa")) == 0.0
    assert _differing(Counter("ab")) == 1.0


# Seen failing with: value_warmup_updates=2 by default in the section.
def test_facts_of_no_settings_are_those_of_the_sections_defaults() -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(PPOKeys)}
    assert Facts.of_settings({}) == Facts.of_settings(defaults)
