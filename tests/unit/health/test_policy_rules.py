"""Where the rules of the policy turn: KL, endings, lengths, warm-ups."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from pipeline.health import Facts
from tests.helpers.histories import STILL, always, bent, figures, healthy, names


def test_completions_that_are_to_be_cut():
    rows = bent(healthy(), {"eos_rate": always(0.0)})
    assert names(rows, Facts.of_settings({"stop_token": None})) == set()
    assert names(rows, Facts.of_settings({"stop_token": None, "stop_token_id": 7})) == {"never-ends"}
    assert names(rows, Facts.of_settings({})) == {"never-ends"}


def test_kl_noise_at_the_start_is_not_negative_kl():
    """Mutation caught: any mean below 0, as TRL warned of (huggingface/trl#235)."""
    rng = random.Random(1)
    for _ in range(50):
        rows = [
            {
                "update": i,
                "episode": 8 * i,
                "objective/kl": rng.gauss(0.02, math.sqrt(0.04 / 8)),
                "objective/kl_k3": 0.02,
            }
            for i in range(1, 30)
        ]
        assert min(r["objective/kl"] for r in rows) < 0
        assert names(rows) == set()


def test_what_tells_chance_from_a_negative_kl():
    k1, k3 = "objective__kl", "objective__kl_k3"
    # By k3, -0.01 is a seventeenth of what chance does to 8 completions, however little it varies.
    assert names(figures(batch=8, **{k1: lambda i: -0.01, k3: lambda i: 0.02})) == set()
    assert names(figures(batch=80_000, **{k1: lambda i: -0.01, k3: lambda i: 0.02})) == {"negative-kl"}
    # k3 may be small by chance too; k1 itself says how it scatters.
    wild = {k1: lambda i: -0.02 + 0.1 * (-1) ** i, k3: lambda i: 2e-3}
    assert names(figures(**wild)) == set()


def test_kl_in_all_and_per_token():
    kl, per_token = "objective__kl", "objective__kl_per_token"
    assert names(figures(**{kl: lambda i: 40.0, per_token: lambda i: 0.1})) == set()
    assert names(figures(**{kl: lambda i: 3.0, per_token: lambda i: 1.0})) == set()
    assert names(figures(**{kl: lambda i: 40.0, per_token: lambda i: 1.0})) == {"kl-runs-away"}
    over = figures(**{kl: lambda i: 14.0 - 0.1 * i, per_token: lambda i: 0.3})
    assert names(over, Facts(kl_target=4.0)) == set()
    assert names(over[::-1], Facts(kl_target=4.0)) == {"kl-runs-away"}


def test_shares_and_lengths_that_hardly_matter():
    assert names(figures(length__mean=lambda i: 3.0 if i < 15 else 5.0)) == set()
    assert names(figures(eos_rate=lambda i: 0.08 if i < 15 else 0.0, batch=4096)) == set()
    # One of four did not end, three times in five. Mutation caught: no error for a share that was always 1.
    assert names(figures(eos_rate=lambda i: 1.0 if i < 15 else 0.75, batch=4)) == set()
    assert names(figures(eos_rate=lambda i: 1.0 if i < 15 else 0.75, batch=64)) == {"eos-falling"}


def test_warm_ups_are_waited_for():
    rising = bent(healthy(), {**STILL, "lr": lambda u, _: 1e-6 * u})
    assert "policy-stands-still" not in names(rising)
    still_for_20 = bent(healthy(), {k: lambda u, old: 1e-7 if u <= 20 else old for k in STILL})
    assert "policy-stands-still" in names(still_for_20)
    assert "policy-stands-still" not in names(still_for_20, Facts(value_warmup=20))


# Rule, metric, at first, and from update 16 on: just within its limit, and just past it.
TURNS = (
    ("ratio-not-1", "val/ratio_first", 1.0, 1.02, 1.0201),
    ("ratio-not-1", "val/ratio_first", 1.0, 0.98, 0.9799),
    ("negative-k3", "objective/kl_k3", 0.5, -1e-6, -1.1e-6),
    ("entropy-collapse", "policy/entropy_avg", 1.0, 0.1, 0.099),
    ("entropy-collapse", "policy/entropy_avg", 0.4, 0.0801, 0.079),
    ("repetition", "text/repetition", 0.02, 0.199, 0.2),
    ("repetition", "text/repetition", 0.15, 0.249, 0.251),
    ("length-drift", "length/mean", 20.0, 29.9, 30.0),
    ("length-drift", "length/mean", 4.0, 6.9, 7.0),
    ("eos-falling", "eos_rate", 0.9, 0.71, 0.69),
    ("clipped-often", "policy/clipfrac_avg", 0.1, 0.3, 0.301),
    ("score-saturation", "objective/scores_std", 1.0, 0.051, 0.05),
    ("advantages-vanish", "val/advantages_var", 0.4, 1.01e-6, 1e-6),
)


# Mutations caught: REPEATED .2 -> .3 and every other limit of one metric, moved by a hundredth.
@pytest.mark.parametrize(("rule", "metric", "first", "within", "past"), TURNS)
def test_where_a_rule_turns(rule: str, metric: str, first: float, within: float, past: float):
    for value, found in ((within, set[str]()), (past, {rule})):
        assert names(figures(**{metric: lambda i, value=value: first if i <= 15 else value})) == found


# Mutations caught: KL_PER_TOKEN .5 -> .9, KL_IN_ALL, KL_TIMES_TARGET.
def test_where_kl_runs_away():
    def run(kl: Callable[[int], float], per_token: float, **facts: float) -> set[str]:
        by = {"objective/kl": kl, "objective/kl_per_token": lambda i: per_token}
        return names(figures(**by), Facts(**facts))

    assert run(lambda i: 40.0, 0.5) == run(lambda i: 10.0, 0.51) == set()
    assert run(lambda i: 40.0, 0.51) == run(lambda i: 10.1, 0.51) == {"kl-runs-away"}
    assert run(lambda i: 7.99, 0.3, kl_target=4.0) == set()
    assert run(lambda i: 8.0, 0.3, kl_target=4.0) == {"kl-runs-away"}
