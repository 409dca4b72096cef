"""The rules on a loop's rounds: each on its illness, made by hand, and silent on a healthy history."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from pipeline.health import Facts, diagnose
from pipeline.results.rounds import RoundFigures
from pipeline.statistics.intervals import Estimate
from tests.unit.health.test_data_rules import measured

HEALTHY = (
    RoundFigures(
        number=1,
        policy="demo-policy@v000001",
        labels=2000,
        gold_over_last=Estimate(0.6, 0.54, 0.66, 400),
        reward_new=Estimate(0.8, 0.74, 0.85, 200),
    ),
    RoundFigures(
        number=2,
        policy="demo-policy@v000002",
        labels=2000,
        gold_over_last=Estimate(0.12, 0.06, 0.18, 400),
        reward_last=Estimate(0.66, 0.64, 0.68, 2000),
        reward_new=Estimate(0.7, 0.63, 0.76, 200),
        reward_old=Estimate(0.8, 0.74, 0.85, 200),
    ),
)


def names(*rounds: RoundFigures) -> set[str]:
    return {finding.rule for finding in diagnose([], Facts(rounds=rounds))}


def second(**figures: Estimate | None) -> RoundFigures:
    return replace(HEALTHY[1], **figures)


def test_a_healthy_loop_has_no_findings() -> None:
    assert names(*HEALTHY) == names(HEALTHY[0]) == names() == set()
    # A first round below the base is the business of other rules; a fall within its interval is none.
    assert names(replace(HEALTHY[0], gold_over_last=Estimate(-0.2, -0.3, -0.1, 400))) == set()
    assert names(HEALTHY[0], second(gold_over_last=Estimate(-0.02, -0.08, 0.04, 400))) == set()
    # Equal scores on all prompts have no interval.
    assert names(HEALTHY[0], second(gold_over_last=Estimate(-0.1, float("nan"), float("nan"), 400))) == set()


# Mutation caught: the last round alone is looked at.
@pytest.mark.parametrize("later", [(), (replace(HEALTHY[1], number=3),)])
def test_a_round_that_unlearns_the_last(later: tuple[RoundFigures, ...]) -> None:
    fallen = second(gold_over_last=Estimate(-0.2, -0.3, -0.1, 400))
    assert names(HEALTHY[0], fallen, *later) == {"round-unlearns"}
    (finding,) = diagnose([], Facts(rounds=(HEALTHY[0], fallen, *later)))
    assert (
        "round 2 (demo-policy@v000002) changed the last policy's gold score by −0.20 [−0.30, −0.10]"
        in finding.what
    )


@pytest.mark.parametrize(
    ("new", "old", "ill"),
    [
        (Estimate(0.52, 0.45, 0.59, 200), Estimate(0.8, 0.74, 0.85, 200), True),
        (Estimate(0.3, 0.24, 0.37, 200), Estimate(0.8, 0.74, 0.85, 200), True),
        (Estimate(0.58, 0.51, 0.65, 200), Estimate(0.8, 0.74, 0.85, 200), False),  # worse there, and no guess
        (
            Estimate(0.52, 0.45, 0.59, 200),
            Estimate(0.53, 0.46, 0.6, 200),
            False,
        ),  # knows nothing: reward-at-chance
        (Estimate(0.5, 0.15, 0.85, 4), Estimate(0.8, 0.74, 0.85, 200), False),  # too few pairs to tell
        (Estimate(0.52, 0.45, 0.59, 200), None, False),
    ],
)
def test_a_reward_model_that_only_knows_old_policies(new: Estimate, old: Estimate | None, ill: bool) -> None:
    found = names(HEALTHY[0], second(reward_new=new, reward_old=old))
    assert found == ({"only-old-policies"} if ill else set())


def against_people(first: Estimate | None, last: Estimate | None, **figures: Estimate | None) -> set[str]:
    rounds = replace(HEALTHY[0], reward_new=first), second(reward_new=last, **figures)
    return names(*(replace(each, against_people=True) for each in rounds))


@pytest.mark.parametrize(
    ("first", "last", "ill"),
    [
        (Estimate(0.67, 0.6, 0.72, 224), Estimate(0.85, 0.79, 0.89, 224), True),
        (Estimate(0.97, 0.94, 0.99, 224), Estimate(0.99, 0.96, 1.0, 224), True),  # was told, and still is
        (Estimate(0.67, 0.6, 0.72, 224), Estimate(0.72, 0.66, 0.78, 224), False),  # within both errors
        (Estimate(0.67, 0.6, 0.72, 224), Estimate(0.55, 0.48, 0.61, 224), False),
        (Estimate(0.85, 0.79, 0.89, 224), Estimate(0.84, 0.78, 0.88, 224), False),
        (Estimate(0.67, 0.6, 0.72, 224), Estimate(0.9, math.nan, math.nan, 224), False),
        (Estimate(0.67, 0.6, 0.72, 224), None, False),
    ],
)
def test_a_discriminator_that_always_wins(first: Estimate, last: Estimate | None, ill: bool) -> None:
    assert against_people(first, last) == ({"discriminator-wins"} if ill else set())
    without = names(replace(HEALTHY[0], reward_new=first), second(reward_new=last, reward_old=None))
    assert without == set()  # of two samples each, higher is better


# Mutations caught: only-old-policies, and reward-at-chance, of every annotator.
def test_a_discriminator_that_guesses_is_what_the_policy_aims_at() -> None:
    first, last = Estimate(0.7, 0.64, 0.76, 200), Estimate(0.52, 0.45, 0.59, 200)
    assert against_people(first, last, reward_old=first) == set()
    rounds = tuple(replace(each, against_people=True) for each in (HEALTHY[0], second(reward_new=last)))
    guess = measured(0.52, 0.45, 0.59, clears=False)
    assert {f.rule for f in diagnose([], Facts(rounds=rounds, reward=guess))} == set()
    assert {f.rule for f in diagnose([], Facts(rounds=rounds[:1], reward=guess))} == {"reward-at-chance"}
