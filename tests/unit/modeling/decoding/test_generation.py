"""The decode loop: what it samples, and that padding, batching and dropping finished rows change nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.stats import chisquare

from pipeline.modeling.decoding.drawing import sample, uniforms
from pipeline.modeling.decoding.generation import generate
from pipeline.modeling.roles import merged_adapter, output_embedding
from pipeline.modeling.states import hidden_states, sequence_logprobs
from tests.conftest import tiny_gpt2, with_lora

PROMPTS = [[5, 6, 7], [8], [1, 2, 3, 4, 9, 10], [11, 12]]


def draw(model: Any, prompts: list[list[int]], noise: torch.Tensor, **more: Any) -> list[list[int]]:
    settings: dict[str, Any] = {"max_new_tokens": noise.shape[1], "eos_id": 51, "noise": noise, **more}
    return generate(model, prompts, **settings).rows()


def test_sampler_draws_the_softmax():
    logits = torch.randn(1, 1000, generator=torch.Generator().manual_seed(0)) * 2
    draws, temperature = 60_000, 0.8
    noise = uniforms(draws, 1, torch.Generator().manual_seed(1)).squeeze(1)
    tokens = torch.cat([sample(logits.expand(len(u), -1), u, temperature) for u in noise.split(20_000)])
    # In float64: chisquare refuses sums that differ by a ten-millionth, as those of a float32 softmax may.
    probs = (logits.double() / temperature).softmax(-1)[0]
    counts, likely = tokens.bincount(minlength=1000).double(), probs * draws >= 5
    observed = torch.cat([counts[likely], counts[~likely].sum()[None]])
    expected = torch.cat([probs[likely], probs[~likely].sum()[None]]) * draws
    # Mutations caught: the temperature left out (p = 0); blocks of another size at the searched edge.
    assert chisquare(observed.numpy(), expected.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("vocab", [1, 7, 256, 257, 300])
def test_sampler_is_exact_at_its_edges(vocab: int):
    logits = torch.full((3, vocab), -torch.inf)
    logits[:, vocab - 1] = 0.0
    edges = torch.tensor([0.0, 0.5, 1.0 - 2**-53], dtype=torch.float64)
    # Mutation caught: no clamp, so that rounding lands on a token of probability 0 or outside the vocabulary.
    assert sample(logits, edges, 1.0).tolist() == [vocab - 1] * 3


def test_first_uniform_picks_the_first_token_with_weight():
    logits = torch.log(torch.tensor([[0.0, 0.25, 0.0, 0.75]]))
    picked = [sample(logits, torch.tensor([u], dtype=torch.float64), 1.0).item() for u in (0.0, 0.24, 0.26, 0.999)]
    assert picked == [1, 1, 3, 3]


def test_greedy_is_hugging_face_greedy(base: Any):
    prompt = PROMPTS[2]
    theirs = base.generate(
        torch.tensor([prompt]), max_new_tokens=10, do_sample=False, eos_token_id=51, pad_token_id=52
    )[0, len(prompt) :].tolist()
    assert draw(base, [prompt], torch.zeros(1, 10, dtype=torch.float64), temperature=0.0)[0] == theirs


def test_a_row_samples_the_same_alone_and_in_any_batch(base: Any):
    prompts = PROMPTS * 4
    # No number of this seed is nearer than 3e-5 to the edge between two tokens. One of seed 3 is 1e-7 from it,
    # which is rounding: on a processor without AVX it drew one token alone, and another in the batch.
    noise = uniforms(16, 30, torch.Generator().manual_seed(4))
    together = draw(base, prompts, noise)
    alone = [draw(base, [p], noise[i : i + 1])[0] for i, p in enumerate(prompts)]
    # Mutations caught: positions counted from the padded column, padding left visible, rows mixed up when the
    # finished ones are dropped.
    assert together == alone
    assert draw(base, prompts, noise, batch_size=3) == alone
    assert len({len(r) for r in together}) > 1, "the test needs rows that end at different steps"


def test_lengths_count_the_end_token_and_ended_says_who_cut():
    model = tiny_gpt2()
    sampled = generate(model, PROMPTS * 8, max_new_tokens=6, eos_id=51, generator=torch.Generator().manual_seed(0))
    rows = sampled.rows()
    assert [r[-1] == 51 for r in rows] == sampled.ended.tolist()
    assert all(51 not in r[:-1] for r in rows)
    assert 0 < sampled.ended.float().mean() < 1
    never = generate(model, PROMPTS, max_new_tokens=6, eos_id=None, generator=torch.Generator().manual_seed(0))
    assert never.lengths.tolist() == [6] * 4
    assert not never.ended.any()


def test_completions_that_end_at_once():
    model = tiny_gpt2()
    with torch.no_grad():
        model.transformer.ln_f.bias.zero_()
        model.transformer.ln_f.bias[0] = 50.0
        model.transformer.wte.weight[:, 0] = 0.0
        model.transformer.wte.weight[51, 0] = 5.0
    sampled = generate(model, PROMPTS, max_new_tokens=6, eos_id=51)
    assert sampled.rows() == [[51]] * 4


def test_merged_adapter_decodes_what_the_adapter_scores(base: Any):
    model = with_lora(base)
    noise = uniforms(4, 12, torch.Generator().manual_seed(5))
    with merged_adapter(model, "policy"):
        rows = draw(model, PROMPTS, noise)
        ids = torch.tensor([PROMPTS[0]])
        folded = hidden_states(model, ids) @ output_embedding(model).T
    applied = hidden_states(model, ids) @ output_embedding(model).T
    # Mutation caught: the adapter applied twice, once folded in and once as a layer.
    torch.testing.assert_close(folded, applied, atol=1e-4, rtol=1e-4)
    assert rows == draw(model, PROMPTS, noise)


def test_sequence_logprobs_equal_a_full_forward_of_each_row(base: Any):
    rows = draw(base, PROMPTS, uniforms(4, 8, torch.Generator().manual_seed(2)))
    found = sequence_logprobs(base, PROMPTS, rows, None, 0.7)
    for prompt, row, logprobs in zip(PROMPTS, rows, found, strict=True):
        logits = base(input_ids=torch.tensor([prompt + row])).logits[0, len(prompt) - 1 : -1]
        expected = (logits / 0.7).log_softmax(-1).gather(1, torch.tensor(row)[:, None]).squeeze(1)
        torch.testing.assert_close(torch.tensor(logprobs), expected, atol=1e-5, rtol=1e-5)
