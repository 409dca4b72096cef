"""Rules that need a gold score or a check: over-optimisation, gold left behind, what a rising gold excuses."""

from __future__ import annotations

from pipeline.health import diagnose
from pipeline.health.findings import Facts
from tests.helpers.histories import GOLD, bent, drifting, evaluated, falling, falling_gold, healthy, names


def test_gold_that_rises_excuses_a_changed_form():
    """A changed length, entropy and spread are what the task asks for, until gold falls."""
    bends = {
        "length/mean": drifting(20, 48.0),
        "policy/entropy_avg": drifting(10, 0.01),
        "objective/scores_std": drifting(10, 0.001),
    }
    drifted = {"length-drift", "entropy-collapse", "score-saturation"}
    assert names(bent(healthy(gold=True), bends)) == set()
    assert names(bent(healthy(gold=False), bends)) == drifted
    # Noise is no rise. Mutation caught: any difference is.
    wobbly = {GOLD: lambda u, _: (0.28 if u <= 5 else 0.33) + 0.06 * (-1) ** u, "length/mean": drifting(20, 48.0)}
    assert names(bent(healthy(), wobbly)) == {"length-drift"}
    # In a short run it may be a rise all the same: the evaluation has more completions.
    assert names(bent(healthy(), wobbly), Facts(gold_gained=True)) == set()
    # Mutation caught: an excuse that only compares with the start, which a gold that fell is still above.
    hacked = bent(
        healthy(120), {GOLD: lambda u, old: old - 0.006 * max(u - 40, 0), "length/mean": drifting(60, 48.0)}
    )
    fallen = {"over-optimisation", "gold-left-behind", "length-drift"}
    assert names(hacked) == fallen
    # Mutation caught: the evaluation excuses a run whose gold has fallen; what it judges is from before that.
    assert names(hacked, Facts(gold_gained=True)) == fallen


def test_a_check_excuses_where_there_is_no_gold():
    longer = bent(healthy(gold=False), {"length/mean": drifting(20, 48.0)})
    assert names(evaluated(longer, lambda u: min(u / 32, 1.0))) == set()
    # Mutation caught: a check that was better before.
    for check in (lambda u: 0.5, lambda u: 1.0 - u / 99, lambda u: u / 32 if u <= 32 else 0.6):
        assert "length-drift" in names(evaluated(longer, check))


def test_a_check_that_falls_while_the_score_rises():
    def rises_then_falls(update: int) -> float:
        return update / 32 if update <= 32 else 1 - (update - 32) / 40

    rows = healthy(gold=False)
    found = diagnose(evaluated(rows, rises_then_falls))
    assert [f.rule for f in found] == ["over-optimisation"]
    assert found[0].since == 32
    assert "from 1 (update 32, KL 3.2) to 0.4" in found[0].what
    # The same fall within the error of so few prompts. Mutation caught: the error of one evaluation only.
    assert names(evaluated(rows, rises_then_falls, 0.15)) == set()
    assert names(evaluated(rows, rises_then_falls, None)) == set()
    assert names(evaluated(rows, lambda u: min(u / 32, 1.0))) == set()
    # What falls with the score is not hacking.
    falling_too = [
        r | {"eval/scores": -r["eval/scores"]} if "eval/scores" in r else r
        for r in evaluated(rows, rises_then_falls)
    ]
    assert names(falling_too) == set()
    # A single bad evaluation is none.
    assert names(evaluated(rows, lambda u: 0.2 if u == 48 else min(u / 32, 1.0))) == set()


def test_what_falls_with_the_score_is_not_hacking():
    down = {GOLD: falling_gold, "objective/scores": falling(30), "objective/rlhf_reward": falling(30)}
    # Mutation caught: gold looked at without the score.
    assert "over-optimisation" not in names(bent(healthy(), down))


def test_a_small_part_of_what_was_gained_may_be_lost():
    """With hardly any noise, so that every change is sure."""
    for lost, found in ((0.1, set()), (0.3, {"over-optimisation"})):
        found = found | {"gold-left-behind"}
        rows = bent(healthy(), {GOLD: lambda u, _, lost=lost: min(u, 30) / 30 - lost * max(u - 30, 0) / 30})
        assert names(rows) == found


def test_gold_that_is_left_behind():
    """A score that goes on for a third of the run, with a gold score that comes along by so much."""
    for share, found in ((1.0, set()), (0.5, set()), (0.0, {"gold-left-behind"})):

        def comes_along(update: int, old: float, share: float = share) -> float:
            return min(update, 30) / 30 + share * max(update - 30, 0) / 30 + 0.01 * (-1) ** update

        rows = bent(healthy(90), {"objective/scores": lambda u, _: u / 30 + 0.01 * (-1) ** u, GOLD: comes_along})
        assert names(rows) == found
    # A plateau of both is none; neither is a gold score that scatters so much that nobody can tell.
    noisy = bent(healthy(90), {GOLD: lambda u, _: min(u, 30) / 30 + 0.5 * (-1) ** u})
    assert names(noisy) == names(healthy(90)) == set()


# Mutation caught: any rise of the score, however small against the spread of its completions.
def test_a_score_that_hardly_rose_leaves_no_gold_behind():
    def run(rise: float) -> set[str]:
        bends = {
            "objective/scores": lambda u, _: rise * u / 90 + 0.001 * (-1) ** u,
            GOLD: lambda u, _: 0.3 + u % 2 / 50,
        }
        return names(bent(healthy(90), bends | {"objective/scores_std": lambda u, _: 1.0}))

    assert run(0.5) == set()
    assert run(2.0) == {"gold-left-behind"}


def test_gold_on_a_plateau_is_seldom_called_a_fall():
    """Noise of a third of the rise, which is more than 64 completions have."""
    alarms = sum("over-optimisation" in names(healthy(100, seed, batch=4)) for seed in range(12))
    assert alarms == 0
