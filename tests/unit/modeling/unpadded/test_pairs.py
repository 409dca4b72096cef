"""Pairs without padding: the states and gradients of padded rows, on bases that fit; others are told apart."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.base.errors import ModelError
from pipeline.modeling.precision import cast_base_to_bf16
from pipeline.modeling.tokens import right_pad
from pipeline.modeling.unpadded.pairs import common_prefix, fits, last_states, pack
from tests.conftest import tiny_gpt2, tiny_llama, with_lora

EDGES = [
    # no common prefix; equal rows; one begins with the other; single tokens
    [[1, 2, 3], [5, 6], [4, 5], [5, 6], [7], [9]],
    [[4, 9], [5, 6], [4, 5, 6, 7], [5, 6], [7], [9, 1, 1, 1, 1]],
]


def ragged(pairs: int, seed: int = 0) -> list[list[int]]:
    """Chosen rows, then rejected ones, each pair with a common beginning."""
    rng = random.Random(seed)

    def words(least: int) -> list[int]:
        return [rng.randrange(50) for _ in range(rng.randrange(least, 12))]

    prompts = [words(0) for _ in range(pairs)]
    return [p + words(1) for _ in range(2) for p in prompts]


def padded_states(model: Any, rows: list[list[int]]) -> Tensor:
    """Each row alone: nothing of another can reach it."""
    alone = [model.base_model(input_ids=torch.tensor([r])).last_hidden_state[0, -1] for r in rows]
    return torch.stack(alone).float()


def packed_states(model: Any, rows: list[list[int]], paired: bool) -> Tensor:
    return last_states(model.base_model, pack(*right_pad(rows, 0), paired, model.dtype)).float()


@pytest.fixture(params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest) -> Any:
    """An adapter that does something on every linear layer, so that all of these are in the states."""
    made = tiny_gpt2() if request.param == "gpt2" else tiny_llama()
    return with_lora(made).get_base_model()


# Seen failing with: positions that count on over the branches; branches that see each other; the last block's rows
# read in the order of branches.
@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("rows", [ragged(5), EDGES[0] + EDGES[1], ragged(1)], ids=["ragged", "edges", "one pair"])
def test_states_are_those_of_rows_alone(model: Any, rows: list[list[int]], paired: bool):
    with torch.no_grad():
        torch.testing.assert_close(packed_states(model, rows, paired), padded_states(model, rows))


# Seen failing with: a gradient for the padding of a tree; padding of single rows that attends to nothing: plain
# products, as in bf16, make it NaN.
@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize(("bf16", "share"), [(False, 1e-5), (True, 0.05)], ids=["fp32", "bf16"])
def test_gradients_are_those_of_rows_alone(model: Any, paired: bool, bf16: bool, share: float):
    rows = ragged(4, seed=1)
    if bf16:
        cast_base_to_bf16(model, adapted=True)
    weights = torch.randn(len(rows), model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    trained = [p for n, p in model.named_parameters() if "lora_" in n]
    gradients: list[tuple[Tensor, ...]] = []
    for states in (packed_states(model, rows, paired), padded_states(model, rows)):
        gradients.append(torch.autograd.grad((states * weights).sum(), trained))
    for packed, alone in zip(*gradients, strict=True):
        torch.testing.assert_close(packed, alone, rtol=share, atol=share * float(alone.abs().max()))


def test_a_common_prefix_leaves_each_row_a_token():
    first, lengths = right_pad(EDGES[0], 0)
    second, more = right_pad(EDGES[1], 0)
    width = max(first.shape[1], second.shape[1])
    first, second = (torch.nn.functional.pad(x, (0, width - x.shape[1])) for x in (first, second))
    assert common_prefix(first, second, torch.stack([lengths, more])).tolist() == [0, 1, 1, 1, 0, 0]


def test_a_pair_keeps_its_prefix_once():
    rows = [[1, 2, 3, 4], [7], [1, 2, 3, 5, 6], [8, 9]]
    packed = pack(*right_pad(rows, 0), paired=True)
    assert packed.ids.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8, 9]]
    assert packed.position_ids.tolist() == [[0, 1, 2, 3, 3, 4, 0, 0, 1]]
    assert packed.last.tolist() == [[3, 5], [6, 8]]


def build(kind: str, **more: Any) -> Any:
    import transformers

    options: dict[str, Any] = {
        "vocab_size": 53, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64,
        "pad_token_id": 52, "eos_token_id": 51, "bos_token_id": 50, "initializer_range": 0.2,
    }  # fmt: skip
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**{**options, **more})
    return transformers.AutoModelForCausalLM.from_config(config).eval()


# Attention with windows, soft caps, sinks, biases by distance; code that is not on transformers' interface; no
# attention at all. Seen failing with: no comparison of the states; the keywords of such features ignored.
@pytest.mark.parametrize(
    ("kind", "more", "expected"),
    [
        ("Mistral", {"sliding_window": 8}, False),
        ("Mistral", {"sliding_window": 64}, True),
        ("Qwen3", {}, True),
        ("GPTNeoX", {}, True),
        ("Gemma2", {}, False),
        ("Bloom", {"n_layer": 2, "n_head": 4}, False),
        ("GPTJ", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "rotary_dim": 4}, False),
        ("OPT", {"ffn_dim": 48, "word_embed_proj_dim": 32}, False),
        ("Mamba", {"state_size": 4}, False),
    ],
)
def test_which_bases_fit(kind: str, more: dict[str, Any], expected: bool):
    model = build(kind, **more)
    before = model.config._attn_implementation
    rows = ragged(3, seed=2)
    assert max(map(len, rows)) > 8
    assert fits(model.base_model, rows, paired=True) is expected
    assert model.config._attn_implementation == before
    assert not any("forward" in vars(m) for m in model.modules())
    with torch.no_grad():
        padded_states(model, rows)  # still works


# Seen failing with: the window not compared with the rows; a window of one token less than the row let through.
def test_a_window_that_a_later_row_exceeds_is_an_error():
    model = build("Mistral", sliding_window=8)
    assert fits(model.base_model, [[1, 2, 3], [1, 2, 4]], paired=True)
    with pytest.raises(ModelError, match="nearest tokens"):
        packed_states(model, [[1] * 9, [1] * 8 + [2]], paired=True)
