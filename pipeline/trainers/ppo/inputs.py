"""Convert the inputs of PPOTrainer: prompts (ids, texts or conversations), scorers and value models."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline.base.errors import DataError
from pipeline.formats.detect import Message
from pipeline.modeling.roles import output_embedding
from pipeline.modeling.tokens import encode_conversation, encode_prompts, prompt_limit
from pipeline.modeling.types import CausalLM, Tokenizer
from pipeline.scoring.reward_adapter import score_rows
from pipeline.scoring.scorer import Samples, Scorer
from pipeline.trainers.ppo.policy_and_value import ClassifierValueModel, ValueHead
from pipeline.trainers.ppo.section import PPOSection

PromptAsGiven: TypeAlias = "str | Sequence[dict[str, str]] | None"


@dataclass(frozen=True)
class Prompts:
    """Prompts as ids, and as the user wrote them: a text, a conversation, or None for ids."""

    ids: list[list[int]]
    as_given: list[PromptAsGiven]


def read_prompts(
    rows: Iterable[Any], tokenizer: Tokenizer, model: CausalLM, completion_tokens: int, where: str
) -> Prompts:
    """Read prompts from a dataset with ``input_ids`` or ``prompt``, or from a list of ids, texts or conversations.

    Too long ones lose their beginning, so that a completion fits.

    Raises:
        DataError: there are no rows, or a row is of another kind.
    """
    limit = prompt_limit(model, completion_tokens)
    ids: list[list[int]] = []
    as_given: list[PromptAsGiven] = []
    for i, row in enumerate(rows):
        if isinstance(row, dict):
            if "input_ids" not in row and "prompt" not in row:
                keys = ", ".join(map(str, row)) or "nothing"
                raise DataError(f"{where}, row {i}", f"has {keys}.", 'Give "prompt" or "input_ids".')
            row = row["input_ids"] if "input_ids" in row else row["prompt"]
        if isinstance(row, str):
            ids.append(encode_prompts(tokenizer, [row], limit)[0])
            as_given.append(row)
        elif isinstance(row, Sequence | Tensor) and len(row) and isinstance(row[0], dict):
            ids.append(encode_conversation(tokenizer, cast("Sequence[Message]", row), limit))
            as_given.append(row)  # pyright: ignore[reportArgumentType]
        elif isinstance(row, Sequence | Tensor) and len(row):
            ids.append([int(t) for t in row][-limit:])
            as_given.append(None)
        else:
            mend = "Give a text, a conversation or ids."
            raise DataError(f"{where}, row {i}", f"{row!r} is not a prompt.", mend)
    if not ids:
        raise DataError(where, "is empty.", "Give at least one prompt.")
    return Prompts(ids, as_given)


def held_out_rows(dataset: Iterable[Any] | None, args: PPOSection) -> list[Any]:
    """The first ``eval_prompts`` rows; of a single prompt as many copies, each sampled by itself."""
    if dataset is None or args.eval_strategy == "no":
        return []
    rows = list(dataset)[: args.eval_prompts]
    return rows * args.eval_prompts if len(rows) == 1 else rows


class SameTokenizerScorer:
    """A sequence classifier with the policy's tokenizer, read at the last token of prompt + completion."""

    def __init__(self, model: PreTrainedModel, device: torch.device) -> None:
        self.model: Any = model.requires_grad_(False).eval()
        self.model.to(device)

    def __call__(self, samples: Samples) -> Tensor:
        rows = [[*p, *c] for p, c in zip(samples.prompt_ids, samples.completion_ids, strict=True)]
        return score_rows(self.model, self.model.score.weight, rows)


def check_trunk_is_frozen(policy: nn.Module, below: int) -> None:
    """Raises ValueError if one of the lowest ``below`` blocks is trained: their output is computed only once."""
    if not below:
        return
    for name, parameter in policy.named_parameters():
        layer = re.search(r"\.(\d+)\.", name)
        if parameter.requires_grad and (layer is None or int(layer[1]) < below):
            raise ValueError(f"trunk_layers {below}, but {name} is trained: adapt the blocks from {below} up only")


def policy_adapter(policy: CausalLM, name: str | None) -> str | None:
    """The adapter that is trained: ``name`` or ``policy``, else the active one; None without adapters."""
    if not isinstance(policy, PeftModel):
        return None
    return name if (name := name or "policy") in policy.peft_config else str(policy.active_adapter)


def adapter_parameters(model: nn.Module, adapter: str) -> list[nn.Parameter]:
    """The LoRA weights of one adapter. Modules of the base may have the adapter's name."""
    return [p for n, p in model.named_parameters() if "lora_" in n and f".{adapter}." in n]


def as_scorer(source: Scorer | PreTrainedModel | None, device: torch.device) -> Scorer:
    """``source`` as a scorer: itself, or a sequence classifier wrapped."""
    if source is None:
        raise ValueError("reward_model is missing: give a scorer or a sequence classifier")
    return SameTokenizerScorer(source, device) if isinstance(source, PreTrainedModel) else source


def as_value_model(classifier: PreTrainedModel | None, model: CausalLM, args: PPOSection) -> ValueHead:
    """The value model of ``args.value_model``, or one around a sequence classifier.

    A model that is trained whole is cast to fp32: bf16 rounds its steps away.
    """
    if classifier is not None:
        return ClassifierValueModel(cast("PreTrainedModel", classifier.float().requires_grad_(True)))
    size = output_embedding(model).shape[1]
    if args.value_model == "adapter":
        if not isinstance(model, PeftModel):
            raise ValueError("value_model: adapter needs a model that already has its LoRA adapter")
        model.add_adapter("value", copy.deepcopy(model.peft_config[str(model.active_adapter)]))
        for parameter in adapter_parameters(model, "value"):
            parameter.requires_grad_(True)
        return ValueHead(size, adapter="value")
    if args.value_model == "model":
        backbone: Any = copy.deepcopy(model)
        backbone = (backbone.unload() if hasattr(backbone, "unload") else backbone).float().requires_grad_(True)
        head = backbone.get_output_embeddings()
        if head.weight is not backbone.get_input_embeddings().weight:
            head.requires_grad_(False)  # values do not use it
        return ValueHead(size, backbone=backbone)
    return ValueHead(size)
