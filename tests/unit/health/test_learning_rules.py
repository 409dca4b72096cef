"""Where the rules of scores turn: a fall, and a spread of rounding only."""

from __future__ import annotations

from tests.helpers.histories import figures, names


def test_a_score_may_fall_a_little_or_be_traded_for_less_penalty():
    score, goal, spread = "objective__scores", "objective__rlhf_reward", "objective__scores_std"

    def run(fell: float, reward: float) -> set[str]:
        by = {score: lambda i: -fell * i / 30, goal: lambda i: -reward * i / 30, spread: lambda i: 1.0}
        return names(figures(**by))

    assert run(2.0, 2.0) == {"score-falls"}
    assert run(2.0, -1.0) == set()
    assert run(0.3, 0.3) == set()


def test_scores_that_differ_by_rounding_only():
    rows = figures(objective__scores=lambda i: 1000.0, objective__scores_std=lambda i: 1e-4)
    assert names(rows) == {"score-constant"}


# Mutations caught: RETURNS_LEFT, and the limits of what a value model has to explain.
def test_where_the_value_model_is_blamed():
    def run(explained: float, returns: float) -> set[str]:
        spread = lambda i: 1.0 if i <= 5 else returns  # noqa: E731
        return names(figures(29, **{"val/explained_variance": lambda i: explained, "val/returns_var": spread}))

    assert run(-0.11, 0.5) == {"value-not-learning"}
    assert run(-0.11, 0.49) == run(-0.1, 0.5) == set()
    for explained, found in ((0.019, {"value-not-learning"}), (0.02, set())):
        by = {"val/explained_variance": lambda i, e=explained: e, "val/returns_var": lambda i: 1.0}
        assert names(figures(30, **by)) == found
