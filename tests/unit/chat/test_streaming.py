"""Completions in the making: whoever joins or leaves the batch, each is what the pipeline samples alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipeline.chat.streaming import Batch, Stream
from pipeline.modeling.decoding.drawing import uniforms
from pipeline.modeling.decoding.generation import generate
from pipeline.modeling.roles import Role, active_adapter
from tests.conftest import tiny_gpt2, tiny_llama, tiny_tokenizer, with_lora
from tests.unit.modeling.unpadded.test_rows import tiny_mistral

TOKENS = 10
PROMPTS = [[5, 6, 7], [8], [1, 2, 3, 4, 9, 10, 11, 12, 13], [11, 12]]


def alone(role: Role, prompt: list[int], noise: torch.Tensor) -> list[int]:
    with active_adapter(role.model, role.adapter):
        return generate(role.model, [prompt], max_new_tokens=TOKENS, eos_id=51, noise=noise[None]).rows()[0]


def finish(batch: Batch) -> None:
    while batch.keep(lambda s: not s.over) or batch.rows:
        batch.step()


def two(model: Any, prompt: list[int], noise: torch.Tensor) -> list[Stream]:
    roles = Role(model), Role(model, "policy")
    return [Stream(role, tiny_tokenizer(), prompt, noise[side]) for side, role in enumerate(roles)]


# Catches: a column too far left or right after a join; a mask that shows padding; the adapter of another row;
# positions of the batch rather than of the row.
@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama], ids=["gpt2", "llama"])
@pytest.mark.parametrize("seed", range(4))
def test_rows_join_and_leave_at_any_step(make: Any, seed: int) -> None:
    model = with_lora(make(), noise=0.5)
    batch = Batch(model, 1.0)
    noise = uniforms(8, TOKENS, torch.Generator().manual_seed(seed))
    pairs = [two(model, prompt, noise[2 * n :]) for n, prompt in enumerate(PROMPTS)]
    gone = pairs[1][0]
    for n, streams in enumerate(pairs):
        batch.add(streams)
        for _ in range(n + 1):
            batch.keep(lambda s: not s.over and not (s is gone and len(s.ids) > 2))
            if batch.rows:
                batch.step()
    finish(batch)
    for n, streams in enumerate(pairs):
        for side, stream in enumerate(streams):
            expected = alone(stream.role, PROMPTS[n], noise[2 * n + side])
            assert stream.ids == (expected[: len(stream.ids)] if stream is gone else expected)


# Mistral's window is a cache of another kind, whose rows cannot join others'.
def test_a_cache_that_cannot_be_joined_holds_one_question() -> None:
    model = with_lora(tiny_mistral(4), noise=0.5)
    batch = Batch(model, 1.0)
    noise = uniforms(2, TOKENS, torch.Generator().manual_seed(0))
    streams = two(model, PROMPTS[2], noise)
    assert not batch.joins
    batch.add(streams)
    finish(batch)
    for i, stream in enumerate(streams):
        assert stream.ids == alone(stream.role, PROMPTS[2], noise[i])


def test_a_character_of_several_tokens_appears_when_it_is_whole() -> None:
    class Bytes:
        eos_token_id, pad_token_id = 51, 52

        def decode(self, ids: list[int], **_: Any) -> str:
            return bytes(ids).decode("utf-8", "replace")

    stream = Stream(Role(tiny_gpt2()), Bytes(), [1], torch.zeros(6))  # pyright: ignore[reportArgumentType]
    seen = []
    for byte in "aé!".encode() + b"\xc3":
        stream.ids.append(byte)
        seen.append(stream.text())
    assert seen == ["a", "a", "aé", "aé!", "aé!"]
    stream.ended = True
    assert stream.text() == "aé!\ufffd"  # it will not be whole any more
