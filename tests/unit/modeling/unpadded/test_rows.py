"""Rows without padding have the states and gradients of padded rows; a base that cannot is recognised."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipeline.base.errors import ModelError
from pipeline.functional.masks import length_mask
from pipeline.modeling.states import completion_states
from pipeline.modeling.tokens import right_pad
from pipeline.modeling.unpadded.rows import fits, unpad, unpadded_states
from tests.conftest import tiny_gpt2, tiny_llama

ROWS = [[5, 6, 7, 8, 9], [9, 1], [3], [2, 2, 4, 6]]
IDS, LENGTHS = right_pad(ROWS, 0)
MASK = length_mask(LENGTHS, IDS.shape[1])


def tiny_mistral(window: int | None) -> Any:
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=53, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, sliding_window=window, initializer_range=0.2,
    )  # fmt: skip
    return MistralForCausalLM(config).eval()


def tiny_bloom() -> Any:
    from transformers import BloomConfig, BloomForCausalLM

    torch.manual_seed(0)
    return BloomForCausalLM(BloomConfig(vocab_size=53, hidden_size=32, n_layer=2, n_head=2)).eval()


def gradients(model: Any, states: torch.Tensor) -> dict[str, torch.Tensor]:
    weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(3))
    (states * weights).sum().backward()
    out = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return out


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama, lambda: tiny_mistral(None)])
@pytest.mark.parametrize("rows", [ROWS, [[5, 6, 7], [1, 2, 3]]])
def test_states_and_gradients_are_those_of_padded_rows(make: Any, rows: list[list[int]]):
    model = make()
    ids, lengths = right_pad(rows, 0)
    mask = length_mask(lengths, ids.shape[1])
    padded = model.base_model(input_ids=ids, attention_mask=mask.long()).last_hidden_state[mask]
    expected = gradients(model, padded)
    states = unpadded_states(model.base_model, unpad(ids, lengths))
    # Mutations caught: positions that run on from row to row; attention over all rows; the gradient of padding
    # kept, which goes to the first token.
    torch.testing.assert_close(states, padded, atol=1e-5, rtol=1e-5)
    for name, grad in gradients(model, states).items():
        torch.testing.assert_close(grad, expected[name], atol=2e-4, rtol=1e-4)
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama])
@pytest.mark.parametrize("unpadded", [False, True])
def test_states_that_predict_completions_are_those_of_whole_rows(make: Any, unpadded: bool):
    """Without each row's last token, and without the last block's MLP on prompts."""
    model = make()
    prompts = torch.tensor([2, 1, 1, 3])
    mask = length_mask(LENGTHS - prompts, 3)  # the third row has no completion
    whole = model.base_model(input_ids=IDS, use_cache=False).last_hidden_state
    padded = torch.cat([row[p - 1 : n - 1] for row, p, n in zip(whole, prompts, LENGTHS, strict=True)])
    expected = gradients(model, padded)
    states = completion_states(model, IDS, prompts, mask, unpadded=unpadded)
    # Mutations caught: the row's start left out of the index; the MLP's output at another token's place.
    torch.testing.assert_close(states, padded, atol=1e-5, rtol=1e-5)
    for name, grad in gradients(model, states).items():
        torch.testing.assert_close(grad, expected[name], atol=2e-4, rtol=1e-4)


def test_bf16_stays_close_to_fp32():
    model = tiny_gpt2()
    states = unpadded_states(model.base_model, unpad(IDS, LENGTHS))
    half = unpadded_states(model.bfloat16().base_model, unpad(IDS, LENGTHS))
    torch.testing.assert_close(half.float(), states, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("make", [tiny_bloom, lambda: tiny_mistral(3)])
def test_biased_and_windowed_attention_do_not_fit(make: Any):
    model = make()
    assert not fits(model.base_model, IDS, LENGTHS)
    assert model.config._attn_implementation != "unpadded"


def test_rows_longer_than_the_sample_are_refused_where_attention_has_a_window():
    model = tiny_mistral(3)
    assert fits(model.base_model, IDS[:, :3], LENGTHS.clamp(max=3))
    # Mutation caught: the window not compared with the rows.
    with pytest.raises(ModelError, match="nearest tokens"):
        unpadded_states(model.base_model, unpad(IDS, LENGTHS))


def test_a_window_that_no_row_reaches_fits():
    assert fits(tiny_mistral(6).base_model, IDS, LENGTHS)
    assert fits(tiny_gpt2().base_model, IDS, LENGTHS)
