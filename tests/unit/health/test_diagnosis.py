"""Every rule fires on its own illness, on no other and on no healthy run; and as a run goes on as after it."""

from __future__ import annotations

import dataclasses
import math
import random
import re
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.health import RULES, Doctor, Facts, diagnose, examined
from pipeline.health.diagnosis import OF_ROWS, OF_TRAINING
from tests.helpers.histories import ILL, UPDATES, Ill, bent, from_update, healthy, names, optimum
from tests.unit.reporting.given import REWARD

DOCS = Path(__file__).parents[3] / "docs" / "doctor.md"


@pytest.mark.thorough
@pytest.mark.parametrize(("batch", "noise"), [(64, 1.0), (8, 1.0), (512, 1.0), (64, 0.0), (16, 2.0)])
def test_healthy_runs_have_no_findings(batch: int, noise: float):
    for seed in range(12):
        assert names(healthy(UPDATES, seed, batch, noise)) == set()
        assert names(healthy(UPDATES, seed, batch, noise, gold=False)) == set()


def test_a_known_optimum_is_no_illness():
    """Mutations caught: vindicated() that is never true; a value model blamed although returns have converged."""
    for seed in range(10):
        assert names(optimum(seed=seed)) == set()


@pytest.mark.parametrize("updates", [0, 1, 2, 4, 5, 9, 10, 11])
def test_a_short_run_says_nothing(updates: int):
    assert names(healthy(updates)) == set()


@pytest.mark.parametrize("ill", ILL.values(), ids=ILL.keys())
def test_an_illness_and_no_other(ill: Ill):
    for seed in range(3):
        rows = bent(healthy(seed=seed, gold=ill.gold), ill.bends)
        found = diagnose(rows, ill.facts)
        assert ill.rules <= {f.rule for f in found} <= ill.rules | ill.may
        low, high = ill.since
        assert all(f.since is not None and low <= f.since <= high for f in found), [f.since for f in found]
        assert all(re.search(r"\d", f.what) or f.rule in ("not-finite", "never-ends") for f in found)


def test_every_rule_has_an_illness():
    fired = {rule for ill in ILL.values() for rule in ill.rules}
    assert fired == {rule.name for rule in OF_TRAINING}
    assert len({rule.name for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_finding_leads_to_its_section(rule: Any):
    page, _, anchor = rule.link.partition("#")
    assert page == "docs/doctor.md"
    assert f"\n### {anchor}\n" in DOCS.read_text(encoding="utf-8")


@pytest.mark.parametrize("ill", ["cut", "gold falls", "kl", "nan", "still"])
def test_told_once_and_as_later(ill: str):
    rows = bent(healthy(gold=ILL[ill].gold), ILL[ill].bends)
    doctor, told = Doctor(), []
    for row in rows:
        told += doctor.take(row)
    assert ILL[ill].rules <= {f.rule for f in told} <= ILL[ill].rules | ILL[ill].may
    assert len(told) == len({f.rule for f in told})
    again = [dataclasses.replace(f, until=None) for f in diagnose(rows)]
    assert sorted(told, key=lambda f: f.rule) == sorted(again, key=lambda f: f.rule)


@pytest.mark.parametrize("cut", [5, 20, 35, 50])
def test_a_run_that_is_continued_goes_on_where_it_was(cut: int):
    rows = bent(healthy(), ILL["cut"].bends)
    before = {f.rule for f in diagnose(rows[:cut])}
    continued = examined(rows[:cut])
    after = [f.rule for row in rows[cut:] for f in continued.take(row)]
    assert before.isdisjoint(after)
    assert before | set(after) == ILL["cut"].rules
    # What was found of the beginning is found of the whole.
    whole = {f.rule: f.what for f in diagnose(rows)}
    assert all(whole[f.rule] == f.what for f in diagnose(rows[:cut]))


def test_what_has_passed_says_so():
    rows = bent(healthy(), {"policy/clipfrac_avg": lambda u, old: 0.5 if 10 <= u < 20 else old})
    (found,) = diagnose(rows)
    # A median of five is ill until two of them are.
    assert (found.since, found.until) == (10, 21)
    (found,) = diagnose(rows[:20])
    assert found.until is None


def test_serious_findings_come_first():
    bends = {"policy/clipfrac_avg": from_update(10, 0.5), "val/advantages_var": from_update(40, 0.0)}
    assert [f.rule for f in diagnose(bent(healthy(), bends))] == ["advantages-vanish", "clipped-often"]


def test_whatever_is_logged_ends_no_run():
    rng = random.Random(0)
    columns = [*healthy(1)[0], "eval/check", "eval/scores", "eval/check_error", "eval/kl"]
    odd = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e308, -1e308, 5e-324, "text", None]
    for _ in range(60):
        doctor = Doctor(Facts(kl_target=1.0))
        for _ in range(25):
            row = {
                c: rng.choice(odd) if rng.random() < 0.3 else rng.uniform(-1, 1)
                for c in columns
                if rng.random() < 0.8
            }
            doctor.take(row)
        assert all(f.what for f in doctor.findings)


@pytest.mark.thorough
def test_a_long_run_is_not_slowed_down():
    doctor = Doctor()
    rows = healthy(2000)
    started = time.process_time()
    for row in rows:
        doctor.take(row)
    # 0.3 ms measured; an update of PPO takes a thousand times that. Mutation caught: all rows seen anew each time.
    assert (time.process_time() - started) / len(rows) < 2e-3


def test_which_rules_could_not_look():
    without_gold = [rule.name for rule in OF_ROWS if rule.needs] + ["over-optimisation", "gold-left-behind"]
    assert examined(healthy(gold=False)).blind == without_gold
    assert "over-optimisation" not in examined(healthy()).blind
    assert Doctor(Facts(reward=REWARD)).blind == [
        "leaked-rows",
        "duplicate-rows",
        "label-noise",
    ]
