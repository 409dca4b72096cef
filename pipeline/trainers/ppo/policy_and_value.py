"""The module that PPO trains: policy and value model, so that one DDP wrapper sees every gradient.

By default the value model is a linear map of the policy's states, from the same forward pass. The alternatives are
a LoRA adapter of its own on the same base, and a separate model as in TRL.
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
from pipeline.modeling.roles import active_adapter, language_model, output_embedding
from pipeline.modeling.states import completion_states, quick_attention
from pipeline.modeling.types import CausalLM


class ValueHead(nn.Module):
    """A linear map of states to values in fp32, zero at the start.

    Args:
        adapter: the LoRA adapter on the policy's base under which states are read; None for the policy's own.
        backbone: a separate model to read states from.
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
        """(M, H) states that values are read from, if they are not the policy's."""
        rows = batch.input_ids, batch.prompt_lengths, batch.completion_mask
        if self.backbone is not None:
            return completion_states(self.backbone, *rows)
        with active_adapter(policy, self.adapter):
            return completion_states(policy, *rows)

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
    """Rows of a rollout, as the module's inputs.

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
    """(B, L, H) cached output of the blocks below the policy's LoRA."""

    def columns(self) -> dict[str, Tensor | None]:
        """The fields by name, as :meth:`PolicyAndValue.forward` takes them: DDP wants tensors, not objects."""
        return {f.name: getattr(self, f.name) for f in fields(Batch)}


class PolicyAndValue(nn.Module):
    """Policy and value model with one ``forward`` for all gradients; other passes use the parts directly."""

    def __init__(self, policy: CausalLM, value_model: ValueHead) -> None:
        super().__init__()
        self.policy, self.value_model = policy, value_model
        self.checkpointing = False
        self.trunk_layers = 0
        self.unpadded = False

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
        # Checkpointed blocks are recomputed outside this context, and need the same attention there.
        with _checkpointing(self) if checkpointing else quick_attention(self.policy, input_ids):
            states = completion_states(
                self.policy, input_ids, prompt_lengths, mask, trunk, self.trunk_layers, self.unpadded
            )
            if self.value_model.shares_states:
                value_states = states.detach() if value_only else states
            else:
                value_states = self.value_model.states(self.policy, batch)
        logprobs, entropy = selected_logprobs(
            states, output_embedding(self.policy), completion_ids[mask], temperature, entropy_grad
        )
        return logprobs, entropy, self.value_model(value_states)

    def gradient_checkpointing_enable(self, **kwargs: Any) -> None:
        """Recompute the activations of every block in the backward pass instead of keeping them."""
        options = kwargs.get("gradient_checkpointing_kwargs") or {"use_reentrant": False}
        for model in (self.policy, self.value_model.backbone):
            if model is not None:
                language_model(model).gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
        self.checkpointing = True


@contextmanager
def _checkpointing(module: nn.Module) -> Iterator[None]:
    """Let the blocks checkpoint, which they do only in training mode; their dropout layers stay off."""
    blocks = [m for m in module.modules() if isinstance(m, GradientCheckpointingLayer)]
    for block in blocks:
        block.training = True  # unlike train(), of this module alone
    try:
        yield
    finally:
        for block in blocks:
            block.training = False
