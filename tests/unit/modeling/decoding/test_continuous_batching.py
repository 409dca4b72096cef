"""The decode loop: a completion does not depend on which rows stand beside it, nor on what its row held before."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipeline.modeling.decoding import cache, continuous_batching
from pipeline.modeling.decoding.drawing import uniforms
from pipeline.modeling.decoding.generation import generate
from pipeline.modeling.states import hidden_states
from tests.conftest import tiny_gpt2, tiny_llama

PROMPTS = [[5, 6, 7], [8], [1, 2, 3, 4, 9, 10], [11, 12], [7, 7, 7, 7]]


def noise(rows: int, steps: int) -> torch.Tensor:
    return uniforms(rows, steps, torch.Generator().manual_seed(3))


def tiny_eager_gpt2() -> Any:
    model = tiny_gpt2()
    model.config._attn_implementation = "eager"
    return model


def tiny_qwen(windows: int) -> Any:
    """Two layers, of which the upper ``windows`` see four tokens back."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=53, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.2, use_sliding_window=True,
        sliding_window=4, max_window_layers=2 - windows,
    )  # fmt: skip
    return Qwen2ForCausalLM(config).eval()


MODELS = {
    "gpt2": tiny_gpt2,
    "gpt2, eager": tiny_eager_gpt2,
    "llama": tiny_llama,
    "windows": lambda: tiny_qwen(2),
    "some windows": lambda: tiny_qwen(1),
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", MODELS)
def test_a_completion_is_the_same_alone_and_after_others_in_its_row(name: str):
    model, prompts, steps = MODELS[name](), PROMPTS * 4, 30
    draws = noise(len(prompts), steps)
    settings: dict[str, Any] = {"max_new_tokens": steps, "eos_id": 51}
    alone = [generate(model, [p], noise=draws[i : i + 1], **settings) for i, p in enumerate(prompts)]
    together = generate(model, prompts, noise=draws, batch_size=3, **settings)
    # Mutations caught: a row's earlier tokens left visible; its position not begun anew; columns dropped that it
    # needs; a cache with windows treated as one without (an error); a new batch begun in it before the last ended.
    assert together.rows() == [row for one in alone for row in one.rows()]
    assert together.ended.tolist() == [bool(one.ended) for one in alone]
    assert len(set(together.lengths.tolist())) > 5, "rows have to end at different steps"
    for i, one in enumerate(alone):
        torch.testing.assert_close(together.logprobs[i], one.logprobs[0], atol=1e-5, rtol=1e-5)


def test_columns_are_used_again(monkeypatch: pytest.MonkeyPatch):
    dropped: list[int] = []
    drop = cache.RoomyLayer.drop_columns
    monkeypatch.setattr(cache.RoomyLayer, "drop_columns", lambda self, n: (dropped.append(n), drop(self, n)))
    generate(tiny_gpt2(), PROMPTS * 4, max_new_tokens=30, eos_id=51, noise=noise(20, 30), batch_size=3)
    assert dropped
    assert min(dropped) > 0
    dropped.clear()
    generate(tiny_gpt2(), PROMPTS, max_new_tokens=30, eos_id=51, noise=noise(5, 30), batch_size=5)
    assert not dropped, "one batch needs no more columns than its longest prompt and completion"


def forwards(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the ids that the model's body will read."""
    shapes: list[tuple[int, ...]] = []
    forward = model.base_model.forward

    def counted(*args: Any, **kwargs: Any) -> Any:
        shapes.append(tuple(kwargs["input_ids"].shape))
        return forward(*args, **kwargs)

    monkeypatch.setattr(model.base_model, "forward", counted)
    return shapes


def test_a_prompt_is_read_once_however_many_completions_it_gets(monkeypatch: pytest.MonkeyPatch):
    model, prompts, draws = tiny_gpt2(), [[5, 6, 7], [8, 9]] * 6, noise(12, 8)
    single = [
        generate(model, [p], max_new_tokens=8, eos_id=51, noise=draws[i : i + 1]) for i, p in enumerate(prompts)
    ]
    shapes = forwards(model, monkeypatch)
    sampled = generate(model, prompts, max_new_tokens=8, eos_id=51, noise=draws, batch_size=12)
    assert [s for s in shapes if s[1] > 1] == [(2, 3)]
    assert sampled.rows() == [row for one in single for row in one.rows()]
    assert len({tuple(row) for row in sampled.rows()}) > 6, "each has its own randomness"


def test_no_more_prompts_are_read_at_a_time_than_fit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(continuous_batching, "PREFILL_TOKENS", 8)
    model, prompts = tiny_gpt2(), [[i, 6, 7] for i in range(7)] + [[3] * 11]
    draws = noise(8, 6)
    shapes = forwards(model, monkeypatch)
    sampled = generate(model, prompts, max_new_tokens=6, eos_id=None, noise=draws, batch_size=8)
    assert [s for s in shapes if s[1] > 1] == [(1, 11), (2, 3), (2, 3), (2, 3), (1, 3)]
    alone = [
        generate(model, [p], max_new_tokens=6, eos_id=None, noise=draws[i : i + 1]) for i, p in enumerate(prompts)
    ]
    assert sampled.rows() == [row for one in alone for row in one.rows()]


def test_rows_are_busy_while_prompts_wait(monkeypatch: pytest.MonkeyPatch):
    model, batch, steps = tiny_gpt2(), 4, 30
    prompts = [[i, 6, 7] for i in range(40)]
    shapes = forwards(model, monkeypatch)
    sampled = generate(model, prompts, max_new_tokens=steps, eos_id=51, noise=noise(40, steps), batch_size=batch)
    # Each completion's first token is drawn when its prompt is read. At the end, rows have no successor.
    busy = int(sampled.lengths.sum()) - len(prompts)
    decoded = sum(rows for rows, width in shapes if width == 1)
    assert busy <= decoded <= busy + batch * steps
    assert decoded < 0.75 * batch * sum(sampled.lengths.view(-1, batch).amax(1).tolist()), "batch after batch"


def test_progress_counts_every_completion_once():
    done: list[int] = []
    generate(
        tiny_gpt2(),
        PROMPTS * 4,
        max_new_tokens=9,
        eos_id=51,
        noise=noise(20, 9),
        batch_size=3,
        progress=done.append,
    )
    assert sum(done) == 20


def test_values_are_of_the_states_that_predict_each_token():
    model, steps = tiny_gpt2(), 12
    weight = torch.randn(32, generator=torch.Generator().manual_seed(1))
    sampled = generate(
        model, PROMPTS * 2, max_new_tokens=steps, eos_id=51, noise=noise(10, steps), batch_size=3,
        value_head=lambda states: states @ weight,
    )  # fmt: skip
    for prompt, row, values in zip(PROMPTS * 2, sampled.rows(), sampled.values, strict=True):
        states = hidden_states(model, torch.tensor([prompt + row]))[0, len(prompt) - 1 : -1]
        torch.testing.assert_close(values[: len(row)], states @ weight, atol=1e-4, rtol=1e-4)
        assert not values[len(row) :].any()


def test_rows_that_end_at_once_make_room_at_once():
    model = tiny_gpt2()
    with torch.no_grad():  # every completion ends with its first token
        model.transformer.ln_f.bias.zero_()
        model.transformer.ln_f.bias[0] = 50.0
        model.transformer.wte.weight[:, 0] = 0.0
        model.transformer.wte.weight[51, 0] = 5.0
    for name in (None, 4):
        model.config.sliding_window = name
        sampled = generate(model, PROMPTS * 3, max_new_tokens=6, eos_id=51, batch_size=2)
        assert sampled.rows() == [[51]] * 15
