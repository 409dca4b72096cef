"""Models of votes: Dawid and Skene's annotators, Bradley and Terry's strengths of completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.typing import NDArray


EM_ITERATIONS = 100
PRIOR_PRECISION = 1.0
MOST_STEPS = 10_000

Key = tuple[str, int]
"""An item, and the number of a pair of its completions in a ranking."""
Answers = Mapping[Key, Sequence[tuple[str, str]]]


def dawid_skene(answers: Answers, *, sides: bool) -> dict[Key, dict[str, float]]:
    """Posterior of each choice, with one confusion matrix per annotator (Dawid and Skene 1979).

    Crowd-kit's EM, started from the vote shares: at most 100 iterations, until the evidence lower bound per vote
    rises by less than 1e-5. It is deterministic.

    Args:
        answers: (annotator, choice) of every question.
        sides: whether ``a`` and ``b`` are the sides of a comparison, so that their names carry no meaning. Every
            question is then added a second time with the sides swapped; otherwise a higher share of ``a`` among
            all comparisons would decide the even ones.
    """
    import pandas as pd
    from crowdkit.aggregation import DawidSkene

    keys = list(answers)
    swapped = {"a": "b", "b": "a"}
    votes = [(2 * n, who, choice) for n, key in enumerate(keys) for who, choice in answers[key]]
    if sides:
        votes += [(n + 1, who, swapped.get(choice, choice)) for n, who, choice in votes]
    frame = pd.DataFrame(votes, columns=["task", "worker", "label"])
    posteriors = DawidSkene(n_iter=EM_ITERATIONS).fit_predict_proba(frame).sort_index()
    labels = [str(label) for label in posteriors.columns]
    rows = posteriors.to_numpy()[:: 2 if sides else 1]
    return {key: dict(zip(labels, map(float, row), strict=True)) for key, row in zip(keys, rows, strict=True)}


def strengths(winners: Sequence[int], losers: Sequence[int], weights: Sequence[float], n: int) -> NDArray:
    """Strengths ``x`` with P(i beats j) = 1 / (1 + exp(x_j - x_i)) (Bradley and Terry 1952), centred on 0.

    The maximum a posteriori estimate under independent N(0, 1) priors: without a prior a completion that won every
    game has no finite strength. Completions that no games link do not influence each other.

    Newton's method with the Hessian's upper bound, which needs no step size because every step climbs (Böhning and
    Lindsay 1988); all tournaments at once. (choix does one at a time, 0.5 ms each; crowd-kit's Bradley-Terry has
    no prior and requires that every completion lost once.)

    Args:
        winners, losers: indices of each game's completions.
        weights: of each game; a draw is half a game won by each side.
        n: completions.
    Returns:
        (n,) strengths, to about 1e-8.
    """
    import numpy as np
    from scipy.sparse import csc_array, diags_array, eye_array
    from scipy.sparse.linalg import splu
    from scipy.special import expit

    games = np.arange(len(winners))
    ones = np.ones(len(winners))
    places = (np.concatenate([games, games]), np.concatenate([winners, losers]).astype(int))
    played = csc_array((np.concatenate([ones, -ones]), places), shape=(len(winners), n))
    weight = np.asarray(weights, dtype=float)
    bound = played.T @ diags_array(weight / 4) @ played + PRIOR_PRECISION * eye_array(n)
    solver = splu(csc_array(bound))
    x = np.zeros(n)
    for _ in range(MOST_STEPS):
        step = solver.solve(played.T @ (weight * expit(-(played @ x))) - PRIOR_PRECISION * x)
        x += step
        if np.abs(step).max(initial=0.0) < 1e-10:
            break
    return x
