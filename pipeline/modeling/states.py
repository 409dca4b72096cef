"""Hidden states under the active role: of whole rows, of completions alone, of some of the base's blocks alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from pipeline.base.errors import ModelError
from pipeline.functional.logprobs import selected_logprobs
from pipeline.functional.masks import completion_positions, length_mask, take_rows
from pipeline.modeling.roles import active_adapter, language_model, output_embedding
from pipeline.modeling.tokens import right_pad
from pipeline.modeling.types import CausalLM
from pipeline.modeling.unpadded.rows import unpad, unpadded_states

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def hidden_states(model: CausalLM, input_ids: Tensor) -> Tensor:
    """(B, L, H) last states, final norm included, of right-padded rows under the active role.

    Without an attention mask: attention is causal, so padding on the right cannot reach a real token.
    """
    return _body(model)(input_ids=input_ids, use_cache=False).last_hidden_state


def _body(model: CausalLM) -> PreTrainedModel:
    """The decoder without its output embedding."""
    return cast("PreTrainedModel", language_model(model).base_model)


def completion_states(
    model: CausalLM,
    input_ids: Tensor,
    prompt_lengths: Tensor,
    mask: Tensor,
    trunk: Tensor | None = None,
    below: int = 0,
    unpadded: bool = False,
) -> Tensor:
    """(M, H) states under the active role that predict the completion tokens that count, in the order of ``mask``.

    A row's last token is not run, as nothing reads what it predicts, nor the last MLP on a prompt.

    Args:
        input_ids: (B, L) prompt + completion, padded on the right.
        mask: (B, T) True on a completion's tokens.
        trunk: (B, L, H) output of the lowest ``below`` blocks for these rows; those blocks are then not run.
        unpadded: run without padding, where there is no trunk.
    """
    positions = completion_positions(prompt_lengths, mask.shape[1])
    if unpadded and trunk is None:
        lengths = prompt_lengths + (mask.sum(1) - 1).clamp(min=0)
        index = ((lengths.cumsum(0) - lengths)[:, None] + positions)[mask]
        with last_mlp_at(model, index):
            states = unpadded_states(_body(model), unpad(input_ids, lengths))
    else:
        end = max(input_ids.shape[1] - 1, 1)
        index = (torch.arange(len(mask), device=mask.device)[:, None] * end + positions)[mask]
        with above_trunk(model, None if trunk is None else trunk[:, :end], below), last_mlp_at(model, index):
            states = hidden_states(model, input_ids[:, :end]).flatten(0, 1)
    return take_rows(states, index)


@contextmanager
def last_mlp_at(model: CausalLM, index: Tensor) -> Iterator[None]:
    """Run the last block's MLP for the tokens at ``index`` (M,) of all only, each once; the others get 0 from it.

    Nothing after it mixes tokens. A base whose last block has no ``mlp``, or that recomputes its blocks on the way
    back, where the hooks are gone, runs it for all.
    """
    blocks = block_list(_body(model))
    block = None if blocks is None else blocks[1][-1]
    mlp = getattr(block, "mlp", None)
    if not isinstance(mlp, nn.Module) or getattr(block, "gradient_checkpointing", False):
        yield
        return
    shape: list[torch.Size] = []

    def pick(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        shape.clear()
        if kwargs or len(args) != 1:  # Bloom's adds the residual as well
            return None
        shape.append(args[0].shape)
        return (take_rows(args[0].flatten(0, -2), index)[None],), kwargs

    def place(_module: nn.Module, _args: object, out: Any) -> Any:
        if not shape:
            return None
        first = out[0] if isinstance(out, tuple) else out
        whole = first.new_zeros(shape[0][:-1].numel(), first.shape[-1]).index_copy(0, index, first[0])
        whole = whole.view(*shape[0][:-1], -1)
        return (whole, *out[1:]) if isinstance(out, tuple) else whole

    hooks = mlp.register_forward_pre_hook(pick, with_kwargs=True), mlp.register_forward_hook(place)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def quick_attention(model: CausalLM, input_ids: Tensor) -> Iterator[None]:
    """Switch to plain attention where the fused one is slower: its bf16 backward on a CPU.

    12.0 against 2.0 ms for 8 rows of 80 tokens and 12 heads, 26 against 11 at 256 tokens; past 384 it wins.
    """
    config = language_model(model).config
    small = input_ids.device.type == "cpu" and input_ids.shape[1] <= 384
    if not (small and output_embedding(model).dtype == torch.bfloat16 and config._attn_implementation == "sdpa"):
        yield
        return
    config._attn_implementation = "eager"
    try:
        yield
    finally:
        config._attn_implementation = "sdpa"


@torch.no_grad()
def trunk_states(model: CausalLM, input_ids: Tensor, below: int) -> Tensor:
    """(B, L, H) output of the lowest ``below`` blocks: equal under all roles that do not adapt these."""
    outputs: list[Tensor] = []
    _, blocks = _blocks(model)

    def keep(_module: nn.Module, _args: object, out: Tensor | tuple[Tensor, ...]) -> None:
        outputs.append(out[0] if isinstance(out, tuple) else out)

    hook = blocks[below - 1].register_forward_hook(keep)
    try:
        with _only(model, 0, below):
            hidden_states(model, input_ids)
    finally:
        hook.remove()
    return outputs[0]


@contextmanager
def above_trunk(model: CausalLM, trunk: Tensor | None, below: int) -> Iterator[None]:
    """Run the blocks from ``below`` up only, on ``trunk`` as their input; all blocks for None."""
    if trunk is None:
        yield
        return

    def begin(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return ((trunk, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": trunk})

    _, blocks = _blocks(model)
    hook = blocks[below].register_forward_pre_hook(begin, with_kwargs=True)
    try:
        with _only(model, below, len(blocks)):
            yield
    finally:
        hook.remove()


def block_list(body: nn.Module) -> tuple[str, nn.ModuleList] | None:
    """The decoder's blocks and the name of the attribute that holds them; None where there is none."""
    lists = [(n, m) for n, m in body.named_children() if isinstance(m, nn.ModuleList)]
    return max(lists, key=lambda named: len(named[1]), default=None)


