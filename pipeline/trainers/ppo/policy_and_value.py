"""What PPO trains: the policy and the value model in one module, so that one wrapper sees every gradient.

The value model is by default one linear map of the policy's own states, from the same forward pass. A LoRA adapter
of its own on the same base, and a separate model as TRL has it, are options.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from pipeline.functional.logprobs import selected_logprobs
from pipeline.modeling.roles import completion_states, language_model, output_embedding, quick_attention, role
from pipeline.modeling.types import CausalLM


class ValueHead(nn.Module):
    """A linear map of states to values in fp32, zero at the start.

    Args:
        adapter: the LoRA adapter of the policy's model under which states are read; None for the policy's own.
        backbone: a model of its own to read states from.
    """

    def __init__(
        self, hidden_size: int, adapter: str | None = None, backbone: PreTrainedModel | None = None
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.adapter, self.backbone = adapter, backbone

    @property
    def shares_states(self) -> bool:
        """True when values are read from the policy's own states, in decoding as well."""
        return self.adapter is None and self.backbone is None

    def states(self, policy: CausalLM, batch: Batch) -> Tensor:
        """(B, T, H) states that values are read from, where they are not the policy's own."""
        width = batch.completion_mask.shape[1]
        if self.backbone is not None:
            return completion_states(self.backbone, batch.input_ids, batch.prompt_lengths, width)
        with role(policy, self.adapter):
            return completion_states(policy, batch.input_ids, batch.prompt_lengths, width)

    def forward(self, states: Tensor) -> Tensor:
        """(..., H) to (...), fp32."""
        return self.linear(states.float()).squeeze(-1)


class ClassifierValueModel(ValueHead):
    """A sequence classifier as value model. Its parameters keep the classifier's names, as TRL's do."""

    def __init__(self, classifier: PreTrainedModel) -> None:
        nn.Module.__init__(self)
        self.adapter = None
        self._classifier = (classifier,)  # in a tuple it is not a submodule: its children are
        for name, child in classifier.named_children():
            self.add_module(name, child)

    @property
    def backbone(self) -> PreTrainedModel:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._classifier[0]

    @property
    def linear(self) -> nn.Linear:  # pyright: ignore[reportIncompatibleVariableOverride]
        return cast("nn.Linear", self.backbone.score)


@dataclass(frozen=True)
class Batch:
    """Rows of a rollout as the module takes them.

    Attributes:
        input_ids: (B, L) prompt + completion, padded on the right.
        prompt_lengths: (B,).
        completion_ids: (B, T).
        completion_mask: (B, T).
    """

    input_ids: Tensor
    prompt_lengths: Tensor
    completion_ids: Tensor
    completion_mask: Tensor
    trunk: Tensor | None = None
    """(B, L, H) the output of the blocks below the policy's LoRA, where it is kept."""

    def columns(self) -> dict[str, Tensor | None]:
        """The fields by name, as :meth:`PolicyAndValue.forward` takes them: DDP wants tensors, not objects."""
        return {f.name: getattr(self, f.name) for f in fields(Batch)}


class PolicyAndValue(nn.Module):
    """All that needs a gradient, in one ``forward``. Passes without one go to the unwrapped module's parts."""

    def __init__(self, policy: CausalLM, value_model: ValueHead) -> None:
        super().__init__()
        self.policy, self.value_model = policy, value_model
        self.checkpointing = False
        self.trunk_layers = 0

    def forward(
        self,
        input_ids: Tensor,
        prompt_lengths: Tensor,
        completion_ids: Tensor,
        completion_mask: Tensor,
        trunk: Tensor | None,
        temperature: float,
        entropy_grad: bool = False,
        value_only: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities, entropies and values, (N,) each, of the tokens that count.

        Args:
            entropy_grad: let a gradient flow through the entropies.
            value_only: keep the value loss out of the policy's weights.
        """
        batch = Batch(input_ids, prompt_lengths, completion_ids, completion_mask)
        mask = completion_mask
        checkpointing = self.checkpointing and torch.is_grad_enabled()
        # What is checkpointed is computed again outside this block, and has to be by the same attention.
        with _checkpointing(self) if checkpointing else quick_attention(self.policy, input_ids):
            states = completion_states(
                self.policy, input_ids, prompt_lengths, mask.shape[1], trunk, self.trunk_layers
            )[mask]
            if self.value_model.shares_states:
                value_states = states.detach() if value_only else states
            else:
                value_states = self.value_model.states(self.policy, batch)[mask]
        logprobs, entropy = selected_logprobs(
            states, output_embedding(self.policy), completion_ids[mask], temperature, entropy_grad
        )
        return logprobs, entropy, self.value_model(value_states)

    def gradient_checkpointing_enable(self, **kwargs: Any) -> None:
        """Forget the activations of every block in training passes, and compute them again on the way back."""
        language_model(self.policy).gradient_checkpointing_enable(
            gradient_checkpointing_kwargs=kwargs.get("gradient_checkpointing_kwargs") or {"use_reentrant": False}
        )
        if self.value_model.backbone is not None:
            language_model(self.value_model.backbone).gradient_checkpointing_enable(
                gradient_checkpointing_kwargs=kwargs.get("gradient_checkpointing_kwargs")
                or {"use_reentrant": False}
            )
        self.checkpointing = True


@contextmanager
def _checkpointing(module: nn.Module) -> Iterator[None]:
    """Let the blocks checkpoint. They do so only in training mode, which would switch dropout on as well."""
    blocks = [m for m in module.modules() if isinstance(m, GradientCheckpointingLayer)]
    for block in blocks:
        block.training = True  # of this module alone: its dropout layers stay off
    try:
        yield
    finally:
        for block in blocks:
            block.training = False
