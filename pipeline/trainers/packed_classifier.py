"""The sequence classifier that reward training uses: its start, its precision, its pass without padding."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.modeling_outputs import SequenceClassifierOutput

from pipeline.base.process import say
from pipeline.modeling.loading import fuse_activations, load_classifier
from pipeline.modeling.precision import cast_base_to_bf16
from pipeline.modeling.unpadded.pairs import fits, last_states, pack
from pipeline.trainers.arguments import has_accelerator, is_sharded
from pipeline.trainers.token_file import of_rank, row_lengths

TOKENS = 512
"""Tokens of one pass on a CPU, enough for matrix products at full speed; memory grows with them."""
TOKENS_GPU = 16384


def classifier(base: str, revision: str | None, seed: int, heads: int = 1) -> Any:
    """A sequence classifier of one output over ``base``, or of several heads, its heads zero.

    So every score is 0 at the start, and the loss that of a coin, however large the base's states are.

    Args:
        seed: of what is drawn later, LoRA's A.
    """
    torch.manual_seed(seed)
    model: Any = load_classifier(base, revision)
    if heads > 1:
        model.score = torch.nn.Linear(model.score.in_features, heads, bias=False)
    with torch.no_grad():
        model.score.weight.zero_()
    return fuse_activations(model).eval()


def set_up_passes(model: Any, args: Any, sides: Sequence[Sequence[Sequence[int]]]) -> int | None:
    """Let ``model`` read rows without padding, in the precision that ``args`` asks for.

    A base that does not fit reads padded rows, and so does any where blocks run again in the backward pass, are
    compiled, or get noise by the length of a row (NEFTune).

    Args:
        sides: the rows to train on: one list, or those of the chosen and of the rejected sides.
    Returns:
        The pairs (or rows) of one pass; None where all is left to TRL: a model sharded or copied over devices.
    """
    if is_sharded() or args.n_gpu > 1:
        return None
    paired = len(sides) == 2
    count = len(sides[0])
    tokens = row_lengths(sides[0])
    for side in sides[1:]:
        tokens = tokens + row_lengths(side)
    chosen = [of_rank(tokens, rank) for rank in (count - 1, count // 2)]  # the longest one and the median
    sample = [side[i] for side in sides for i in chosen]
    asked = not (args.gradient_checkpointing or args.torch_compile or args.neftune_noise_alpha)
    packs = asked and fits(model.base_model, sample, paired)
    if asked and not packs:
        say("reward", f"{type(model).__name__} needs padded rows, which take longer")
    if args.bf16:
        cast_base_to_bf16(model, adapted=True)
        model.score.float()
        args.mixed_precision = "no"  # the base has it; autocast would cast LoRA and states to and fro
    # With dropout two rows share no prefix: they would share its noise.
    model.forward = partial(_classify, model, packs, paired and bool(args.disable_dropout))
    return max(1, (TOKENS_GPU if has_accelerator() else TOKENS) * count // max(int(tokens.sum(dtype=np.int64)), 1))


def _classify(
    model: Any, packs: bool, paired: bool, input_ids: Tensor, attention_mask: Tensor, **_: Any
) -> SequenceClassifierOutput:
    """Scores (R, 1) in fp32 of right-padded rows: the head on each row's last state."""
    lengths = attention_mask.sum(1)
    if packs:
        states = last_states(model.base_model, pack(input_ids, lengths, paired, model.dtype))
    else:
        body = model.base_model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
        states = body.last_hidden_state[torch.arange(len(input_ids), device=input_ids.device), lengths - 1]
    return SequenceClassifierOutput(logits=model.score(states.float()))
