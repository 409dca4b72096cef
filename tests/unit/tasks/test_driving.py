"""Driving: time, fuel and safety by hand on an empty road, and that nothing pays but driving well."""

from __future__ import annotations

import pytest

pytest.importorskip("highway_env", reason="needs the extra `driving`")

from pipeline.tasks._highway import ACTIONS, state_text
from pipeline.tasks._plans import BEST_OF_EACH, FIRST_TEST_SEED
from pipeline.tasks.driving import Task

SLOWEST = 20 / 30


@pytest.fixture(scope="module")
def task() -> Task:
    return Task(train_seeds=12, test_seeds=6, corpus_size=30)


@pytest.fixture(scope="module")
def empty() -> Task:
    """A road without others."""
    return Task(vehicles=0, train_seeds=2, test_seeds=1)


def test_an_empty_road_by_hand(empty: Task) -> None:
    assert empty._states[0] in {
        "here: free. right: free. 2 right: free. Drive:",
        "left: free. here: free. right: free. Drive:",
        "2 left: free. left: free. here: free. Drive:",
    }
    # 25 m/s for 8 s are 200 m, .833 of 30 m/s. Against 147 N and .4 N s2/m2: 397 N, 79,400 J, of 9.5 MJ a litre
    # .00836 l, 4.18 l on 100 km, of which 10 cost .05.
    assert empty._outcome(0, (1,) * 8).score == pytest.approx(25 / 30 - 0.05 * 0.418, abs=1e-4)
    assert Task(vehicles=0, fuel_weight=0.0, train_seeds=1)._outcome(0, (1,) * 8).score == pytest.approx(25 / 30)


def test_the_state_is_the_next_in_each_lane(task: Task) -> None:
    task._simulation.first_state(3)
    env = task._simulation.env  # type: ignore[attr-defined]
    mine, others = env.vehicle, [v for v in env.road.vehicles if v is not env.vehicle]
    for lane, (car, gap) in zip((0, 0, 2, 2), zip(others, (62.4, 31.0, 90.0, 84.0), strict=True), strict=True):
        car.lane_index, car.speed = (*car.lane_index[:2], lane), 22.4
        car.position[0] = mine.position[0] + gap
    mine.lane_index = (*mine.lane_index[:2], 1)
    # The nearer of two; 84 m are in sight, and 85 to the next 5.
    assert state_text(env) == "left: 30 m at 22. here: free. right: 85 m at 22. Drive:"


def test_faster_is_worth_its_fuel_and_to_and_fro_is_not(empty: Task) -> None:
    keep, faster, slower = (list(ACTIONS).index(word) for word in ("keep", "faster", "slower"))
    scores = [empty._outcome(0, (action,) * 8).score for action in (slower, keep, faster)]
    assert scores == sorted(scores)
    assert empty._outcome(0, (faster, slower) * 4).score < scores[1]


def test_a_crash_is_worth_the_same_whenever_it_happens_and_less_than_any_drive(task: Task) -> None:
    # Exploits: crash at once; stand still, for which there is no action, so that the slowest drive stands for it.
    crashed = [o for o in task._known.values() if "crash" in o.events]
    for seed in range(8):
        crashed += [
            o for plan in ((3,) * 8, (1,) * 4 + (3,) * 4) if "crash" in (o := task._outcome(seed, plan)).events
        ]
    assert crashed
    assert {outcome.score for outcome in crashed} == {-1.0}
    driven = [o.score for o in task._known.values() if not o.events]
    assert min(driven) > SLOWEST - 0.1
    prompt = task._states[0]
    assert task.rewards([prompt] * 2, ["", " keep" * 9]) == [-1.0, -1.0], "silence is worth no more than a crash"


def test_an_episode_is_the_same_in_a_used_and_a_new_environment(task: Task) -> None:
    plans = [(3, 1, 2, 0, 1, 3, 4, 1), (1,) * 8]
    fresh = Task(train_seeds=12, test_seeds=6)
    for seed in (5, FIRST_TEST_SEED):
        assert [fresh._simulation.run(seed, plan) for plan in plans] == [
            task._outcome(seed, plan) for plan in plans
        ]
        assert fresh._simulation.first_state(seed) == task._states[seed]


def test_the_driver_with_rules_is_replayed(task: Task) -> None:
    prompts = task.prompts("test", None, 0)
    references = task.references(prompts)
    assert set(references) == {
        *(f"always {word}" for word in ACTIONS), BEST_OF_EACH, "random", "rules, looking at every second",
    }  # fmt: skip
    ruled = task.rewards(prompts, references["rules, looking at every second"])
    always_slower = task.rewards(prompts, references["always slower"])
    assert sum(ruled) > sum(always_slower)
    assert min(ruled) > -1.0


def test_gold_is_less_the_best_constant_action(task: Task) -> None:
    prompts = task.prompts("test", None, 0)
    assert task.gold_scores(prompts, [" slower" * 8] * len(prompts)) == [0.0] * len(prompts)
    assert sum(task.gold_scores(prompts, [" faster" * 8] * len(prompts))) < 0
