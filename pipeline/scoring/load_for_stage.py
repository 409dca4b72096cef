"""Load the models of a stage: base and policy, and the scorer that the config describes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

import torch
from torch import nn

from pipeline.modeling.lora import fuse_lora
from pipeline.modeling.roles import Role, load_policy
from pipeline.modeling.types import CausalLM, Device, Tokenizer
from pipeline.scoring.build_scorer import ScorerContext, build
from pipeline.scoring.scorer import Scorer
from pipeline.workflow.graph import trains_reward
from pipeline.workflow.stage import Run


def load_sides(run: Run, directory: Path, device: Device, dtype: torch.dtype) -> tuple[Role, Role, Tokenizer]:
    """The base, the policy in ``directory`` (an adapter shares the base's model), and their tokenizer.

    Args:
        dtype: of base and activations; LoRA stays fp32.
    """
    return load_models(run.base, directory, device, dtype)


def load_models(
    source: tuple[str, str | None], directory: Path, device: Device, dtype: torch.dtype
) -> tuple[Role, Role, Tokenizer]:
    """:func:`load_sides` of a base that is named: (directory or Hub id, revision)."""
    model, tokenizer = load_policy(*source, directory, dtype)
    cast("nn.Module", model).to(device)
    if hasattr(model, "peft_config"):
        fuse_lora(cast("nn.Module", model))
        return Role(model), Role(model, "policy"), tokenizer
    base = load_policy(*source, dtype=dtype)[0]
    return Role(cast("CausalLM", cast("nn.Module", base).to(device))), Role(model), tokenizer


def scorer_context(run: Run, model: CausalLM, tokenizer: Tokenizer, device: Device) -> ScorerContext:
    """The context of the stage's scorers."""
    return ScorerContext(
        where=str(run.config.path),
        device=device,
        resolve=run.store.find_version,
        model=model,
        tokenizer=tokenizer,
        base=run.base,
    )


def scorer(
    run: Run,
    model: CausalLM,
    tokenizer: Tokenizer,
    device: Device,
    task: object,
    key: Literal["reward", "check"] = "reward",
) -> Scorer:
    """The scorer of ``ppo.reward`` or ``ppo.check``; ``task`` is asked for its ``rewards`` where they say so."""
    section = run.config.ppo
    adapter_dir = run.version("reward").path if trains_reward(run.config) else None
    return build(
        section.check if key == "check" else section.reward,
        replace(
            scorer_context(run, model, tokenizer, device),
            adapter_dir=adapter_dir,
            rewards=getattr(task, "rewards", None),
        ),
        key=f"ppo.{key}",
        combine=section.reward_combine if key == "reward" else None,
        std_coef=section.reward_std_coef,
    )
