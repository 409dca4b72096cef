"""Write a completion of one prompt for each reader: every adapter on one base, chosen when its turn comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn

from pipeline.base.terminal_text import escape_for_terminal, put
from pipeline.modeling.decoding.drawing import uniforms
from pipeline.modeling.decoding.generation import generate
from pipeline.modeling.loading import load_tokenizer
from pipeline.modeling.lora import add_role, fuse_lora, with_adapter
from pipeline.modeling.one_base import load_base
from pipeline.modeling.precision import base_dtype
from pipeline.modeling.roles import active_adapter
from pipeline.modeling.tokens import decode, encode_prompts, eos_id, prompt_limit
from pipeline.store.store import Version
from pipeline.workflow.relocate import named_base


def write(policies: dict[str, Version], prompts: Sequence[str], seed: int) -> list[dict[str, str]]:
    """Completions of each prompt by policy, with the same randomness for all.

    Args:
        policies: adapters of one base, by the name of whom they are for.
    """
    first = next(iter(policies.values()))
    source, revision = named_base(first.path)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    base, tokenizer = load_base(source, revision, base_dtype(None, device)), load_tokenizer(source, revision)
    cast("nn.Module", base).to(device)
    names = {name: name.replace(".", "_") for name in policies}
    model = with_adapter(base, first.path, next(iter(names.values())), source)
    for name, version in policies.items():
        add_role(model, version.path, names[name])
    fuse_lora(cast("nn.Module", model))
    cast("nn.Module", model.eval())
    stats: dict[str, Any] = first.manifest.stats
    tokens = int(stats["response_length"])
    ids = encode_prompts(tokenizer, prompts, prompt_limit(model, tokens))
    noise = uniforms(len(ids), tokens, torch.Generator().manual_seed(seed))
    written: list[dict[str, str]] = [{} for _ in prompts]
    for name, adapter in names.items():
        with active_adapter(model, adapter):
            sampled = generate(
                model,
                ids,
                max_new_tokens=tokens,
                eos_id=eos_id(tokenizer),
                temperature=float(stats["temperature"]),
                noise=noise,
            )
        for texts, row in zip(written, sampled.rows(), strict=True):
            texts[name] = decode(tokenizer, row)
    return written


def print_written(policies: dict[str, Version], prompt: str, seed: int) -> None:
    """Print what each policy writes after a prompt."""
    width = max(map(len, policies))
    put(escape_for_terminal(prompt))
    for name, text in write(policies, [prompt], seed)[0].items():
        put(f"  {name:{width}}  {escape_for_terminal(text.strip())}")
