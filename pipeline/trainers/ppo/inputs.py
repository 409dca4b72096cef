"""What PPOTrainer accepts: prompts as ids, texts or conversations; scorers and value models in several shapes."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.base.errors import DataError
from pipeline.modeling.roles import output_embedding
from pipeline.modeling.tokens import encode_conversation, encode_prompts, prompt_limit
from pipeline.scoring.reward_role import score_rows
from pipeline.scoring.scorer import Samples, Scorer
from pipeline.trainers.ppo.policy_and_value import ValueHead
from pipeline.trainers.ppo.section import PPOSection

Given = str | Sequence[dict[str, str]] | None


@dataclass(frozen=True)
class Prompts:
    """Prompts as the policy reads them, and as they were given: a text, a conversation, or None for ids."""

    ids: list[list[int]]
    given: list[Given]


def read_prompts(rows: Iterable[Any], tokenizer: Any, model: Any, completion_tokens: int, where: str) -> Prompts:
    """Prompts from a dataset with ``input_ids`` or ``prompt``, or from a list of ids, texts or conversations.

    Too long ones lose their beginning, so that a completion fits.

    Raises:
        DataError: no rows, or a row that is none of these.
    """
    limit = prompt_limit(model, completion_tokens)
    ids: list[list[int]] = []
    given: list[Given] = []
    for i, row in enumerate(rows):
        if isinstance(row, dict):
            if "input_ids" not in row and "prompt" not in row:
                raise DataError(
                    f"{where}, row {i}",
                    f"has {', '.join(map(str, row)) or 'nothing'}.",
                    'Give "prompt" or "input_ids".',
                )
            row = row["input_ids"] if "input_ids" in row else row["prompt"]
        if isinstance(row, str):
            ids.append(encode_prompts(tokenizer, [row], limit)[0])
            given.append(row)
        elif isinstance(row, Sequence | Tensor) and len(row) and isinstance(row[0], dict):
            ids.append(encode_conversation(tokenizer, row, limit))
            given.append(row)  # pyright: ignore[reportArgumentType]
        elif isinstance(row, Sequence | Tensor) and len(row):
            ids.append([int(t) for t in row][-limit:])
            given.append(None)
        else:
            raise DataError(f"{where}, row {i}", f"{row!r} is no prompt.", "Give a text, a conversation or ids.")
    if not ids:
        raise DataError(where, "holds no prompts.", "Bring some.")
    return Prompts(ids, given)


class SameTokenizerScorer:
    """A sequence classifier with the policy's tokenizer, read at the last token of prompt + completion."""

    def __init__(self, model: Any, device: torch.device) -> None:
        self.model = model.to(device).eval().requires_grad_(False)

    def __call__(self, samples: Samples) -> Tensor:
        rows = [[*p, *c] for p, c in zip(samples.prompt_ids, samples.completion_ids, strict=True)]
        return score_rows(self.model, self.model.score.weight, rows)


def require_free_trunk(policy: Any, below: int) -> None:
    """Check that nothing is trained in the lowest ``below`` blocks, whose output is computed once per update.

    Raises:
        ValueError: something is.
    """
    if not below:
        return
    for name, parameter in policy.named_parameters():
        layer = re.search(r"\.(\d+)\.", name)
        if parameter.requires_grad and (layer is None or int(layer[1]) < below):
            raise ValueError(f"trunk_layers {below}, but {name} is trained: adapt the blocks from {below} up only")


def adapter_parameters(model: Any, adapter: str) -> list[nn.Parameter]:
    """The LoRA weights of one adapter; a module of the base's may bear the adapter's name."""
    return [p for n, p in model.named_parameters() if "lora_" in n and f".{adapter}." in n]


def in_bf16(model: Any, adapted: bool) -> None:
    """Keep the frozen base in bf16 and LoRA in fp32. Without LoRA all stays in fp32: steps would be rounded away.

    Args:
        adapted: LoRA is yet to come.
    """
    if not adapted and not hasattr(model, "peft_config"):
        return
    for name, parameter in model.named_parameters():
        if "lora_" not in name and parameter.is_floating_point():
            parameter.data = parameter.data.to(torch.bfloat16)


def as_scorer(source: Any, device: torch.device) -> Scorer:
    """``source`` itself where it is a scorer, or a scorer of the sequence classifier that TRL would be given."""
    if source is None:
        raise ValueError("reward_model is missing: give a scorer or a sequence classifier")
    return SameTokenizerScorer(source, device) if isinstance(source, nn.Module) else source


def as_value_model(given: Any, model: Any, args: PPOSection) -> ValueHead:
    """The value model that ``args.value_model`` asks for, or one around the sequence classifier that was given.

    What is trained whole is trained in fp32, also where it was stored in bf16, whose steps would be rounded away.
    """
    size = output_embedding(model).shape[1]
    if given is not None:
        head = ValueHead(size, backbone=given.float().requires_grad_(True))
        head.linear = given.score
        return head
    if args.value_model == "adapter":
        if not hasattr(model, "peft_config"):
            raise ValueError("value_model: adapter needs a model that already has its LoRA adapter")
        model.add_adapter("value", copy.deepcopy(model.peft_config[model.active_adapter]))
        for parameter in adapter_parameters(model, "value"):
            parameter.requires_grad_(True)
        return ValueHead(size, adapter="value")
    if args.value_model == "model":
        backbone = copy.deepcopy(model)
        backbone = (backbone.unload() if hasattr(backbone, "unload") else backbone).float().requires_grad_(True)
        head = backbone.get_output_embeddings()
        if head.weight is not backbone.get_input_embeddings().weight:
            head.requires_grad_(False)  # it takes no part in a value
        return ValueHead(size, backbone=backbone)
    return ValueHead(size)
