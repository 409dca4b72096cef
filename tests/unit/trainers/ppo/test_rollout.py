"""A rollout measures what training measures, row by row, and leaves the base as it was."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from pipeline.base.errors import ModelError
from pipeline.modeling.decoding import continuous_batching
from pipeline.scoring.scorer import Samples
from pipeline.trainers.ppo.rollout import Rollout, gathered
from tests.conftest import tiny_gpt2, with_lora
from tests.unit.trainers.ppo.helpers import (
    KINDS,
    MODELS,
    PROMPTS,
    classifier,
    collect,
    likes_seven,
    noise,
    trainer,
    with_values,
)


def same_rollout(one: Rollout, other: Rollout, atol: float = 1e-5) -> None:
    assert one.completions() == other.completions()
    assert torch.equal(one.ended, other.ended)
    for name in ("old_logprobs", "ref_logprobs", "old_values", "score"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), atol=atol, rtol=0, msg=name)


@MODELS
@KINDS
def test_a_row_alone_is_the_row_in_a_batch(make: Any, kind: str, tmp_path: Path):
    policy = with_lora(make())
    made = with_values(
        trainer(tmp_path, policy, value_model=kind, scorer=classifier(tiny_gpt2()), temperature=0.7)
    )
    together = collect(made, list(range(8)), noise())
    assert together.old_values.abs().sum() > 0
    for row in range(8):
        # Mutations caught: positions or states counted from a padded column; the score of the last column.
        same_rollout(together.take(torch.tensor([row])), collect(made, [row], noise()))


@MODELS
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_decoding_measures_what_training_measures(make: Any, temperature: float, tmp_path: Path):
    made = with_values(trainer(tmp_path, with_lora(make()), temperature=temperature))
    assert made.sampling.rescore is False
    decoded = collect(made, list(range(8)), noise())
    made.sampling = dataclasses.replace(made.sampling, rescore=True)
    # Mutations caught: log-probabilities at temperature 1; values of the state behind the token.
    same_rollout(decoded, collect(made, list(range(8)), noise()))
    assert (decoded.old_logprobs - decoded.ref_logprobs).abs().max() > 0.05, "the adapter does something"


@MODELS
def test_neither_dropping_rows_nor_the_cache_changes_anything(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model = make()
    with torch.no_grad():
        model.get_output_embeddings().weight[51] *= 3
    made = with_values(trainer(tmp_path, with_lora(model), prompts=PROMPTS * 4, response_length=12))
    found: list[Rollout] = []
    for keep in (0, 1):
        monkeypatch.setattr(continuous_batching, "KEEP_ROWS", keep)
        found.append(collect(made, list(range(32)), noise(32, 12)))
    assert len(found[0].lengths.unique()) > 4, "the test needs rows that end at different steps"
    # Mutation caught: batch_select_indices that leaves rows where they are.
    same_rollout(found[0], found[1])
    monkeypatch.setattr(continuous_batching, "roomy_cache", lambda config, room: DynamicCache(config=config))
    same_rollout(found[0], collect(made, list(range(32)), noise(32, 12)))


def test_the_base_is_the_base_whatever_happens(tmp_path: Path):
    """Bit for bit, with adapter and flags as they were, also where the scorer fails halfway."""
    calls: list[int] = []

    def fails_once(samples: Samples) -> Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("boom")
        return likes_seven(samples)

    base = tiny_gpt2()
    before = {n: p.detach().clone() for n, p in base.named_parameters()}
    policy = with_lora(base)
    made = trainer(tmp_path, policy, scorer=fails_once, value_model="adapter")
    flags = {n: p.requires_grad for n, p in policy.named_parameters()}
    made.step(0)
    with pytest.raises(RuntimeError, match="boom"):
        made.step(1)
    metrics = made.step(1)
    # Mutations caught: merged_adapter() that restores nothing; active_adapter() that leaves set_adapter's flags.
    assert metrics["val/ratio_first"] == pytest.approx(1.0, abs=1e-6)
    assert policy.active_adapter == "policy"
    assert {n: p.requires_grad for n, p in policy.named_parameters()} == flags
    weights = {n.replace(".base_layer", ""): p for n, p in policy.get_base_model().named_parameters()}
    assert all(torch.equal(weights[n], p) for n, p in before.items())
    with policy.disable_adapter():
        assert torch.equal(
            policy(torch.tensor([PROMPTS[0]])).logits, tiny_gpt2()(torch.tensor([PROMPTS[0]])).logits
        )


def test_gathered_rows_are_of_one_kind(tmp_path: Path):
    """Accelerate's padding makes integers of booleans, on the ranks whose completions are the shorter ones."""
    rollout = collect(trainer(tmp_path, with_lora(tiny_gpt2())), list(range(8)), noise())
    sent: list[torch.dtype] = []

    class Ranks:
        num_processes = 2

        def pad_across_processes(self, tensor: Tensor, dim: int) -> Tensor:
            assert dim == 1
            wider = tensor.new_zeros(len(tensor), tensor.shape[1] + 2, *tensor.shape[2:]) + 0
            wider[:, : tensor.shape[1]] = tensor
            sent.extend((tensor.dtype, wider.dtype))
            return wider

        def gather(self, tensor: Tensor) -> Tensor:
            return torch.cat([tensor, tensor])

    whole = gathered(rollout, cast("Any", Ranks()))
    # Mutation caught: booleans padded as they are, which the other rank, that pads nothing, sends as booleans.
    assert sent[::2] == sent[1::2]
    for name, value in vars(rollout).items():
        assert value is None or getattr(whole, name).dtype == value.dtype, name
    assert whole.completions() == rollout.completions() * 2


# Catches: a setting that is obeyed nowhere, and one that decodes otherwise without a word.
def test_cuda_graphs_are_refused_without_a_gpu(tmp_path: Path):
    assert trainer(tmp_path).sampling.cuda_graphs is False
    with pytest.raises(ModelError, match=r"ppo\.cuda_graph_decoding: needs a CUDA device"):
        trainer(tmp_path, cuda_graph_decoding=True)
