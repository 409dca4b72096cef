"""Collect one update's rollout: sampled completions with their log-probabilities, values and scores.

Rows are right-padded prompt + completion; masks come from lengths. No gradients are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor

from pipeline.base.errors import ModelError
from pipeline.functional.logprobs import selected_logprobs
from pipeline.functional.masks import length_mask
from pipeline.modeling.decoding.cuda_graph_decoding import fits
from pipeline.modeling.decoding.drawing import Completions
from pipeline.modeling.decoding.generation import generate
from pipeline.modeling.roles import Role, active_adapter, language_model, merged_adapter, output_embedding
from pipeline.modeling.states import completion_states, trunk_states
from pipeline.modeling.tokens import right_pad
from pipeline.modeling.types import CausalLM, Tokenizer
from pipeline.scoring.scorer import Samples, Scorer
from pipeline.trainers.ppo.policy_and_value import Batch, PolicyAndValue
from pipeline.trainers.ppo.section import PPOSection


@dataclass(frozen=True, kw_only=True)
class Rollout(Batch):
    """B completions of up to T tokens.

    Attributes:
        ended: (B,) True where the stop token was sampled.
        old_logprobs, ref_logprobs, old_values: (B, T), 0 where the mask is False.
        score: (B,) of the reward source, before scaling and penalties.
    """

    ended: Tensor
    old_logprobs: Tensor
    ref_logprobs: Tensor
    old_values: Tensor
    score: Tensor

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def width(self) -> int:
        return self.completion_mask.shape[1]

    @property
    def lengths(self) -> Tensor:
        """(B,) tokens of each completion."""
        return self.completion_mask.sum(1)

    def completions(self) -> list[list[int]]:
        """The completions as lists of ids."""
        return [r[:n] for r, n in zip(self.completion_ids.tolist(), self.lengths.tolist(), strict=True)]

    def take(self, index: Tensor) -> Rollout:
        """The rows at ``index``, cut to the longest of them."""
        rows = at(self, index)
        lengths = rows["completion_mask"].sum(1)
        width, longest = int(lengths.max()), int((rows["prompt_lengths"] + lengths).max())
        for name, value in rows.items():
            if name in ("input_ids", "trunk"):
                rows[name] = None if value is None else value[:, :longest]
            elif value is not None and value.dim() == 2:
                rows[name] = value[:, :width]
        return Rollout(**rows)


def at(batch: Batch, index: Tensor) -> dict[str, Any]:
    """The fields of the rows at ``index``, by name."""
    return {k: None if v is None else v[index] for k, v in vars(batch).items()}


@dataclass(frozen=True)
class SamplingSettings:
    """The settings by which completions are sampled.

    Attributes:
        policy: the adapter to sample from; None for a model without adapters.
        rescore: compute old log-probabilities and values by the training pass. With LoRA merged into fp32 weights
            the decode loop's own differ from these by 1e-6; in bf16 by 0.04.
    """

    max_new_tokens: int
    temperature: float
    stop_id: int | None
    batch_size: int
    policy: str | None
    rescore: bool
    cuda_graphs: bool = False

    @classmethod
    def of(cls, args: PPOSection, model: CausalLM, stop_id: int | None, policy: str | None) -> SamplingSettings:
        """The settings of ``args`` for this model.

        Raises:
            ModelError: ``cuda_graph_decoding`` is set, and the model or device does not support it.
        """
        weight = output_embedding(model)
        if args.cuda_graph_decoding and not (weight.is_cuda and fits(language_model(model))):
            what = "needs a CUDA device, sdpa attention and plain cache layers, which this run does not have."
            raise ModelError("ppo.cuda_graph_decoding", what, "Set it to false.")
        return cls(
            max_new_tokens=args.completion_tokens(),
            temperature=args.temperature,
            stop_id=stop_id,
            batch_size=args.local_rollout_forward_batch_size,
            policy=policy,
            rescore=weight.dtype != torch.float32 if args.rescore is None else args.rescore,
            cuda_graphs=args.cuda_graph_decoding,
        )


@torch.no_grad()
def collect_rollout(
    wrapper: PolicyAndValue,
    reference: Role,
    scorer: Scorer,
    prompt_ids: Sequence[Sequence[int]],
    sampling: SamplingSettings,
    noise: Tensor,
    tokenizer: Tokenizer,
    as_given: Sequence[Any] | None = None,
) -> Rollout:
    """Sample completions and measure them under every role.

    Args:
        noise: (B, max_new_tokens) uniforms.
        as_given: the prompts as texts or conversations, for scorers that read these.
    """
    sampled = _sampled(wrapper, prompt_ids, sampling, noise)
    completions = sampled.rows()
    batch = _as_batch(wrapper, prompt_ids, completions, sampling.batch_size)
    old_logprobs, old_values = _old_figures(wrapper, batch, sampled, sampling)
    device, own = batch.input_ids.device, reference.model is wrapper.policy
    # With its adapters off the policy's model has the same trunk.
    below = wrapper.trunk_layers if own and reference.adapter is None else 0
    return Rollout(
        **vars(batch),
        ended=sampled.ended.to(device),
        old_logprobs=old_logprobs,
        ref_logprobs=logprobs_under(reference, batch, sampling, below, own and wrapper.unpadded),
        old_values=old_values,
        score=checked(scorer(Samples(prompt_ids, completions, tokenizer, as_given)), len(completions)).to(device),
    )


def _sampled(
    wrapper: PolicyAndValue, prompt_ids: Sequence[Sequence[int]], sampling: SamplingSettings, noise: Tensor
) -> Completions:
    """A completion of each prompt by the policy, with LoRA merged into its weights."""
    value_head = wrapper.value_model
    with merged_adapter(wrapper.policy, sampling.policy):
        return generate(
            wrapper.policy,
            prompt_ids,
            max_new_tokens=sampling.max_new_tokens,
            eos_id=sampling.stop_id,
            temperature=sampling.temperature,
            noise=noise,
            batch_size=sampling.batch_size,
            value_head=value_head if value_head.shares_states and not sampling.rescore else None,
            cuda_graphs=sampling.cuda_graphs,
        )


def _as_batch(
    wrapper: PolicyAndValue, prompt_ids: Sequence[Sequence[int]], completions: Sequence[list[int]], size: int
) -> Batch:
    """Prompts and completions as padded rows; with the states of the trunk, where its blocks run once per update.

    Args:
        size: rows that run through the trunk together.
    """
    device = output_embedding(wrapper.policy).device
    joined = [[*p, *c] for p, c in zip(prompt_ids, completions, strict=True)]
    completion_ids, lengths = right_pad(completions, 0, device)
    batch = Batch(
        input_ids=right_pad(joined, 0, device)[0],
        prompt_lengths=torch.tensor([len(p) for p in prompt_ids], device=device),
        completion_ids=completion_ids,
        completion_mask=length_mask(lengths, completion_ids.shape[1]),
    )
    below = wrapper.trunk_layers
    if not below:
        return batch
    return replace(batch, trunk=_by_parts(batch, size, lambda b: trunk_states(wrapper.policy, b.input_ids, below)))


def _old_figures(
    wrapper: PolicyAndValue, batch: Batch, sampled: Completions, sampling: SamplingSettings
) -> tuple[Tensor, Tensor]:
    """(B, T) log-probabilities and values before the update: the decode loop's own, or by the training pass."""
    if sampling.rescore:
        return _training_pass(wrapper, batch, sampling)
    width, device = batch.completion_ids.shape[1], batch.input_ids.device
    logprobs = sampled.logprobs[:, :width].to(device)
    if wrapper.value_model.shares_states:
        return logprobs, sampled.values[:, :width].to(device)
    return logprobs, _separate_values(wrapper, batch, sampling)