def _blocks(model: CausalLM) -> tuple[str, nn.ModuleList]:
    """The decoder's blocks, where some of them can run without the others."""
    body = language_model(model).base_model
    blocks = block_list(body)
    if blocks is None:
        raise ModelError(type(body).__name__, "has no list of blocks.", "Set trunk_layers: 0.")
    # A block's kind is looked up by its position, which slicing shifts.
    if len(set(getattr(body.config, "layer_types", None) or ())) > 1:
        raise ModelError(type(body).__name__, "has blocks of several kinds.", "Set trunk_layers: 0.")
    return blocks


@contextmanager
def _only(model: CausalLM, first: int, last: int) -> Iterator[None]:
    """Run the blocks ``first`` to ``last`` only."""
    body, (name, blocks) = language_model(model).base_model, _blocks(model)
    setattr(body, name, blocks[first:last])
    try:
        yield
    finally:
        setattr(body, name, blocks)


@torch.no_grad()
def sequence_logprobs(
    model: CausalLM,
    prompt_ids: Sequence[Sequence[int]],
    completion_ids: Sequence[Sequence[int]],
    adapter: str | None,
    temperature: float,
    batch_size: int = 64,
) -> list[list[float]]:
    """Log-probability in nats of every completion token under one role, a list for each row."""
    weight = output_embedding(model)
    out: list[list[float]] = [[] for _ in prompt_ids]
    # Rows of like length together, which leaves less padding.
    order = sorted(range(len(prompt_ids)), key=lambda i: len(prompt_ids[i]) + len(completion_ids[i]))
    for start in range(0, len(order), batch_size):
        index = order[start : start + batch_size]
        prompts, completions = ([rows[i] for i in index] for rows in (prompt_ids, completion_ids))
        joined, _ = right_pad([[*p, *c] for p, c in zip(prompts, completions, strict=True)], 0, weight.device)
        ids, lengths = right_pad(completions, 0, weight.device)
        mask = length_mask(lengths, ids.shape[1])
        prompt_lengths = torch.tensor([len(p) for p in prompts], device=weight.device)
        with active_adapter(model, adapter):
            states = completion_states(model, joined, prompt_lengths, mask)
        flat = selected_logprobs(states, weight, ids[mask], temperature)[0]
        for i, part in zip(index, flat.split(lengths.tolist()), strict=True):
            out[i] = part.tolist()
    return out
