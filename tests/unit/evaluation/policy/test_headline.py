"""The verdict: a collapse first, and nothing claimed that is not known."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.evaluation.policy.headline import headline, verdict
from tests.unit.reporting.given import both, favourite, newer_json, stats, varied_json


# Catches: a collapse told after the rise, or in a verdict that is still called good.
def test_collapsed_comes_before_rose() -> None:
    mood, sentences = verdict(stats(diversity=varied_json()))
    assert mood == "bad"
    assert sentences[0] == (
        "Collapsed: 4.5 effective closing sentences, base 83 (0.05 [0.05, 0.06]); "
        '52 % end in "My friends <loved> it." (base: 1 %).'
    )
    assert sentences[1].startswith("Gold score rose from 0.11 to 0.57")
    assert len(sentences) == 2


def test_diversity_is_in_the_first_lines_of_a_healthy_run() -> None:
    mood, sentences = verdict(stats(diversity=varied_json(collapsed=False)))
    assert mood == "good"
    assert sentences[0].startswith("Gold score rose")
    assert sentences[1] == (
        "Diversity: 79 effective closing sentences, base 83 (0.95 [0.86, 1.05]); "
        '5 % end in "It works." (base: 4 %).'
    )
    assert len(verdict(stats())[1]) == 1  # an evaluation of before


# Seen failing with: one text of sixty quoted as "2 % end in", as if it were a habit.
def test_a_closing_that_is_there_once_is_not_quoted() -> None:
    once = varied_json(collapsed=False)
    once["closing"]["policy"]["count"] = 1
    assert verdict(stats(diversity=once))[1][1].endswith("(0.95 [0.86, 1.05]); none is there twice.")


def test_a_collapse_of_what_completions_begin_with() -> None:
    fallen = varied_json()
    fallen["collapse"] |= {"place": "begin"}
    fallen["opening"]["policy"]["text"] = ""
    assert "; 52 % are empty (base" in headline(stats(diversity=fallen))[1]


# Catches: a verdict on closing sentences, of which there are more than before, where the forms have collapsed.
def test_a_collapse_of_patterns() -> None:
    forms = {"base": favourite("…", 0.21, 0.44), "policy": favourite("the … was …", 0.44, 0.05)}
    fallen = varied_json(collapsed=False, patterns=both(48, 13), pattern=forms)
    fallen["collapse"] = {"place": "pattern", "text": "the … was …", "share": 0.44, "share_before": 0.21}
    fallen["collapse"] |= {"before": 48.0, "now": 13.0}
    mood, sentences = verdict(stats(diversity=fallen))
    assert mood == "bad"
    assert sentences[0] == (
        "Collapsed: 13 effective patterns of sentences, base 48 (0.27 [0.24, 0.30]); "
        '44 % of all sentences are "the … was …" (base: 5 %).'
    )


# Catches: a proxy's rise that reads as success where nothing knows the truth.
@pytest.mark.parametrize("judges", [{}, {"other": newer_json()["judges"]["classifier"]}])
def test_a_task_without_truth_says_so_first_and_offers_a_judge(judges: dict[str, Any]) -> None:
    mood, text = headline(stats(gold_score=None, judges=judges))
    assert mood == "unknown"
    assert text.startswith("Not known whether it worked: this task has no gold score.")
    assert "no evidence" in text
    assert ("other prefers the policy on 0.70 [0.60, 0.80]" if judges else "evaluate.judges") in text