def checked(score: Tensor, count: int) -> Tensor:
    """``score`` in fp32.

    Raises:
        ModelError: it is not one finite number per completion. A NaN would spread to every weight.
    """
    if tuple(score.shape) != (count,) or not bool(score.isfinite().all()):
        fault = f"of shape {tuple(score.shape)}" if tuple(score.shape) != (count,) else "not all finite"
        mend = "Give a number for each."
        raise ModelError("ppo.reward", f"the scores of {count} completions are {fault}.", mend)
    return score.float()


def logprobs_under(
    reference: Role, batch: Batch, sampling: SamplingSettings, below: int = 0, unpadded: bool = False
) -> Tensor:
    """(B, T) log-probabilities of the completions under the reference; above the batch's trunk if ``below``."""
    weight = output_embedding(reference.model)

    def measure(part: Batch) -> Tensor:
        mask, trunk = part.completion_mask, part.trunk if below else None
        states = completion_states(
            reference.model, part.input_ids, part.prompt_lengths, mask, trunk, below, unpadded
        )
        ids = part.completion_ids[mask]
        return _in_rows(mask, selected_logprobs(states, weight, ids, sampling.temperature)[0])

    with active_adapter(reference.model, reference.adapter):
        return _by_parts(batch, sampling.batch_size, measure)


def _training_pass(wrapper: PolicyAndValue, batch: Batch, sampling: SamplingSettings) -> tuple[Tensor, Tensor]:
    def measure(part: Batch) -> Tensor:
        logprobs, _, values = wrapper(**part.columns(), temperature=sampling.temperature)
        return _in_rows(part.completion_mask, torch.stack([logprobs, values], -1))

    logprobs, values = _by_parts(batch, sampling.batch_size, measure).unbind(-1)
    return logprobs, values


def _separate_values(wrapper: PolicyAndValue, batch: Batch, sampling: SamplingSettings) -> Tensor:
    """(B, T) values of a value model that does not read the policy's states."""
    value_head = wrapper.value_model

    def measure(part: Batch) -> Tensor:
        return _in_rows(part.completion_mask, value_head(value_head.states(wrapper.policy, part)))

    return _by_parts(batch, sampling.batch_size, measure)


def _in_rows(mask: Tensor, figures: Tensor) -> Tensor:
    """(B, T, ...) with ``figures`` (M, ...) where ``mask`` (B, T) is True, else 0."""
    rows = figures.new_zeros(*mask.shape, *figures.shape[1:])
    rows[mask] = figures
    return rows


def _by_parts(batch: Batch, size: int, measure: Callable[[Batch], Tensor]) -> Tensor:
    """Apply ``measure`` to ``size`` rows at a time, and join the results."""
    rows = torch.arange(len(batch.input_ids), device=batch.input_ids.device).split(size)
    return torch.cat([measure(Batch(**at(batch, part))) for part in rows])


def gathered(rollout: Rollout, accelerator: Accelerator) -> Rollout:
    """Gather the rollouts of all ranks on every rank, in the order of ranks.

    Moments, advantages and minibatches are then equal on all ranks and as in one process.
    """
    if accelerator.num_processes == 1:
        return rollout
    whole: dict[str, Tensor] = {}
    for f in fields(rollout):
        local = getattr(rollout, f.name)
        if local is None:
            continue
        dtype = local.dtype
        if dtype == torch.bool:  # Accelerate pads booleans with integers, on some ranks only
            local = local.to(torch.uint8)
        if local.dim() > 1:
            local = accelerator.pad_across_processes(local, dim=1)
        whole[f.name] = cast("Tensor", accelerator.gather(local)).to(dtype)
    return Rollout(**whole)
