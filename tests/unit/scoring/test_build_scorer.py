"""What scorers see, and several of them as one."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.base.errors import ConfigError, DataError
from pipeline.scoring.build_scorer import Ensemble, ScorerContext, build
from pipeline.scoring.reward_functions import FunctionScorer
from pipeline.scoring.scorer import Samples, Scorer
from tests.conftest import tiny_gpt2, tiny_tokenizer

# One that ended, one cut by length, an empty one and one that ended at once.
SAMPLES = Samples(
    [[5, 6], [7], [8, 51, 9], [1]],
    [[10, 11, 51], [12, 13], [], [51]],
    tiny_tokenizer(),
    ["w5 w6", "w7", None, "w1"],
)


def test_samples_as_text():
    assert len(SAMPLES) == 4
    # Mutation caught: the prompt cut at its own end-of-sequence token, as a completion is.
    assert SAMPLES.prompts == ["w5 w6", "w7", "w8 w9", "w1"]
    assert SAMPLES.completions == ["w10 w11", "w12 w13", "", ""]
    assert SAMPLES.texts == ["w5 w6 w10 w11", "w7 w12 w13", "w8 w9", "w1"]
    assert Samples(SAMPLES.prompt_ids, SAMPLES.completion_ids, SAMPLES.tokenizer).prompts == SAMPLES.prompts


def test_prompts_stay_as_they_were_given():
    chat = [{"role": "user", "content": "w5"}]
    samples = Samples([[5], [6]], [[7], [8]], tiny_tokenizer(), [chat, "  w6\n"])
    assert samples.as_given == [chat, "  w6\n"]
    assert samples.prompts == ["w5", "  w6\n"]
    assert samples.texts[1] == "  w6\n w8"


def test_a_completion_keeps_its_leading_space():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({"▁a": 0, "▁b": 1, "c": 2, "</s>": 3}, unk_token="c"))
    core.pre_tokenizer = pre_tokenizers.Metaspace()  # type: ignore[assignment]
    core.decoder = decoders.Metaspace()  # type: ignore[assignment]
    samples = Samples(
        [[0], [0]], [[1, 3], [2, 3]], PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>")
    )
    # As SentencePiece decodes. Mutation caught: prompt and completion decoded apart and joined, "ab".
    assert samples.completions == ["b", "c"]
    assert samples.texts == ["a b", "ac"]


# Several


def constant(*values: float) -> Scorer:
    return lambda samples: torch.tensor(values[: len(samples)])


MEMBERS = [constant(1.0, -2.0, 3.0, 0.0), constant(4.0, 0.5, -1.0, 0.0), constant(-2.0, 2.0, 2.0, 0.0)]
TABLE = np.array([[1.0, -2.0, 3.0, 0.0], [4.0, 0.5, -1.0, 0.0], [-2.0, 2.0, 2.0, 0.0]])


def test_combinations_by_hand():
    # Mutations caught: the mean over the number of members, the sample's standard deviation (correction 1), the
    # combination along the batch.
    for ensemble, expected in (
        (Ensemble(MEMBERS), TABLE.sum(0)),
        (Ensemble(MEMBERS, weights=[2, None, -0.5]), np.array([2, 1, -0.5]) @ TABLE),
        (Ensemble(MEMBERS, "mean"), TABLE.mean(0)),
        (Ensemble(MEMBERS, "mean", [2, None, 0.5]), np.average(TABLE, axis=0, weights=[2, 1, 0.5])),
        (Ensemble(MEMBERS, "min"), TABLE.min(0)),
        (Ensemble(MEMBERS, "mean_minus_std"), TABLE.mean(0) - TABLE.std(0)),
        (Ensemble(MEMBERS, "mean_minus_std", std_coef=0.3), TABLE.mean(0) - 0.3 * TABLE.std(0)),
    ):
        scores = ensemble(SAMPLES)
        assert scores.dtype == torch.float32
        np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(ensemble.all_scores(SAMPLES).numpy(), TABLE)
        assert ensemble.last_members is not None
        np.testing.assert_array_equal(ensemble.last_members.numpy(), TABLE)


def test_caution_never_raises_a_score():
    scores = torch.randn(5, 200, generator=torch.Generator().manual_seed(0))
    members = [constant() for _ in range(5)]
    mean = Ensemble(members, "mean").combined(scores)
    lowest = Ensemble(members, "min").combined(scores)
    assert (lowest <= mean).all()
    assert (Ensemble(members, "mean_minus_std").combined(scores) <= mean).all()
    torch.testing.assert_close(Ensemble(members, "mean_minus_std", std_coef=0.0).combined(scores), mean)


def test_an_ensemble_refuses_what_has_no_sense():
    with pytest.raises(ConfigError, match="min takes no weights"):
        Ensemble(MEMBERS, "min", weights=[1, 2, 3])


MODULE = """
def length(completions):
    return [len(c) for c in completions]
