"""Rules of what a run was made from and of what was kept: the reward model, rows that leak, label noise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.health import Facts, Noise, Overlap, diagnose, loop_rules, reader_rules
from pipeline.health.diagnosis import OF_ROWS
from pipeline.results.policy import JudgeTrust
from pipeline.statistics.bootstrap import wilson
from tests.helpers.histories import GOLD, always, bent, healthy, measured, names
from tests.unit.reporting.given import estimate, of_completions


def judge(contradicts: int, pairs: int) -> JudgeTrust:
    return JudgeTrust(pairs, pairs, {}, wilson(pairs / 2, pairs), wilson(contradicts, pairs))


FACTS: dict[str, tuple[Facts, set[str], str]] = {
    "nothing was kept": (Facts(kept=0), {"nothing-kept"}, "This is the starting policy: no update was kept."),
    "something was kept": (Facts(kept=1), set(), ""),
    "a good reward model": (Facts(reward=measured(0.8, 0.76, 0.84), training_rows=900), set(), ""),
    "chance": (Facts(reward=measured(0.53, 0.48, 0.58, clears=False)), {"reward-at-chance"}, "0.53 [0.48, 0.58]"),
    "chance, single completions": (
        Facts(reward=of_completions(estimate(0.5, 0.4, 0.59, 99))),
        {"reward-at-chance"},
        "On 99 held-out rows the reward model has an AUC of 0.50",
    ),
    "a baseline": (
        Facts(reward=measured(0.68, 0.64, 0.72, clears=False)),
        {"reward-below-baseline"},
        "words 0.70",
    ),
    "none held out": (
        Facts(reward=replace(measured(0.5, 0.0, 1.0, clears=False), accuracy=estimate(None, 0.0, 1.0, 0))),
        set(),
        "",
    ),
    "few held out": (Facts(reward=measured(0.8, 0.62, 0.9, n=20)), {"few-comparisons"}, "On 20 held-out"),
    "few to train on": (
        Facts(reward=measured(0.68, 0.64, 0.72, clears=False), training_rows=1999),
        {"few-comparisons", "reward-below-baseline"},
        "1,999 labels",
    ),
    "enough to train on": (
        Facts(reward=measured(0.68, 0.64, 0.72, clears=False), training_rows=2000),
        {"reward-below-baseline"},
        "",
    ),
    "leaks": (
        Facts(leaks=(Overlap("held-out prompts", 3, 200), Overlap("others", 2, 200))),
        {"leaked-rows"},
        "3 of 200 held-out prompts are among those trained on.",
    ),
    "duplicates": (
        Facts(duplicates=(Overlap("prompts of train", 6, 100),)),
        {"duplicate-rows"},
        "6 of 100 prompts",
    ),
    "few duplicates": (Facts(duplicates=(Overlap("prompts of train", 5, 100),), leaks=()), set(), ""),
    "noise": (Facts(noise=Noise(0.4, 0.31, 150, "votes")), {"label-noise"}, "About 40%"),
    "a judge of place": (
        Facts(judges={"small": judge(50, 60)}),
        {"judge-in-doubt"},
        "small: with the order swapped",
    ),
    "a steady judge": (Facts(judges={"large": judge(10, 60)}), set(), ""),
    "noise, perhaps": (Facts(noise=Noise(0.4, 0.29, 40, "votes")), set(), ""),
}


@pytest.mark.parametrize(("facts", "rules", "what"), FACTS.values(), ids=FACTS.keys())
def test_what_a_run_was_made_from(facts: Facts, rules: set[str], what: str):
    found = diagnose([], facts)
    assert {f.rule for f in found} == rules
    assert all(f.since is None and f.until is None for f in found)
    assert what in "; ".join(f.what for f in found)
    assert {f.rule for f in diagnose(healthy(gold=False), facts)} == rules


def test_every_rule_has_an_illness():
    elsewhere = {rule.name for rule in (*loop_rules.RULES, *reader_rules.RULES)}  # in tests of their own
    assert {rule for case in FACTS.values() for rule in case[1]} == {rule.name for rule in OF_ROWS} - elsewhere


def test_gold_that_rises_clears_a_reward_model_below_its_baseline():
    facts = FACTS["a baseline"][0]
    assert names(healthy(gold=True), facts) == set()
    assert names(bent(healthy(), {GOLD: always(0.2)}), facts) == {"reward-below-baseline", "gold-left-behind"}
