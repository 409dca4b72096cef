"""bf16 where it is asked for or where a GPU has it, and how far its log-probabilities are from fp32's."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from pipeline.modeling import precision
from pipeline.modeling.decoding.drawing import uniforms
from pipeline.modeling.decoding.generation import generate
from pipeline.modeling.precision import base_dtype, cast_base_to_bf16, note_slow_bf16, precision_name, slow_bf16
from pipeline.modeling.roles import merged_adapter
from pipeline.modeling.states import sequence_logprobs
from tests.conftest import tiny_gpt2, tiny_llama, with_lora

PROMPTS = [[5, 6, 7], [8], [1, 2, 3, 4, 9, 10], [11, 12]]


@pytest.mark.parametrize(("has_it", "by_default"), [(True, "bf16"), (False, "fp32")])
def test_null_is_bf16_on_a_gpu_that_has_it(has_it: bool, by_default: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: has_it)
    assert precision_name(base_dtype(None, "cuda:0")) == by_default
    # Mutation caught: the question put to CUDA for a CPU as well.
    assert precision_name(base_dtype(None, "cpu")) == "fp32"
    assert precision_name(base_dtype(False, "cuda")) == "fp32"
    assert precision_name(base_dtype(True, "cpu")) == "bf16"


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama])
def test_bf16_samples_and_scores_nearly_what_fp32_does(make: Callable[[], Any]):
    model = with_lora(make())
    half = copy.deepcopy(model)
    cast_base_to_bf16(half, adapted=True)
    noise = uniforms(4, 12, torch.Generator().manual_seed(0))
    with merged_adapter(half, "policy"):
        sampled = generate(half, PROMPTS, max_new_tokens=12, eos_id=51, noise=noise)
    rows = sampled.rows()
    exact, near = (
        torch.tensor([p for row in sequence_logprobs(m, PROMPTS, rows, "policy", 1.0) for p in row])
        for m in (model, half)
    )
    own = torch.cat([row[: len(ids)] for row, ids in zip(sampled.logprobs, rows, strict=True)])
    without = torch.tensor([p for row in sequence_logprobs(model, PROMPTS, rows, None, 1.0) for p in row])
    # Mutation caught: LoRA left out in bf16.
    assert (without - exact).abs().mean() > 0.1
    for measured in (near, own):
        assert 0 < (measured - exact).abs().mean() < 0.03


@pytest.mark.parametrize(("fp32", "bf16", "times"), [(1.0, 1.9, "1.9"), (0.002, 0.0022, "1.1"), (0.4, 1.2, "3.0")])
def test_a_slower_bf16_is_said_with_its_ratio(fp32: float, bf16: float, times: str):
    # Mutation caught: the ratio turned round.
    assert f" {times} times as long as fp32" in str(slow_bf16(fp32, bf16))


@pytest.mark.parametrize(("fp32", "bf16"), [(1.0, 0.5), (1.0, 1.0), (0.02, 0.0215)])
def test_a_bf16_as_fast_as_fp32_is_not_spoken_of(fp32: float, bf16: float):
    # Mutation caught: noise of a tenth called slower.
    assert slow_bf16(fp32, bf16) is None


def test_only_a_cpu_is_probed_and_by_the_models_width(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    widths: list[int] = []

    def twice_as_long(width: int) -> dict[torch.dtype, float]:
        widths.append(width)
        return {torch.float32: 1.0, torch.bfloat16: 2.0}

    monkeypatch.setattr(precision, "product_seconds", twice_as_long)
    model = tiny_gpt2()
    note_slow_bf16("reward", model, "cuda:0")
    assert widths == []
    assert capsys.readouterr().out == ""
    note_slow_bf16("reward", model, torch.device("cpu"))
    assert widths == [model.config.n_embd]
    assert capsys.readouterr().out.startswith("[reward] bf16 takes 2.0 times as long as fp32 here")


def test_the_probe_draws_no_random_number():
    before = torch.random.get_rng_state()
    seconds = precision.product_seconds(16)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert set(seconds) == {torch.float32, torch.bfloat16}
    assert all(0 < s < float("inf") for s in seconds.values())
