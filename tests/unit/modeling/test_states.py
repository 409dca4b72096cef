"""States of a part of the base are those of the whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipeline.modeling.states import block_list, hidden_states, last_mlp_at
from tests.conftest import tiny_gpt2, tiny_llama
from tests.unit.modeling.unpadded.test_rows import tiny_bloom


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama, tiny_bloom])
def test_the_last_mlp_runs_where_it_is_read(make: Any):
    """Bloom's is given the residual beside its input, so it runs for all tokens."""
    model, index = make(), torch.tensor([6, 1, 2])
    ids = torch.tensor([[5, 6, 7, 8], [9, 4, 3, 2]])
    expected = hidden_states(model, ids).flatten(0, 1)[index]
    tokens: list[int] = []
    _, blocks = block_list(model.base_model) or ("", [])
    last: Any = blocks[-1]
    last.mlp.register_forward_hook(lambda _module, args, _out: tokens.append(args[0].shape[:-1].numel()))
    with last_mlp_at(model, index):
        # Mutation caught: the MLP's output at another token's place.
        torch.testing.assert_close(hidden_states(model, ids).flatten(0, 1)[index], expected)
    hidden_states(model, ids)
    assert tokens == [8 if make is tiny_bloom else 3, 8]