def one(completions):
    return [1.0 for _ in completions]
"""


def test_the_rewards_of_the_task() -> None:
    def rewards(prompts: list[str], completions: list[str]) -> list[float]:
        if "w1" in prompts:
            raise DataError("task x", "w1 is not a prompt.", "Make the prompts again.")
        return [float(len(text)) for text in completions]

    context = ScorerContext("c.yaml", torch.device("cpu"), lambda _: None, rewards=rewards)
    assert build("task", context)(SAMPLES.at(slice(0, 3))).tolist() == [7, 7, 0]
    assert build({"task": "own", "weight": -2}, context)(SAMPLES.at(slice(0, 3))).tolist() == [-14, -14, 0]
    # Catches: the task's own error wrapped into another, with advice on writing functions.
    with pytest.raises(DataError, match=r"^task x: w1 is not a prompt. Make the prompts again.$"):
        build("task", context)(SAMPLES)
    without = ScorerContext("c.yaml", torch.device("cpu"), lambda _: None)
    with pytest.raises(ConfigError, match=r"c\.yaml: ppo\.reward: task asks for the rewards of the task"):
        build("task", without)


def test_built_from_functions(tmp_path: Any, monkeypatch: Any):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "some_rewards", raising=False)
    (tmp_path / "some_rewards.py").write_text(MODULE)

    def make(sources: Any, **more: Any) -> Scorer:
        context = ScorerContext("c.yaml", "cpu", lambda text: None, tiny_gpt2(), tiny_tokenizer())
        return build(sources, context, **more)

    assert isinstance(make("some_rewards:length"), FunctionScorer)
    scorer = make(["some_rewards:length", {"function": "some_rewards:one", "weight": -2}])
    assert isinstance(scorer, Ensemble)
    assert scorer.names == ["some_rewards:length", "some_rewards:one"]
    assert scorer(SAMPLES).tolist() == [5.0, 5.0, -2.0, -2.0]
    assert make({"function": "some_rewards:length", "weight": 0.5})(SAMPLES).tolist() == [3.5, 3.5, 0, 0]
    assert make(["some_rewards:length", "some_rewards:one"], combine="min")(SAMPLES).tolist() == [1, 1, 0, 0]
    for sources, more, said in (
        (["some_rewards:length", "some_rewards:lenght"], {}, r"c\.yaml: ppo\.reward\[1\]: function .*Did you"),
        (None, {}, r"c\.yaml: ppo\.reward: there is no reward adapter\. Train one: make reward"),
        ("some_rewards:length", {"combine": "min"}, r"c\.yaml: ppo\.reward_combine: min compares scorers"),
        ("m:", {"key": "ppo.check"}, r"c\.yaml: ppo\.check: function"),
        ("some_rewards.length", {}, r"not a directory, version or Hub id\. A function is .* some_rewards:length"),
        ({"model": "./nowhere"}, {}, r'ppo\.reward: no model directory "\./nowhere"'),
    ):
        with pytest.raises(ConfigError, match=said):
            make(sources, **more)
