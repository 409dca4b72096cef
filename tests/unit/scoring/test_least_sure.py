"""Which items a reward model is least sure of, by hand arithmetic."""

import math

import pytest
import torch

from pipeline.scoring.build_scorer import Ensemble
from pipeline.scoring.least_sure import least_sure, unsureness


def entropy(p: float) -> float:
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_one_model_is_least_sure_of_the_closest_pair() -> None:
    scores = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]]])
    assert unsureness(scores).tolist() == pytest.approx([math.log(2), entropy(sigmoid(1)), entropy(sigmoid(3))])


def test_an_ensemble_that_disagrees_is_unsure_where_each_member_is_sure() -> None:
    # The mean of the probabilities is 1/2: averaging the members' entropies instead would find nothing to ask.
    scores = torch.tensor([[[9.0, 0.0]], [[0.0, 9.0]]])
    assert unsureness(scores).item() == pytest.approx(math.log(2))


def test_a_ranking_counts_every_two_completions() -> None:
    scores = torch.tensor([[[0.0, 1.0, 3.0]]])
    expected = sum(entropy(sigmoid(d)) for d in (1, 3, 2)) / 3
    assert unsureness(scores).item() == pytest.approx(expected)


def test_a_single_completion_is_unsure_near_the_usual_score() -> None:
    assert unsureness(torch.tensor([[[0.0], [2.0]]])).tolist() == pytest.approx([math.log(2), entropy(sigmoid(2))])


def test_completions_meet_their_own_prompt_and_ensembles_all_their_members() -> None:
    def by_length(samples: object) -> torch.Tensor:
        pairs = zip(samples.prompt_ids, samples.completion_ids, strict=True)  # type: ignore[attr-defined]
        return torch.tensor([float(len(p) * len(c)) for p, c in pairs])

    prompts, completions = [[1], [1, 1]], [[[1], [1, 1]], [[1], [1, 1, 1]]]
    expected = [entropy(sigmoid(1)), entropy(sigmoid(4))]
    assert least_sure(by_length, prompts, completions, None) == pytest.approx(expected)
    both = Ensemble([by_length, lambda s: -by_length(s)], "mean")
    assert least_sure(both, prompts, completions, None) == pytest.approx([math.log(2)] * 2)
