"""What several stages load in the same way: the policy, and the scorer that the config asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pipeline.modeling.roles import Role, load_policy
from pipeline.scoring.build_scorer import build
from pipeline.scoring.scorer import Scorer
from pipeline.workflow.graph import trains_reward
from pipeline.workflow.stage import Run


def load_sides(run: Run, directory: Path, device: Any) -> tuple[Role, Role, Any]:
    """The base and the policy in ``directory``, one model where the policy is an adapter; and their tokenizer."""
    model, tokenizer = load_policy(*run.base, directory)
    model.to(device)
    if hasattr(model, "peft_config"):
        return Role(model), Role(model, "policy"), tokenizer
    return Role(load_policy(*run.base)[0].to(device)), Role(model), tokenizer


def scorer(
    run: Run, model: Any, tokenizer: Any, device: Any, key: Literal["reward", "check"] = "reward"
) -> Scorer:
    """The scorer of ``ppo.reward`` or ``ppo.check``."""
    ppo = run.config.ppo

    return build(
        ppo.check if key == "check" else ppo.reward,
        model=model,
        tokenizer=tokenizer,
        adapter_dir=run.version("reward").path if trains_reward(run.config) else None,
        where=str(run.config.path),
        key=f"ppo.{key}",
        device=device,
        resolve=run.store.find_version,
        combine=ppo.reward_combine if key == "reward" else None,
        std_coef=ppo.reward_std_coef,
        base=run.base,
    )
