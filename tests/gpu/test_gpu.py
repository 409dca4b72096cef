"""What only a GPU shows: captured decoding equals the plain loop, memory comes back, PPO runs in both precisions.

Run as  python -m pytest -m gpu tests/gpu
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.modeling.decoding.cuda_graph_decoding import StaticDecoder
from pipeline.modeling.decoding.drawing import Completions, uniforms
from pipeline.modeling.decoding.generation import generate
from pipeline.modeling.roles import merged_adapter
from tests.conftest import tiny_gpt2, tiny_llama, tiny_tokenizer, with_lora

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

DEVICE = "cuda"
STEPS = 34
PROMPTS = [[5, 6, 7], [8], [1, 2, 3, 4, 9, 10], [11, 12], [13, 14], [15], [16, 17, 18, 19], [20]] * 2


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For every static decoder that a test used, whether it had a graph at its end."""
    seen: list[bool] = []
    leave = StaticDecoder.__exit__
    monkeypatch.setattr(
        StaticDecoder, "__exit__", lambda self, *e: (seen.append(self.graph is not None), leave(self, *e))[1]
    )
    return seen


@pytest.fixture
def accelerate_on_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what the other tests ask of Accelerate: to stay on the CPU."""
    from accelerate.state import AcceleratorState

    monkeypatch.setenv("ACCELERATE_USE_CPU", "false")
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def value_head(states: torch.Tensor) -> torch.Tensor:
    return states.float().sin().sum(-1)


def sampled(model: Any, **more: Any) -> Completions:
    settings: dict[str, Any] = {
        "max_new_tokens": STEPS,
        "eos_id": 51,
        "value_head": value_head,
        "cuda_graphs": True,
    }
    draws = uniforms(len(PROMPTS), STEPS, torch.Generator().manual_seed(3))
    return generate(model, PROMPTS, noise=draws, **settings | more)


def check_same(one: Completions, other: Completions, tolerance: float = 1e-4) -> None:
    assert one.rows() == other.rows()
    assert one.ended.tolist() == other.ended.tolist()
    torch.testing.assert_close(one.logprobs, other.logprobs, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(one.values, other.values, atol=10 * tolerance, rtol=tolerance)


@pytest.mark.parametrize("settings", [{}, {"batch_size": 5}, {"temperature": 0.0}, {"eos_id": None}], ids=str)
def test_captured_decoding_equals_the_plain_loop(base: Any, settings: dict[str, Any], graphs: list[bool]):
    model = base.to(DEVICE)
    check_same(sampled(model, **settings), sampled(model, **settings, cuda_graphs=False))
    assert graphs == [True], "the first call was to capture, the second not at all"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_replayed_step_is_the_step(base: Any, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    model = base.to(DEVICE, dtype)
    replayed = sampled(model)
    monkeypatch.setattr(StaticDecoder, "advance", StaticDecoder.step)
    # The same kernels on the same numbers: nothing may differ, in bf16 either.
    check_same(replayed, sampled(model), 0.0)


def test_weights_swapped_between_calls_are_seen(base: Any, graphs: list[bool]):
    model = with_lora(base).to(DEVICE)
    found: list[list[list[int]]] = []
    for scale in (1.0, -3.0):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.mul_(scale)
        with merged_adapter(model, "policy"):
            captured = sampled(model)
            check_same(captured, sampled(model, cuda_graphs=False))
        found.append(captured.rows())
    assert found[0] != found[1]
    assert graphs == [True, True]


def test_a_step_that_waits_for_the_gpu_is_not_captured(graphs: list[bool]):
    model = tiny_gpt2().to(DEVICE)

    def waiting(states: torch.Tensor) -> torch.Tensor:
        return value_head(states) + float(states[0, 0]) * 0

    check_same(sampled(model, value_head=waiting), sampled(model, cuda_graphs=False))
    assert graphs == [False]


def test_memory_comes_back():
    model = tiny_gpt2(vocab=5000).to(DEVICE)

    def held() -> tuple[int, int]:
        gc.collect()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        return torch.cuda.memory_allocated(), torch.cuda.memory_reserved()

    sampled(model)  # what the libraries keep for good
    before = held()
    for _ in range(3):
        sampled(model)
    allocated, reserved = held()
    # Meant to catch a graph that outlives its call, and a stream, so a cuBLAS workspace, for every decoder.
    assert allocated == before[0]
    assert reserved <= before[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama])
@pytest.mark.usefixtures("accelerate_on_gpu")
def test_an_update_of_ppo(make: Any, dtype: torch.dtype, tmp_path: Path, graphs: list[bool]):
    from pipeline.scoring.scorer import Samples
    from pipeline.trainers.ppo.section import PPOSection
    from pipeline.trainers.ppo.trainer import PPOTrainer

    def likes_seven(samples: Samples) -> torch.Tensor:
        return torch.tensor([sum(t == 7 for t in c) / max(len(c), 1) for c in samples.completion_ids])

    section = PPOSection(
        output_dir=str(tmp_path),
        report_to="none",
        bf16=dtype == torch.bfloat16,
        gradient_checkpointing=False,
        save_strategy="no",
        disable_tqdm=True,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=4,
        num_ppo_epochs=2,
        total_episodes=32,
        response_length=12,
        learning_rate=1e-3,
        cuda_graph_decoding=True,
    )
    policy = with_lora(make().to(dtype), noise=0.0)
    trainer: Any = PPOTrainer(section, tiny_tokenizer(), policy, None, likes_seven, PROMPTS)
    assert trainer.accelerator.device.type == DEVICE
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad}
    trainer.train()
    rows = [row for row in trainer.state.log_history if "val/ratio_first" in row]
    assert len(rows) == 2
    for row in rows:
        assert row["val/ratio_first"] == pytest.approx(1.0, abs=1e-4 if dtype == torch.float32 else 2e-2)
        assert all(v == v for v in row.values() if isinstance(v, float)), "no NaN"
    after = dict(trainer.model.named_parameters())
    assert any(not torch.equal(p, after[n]) for n, p in before.items())
    assert all(p.device.type == DEVICE for p in after.values())
    assert graphs == [True, True], "one rollout per update, each captured"
