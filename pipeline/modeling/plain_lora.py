"""Refuse adapters that are more than plain LoRA: roles would read them in part."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from peft import LoraConfig, PeftModel

from pipeline.base.errors import ModelError

_PLAIN = frozenset(
    [
        *("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
        *("inference_mode", "r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules"),
        *("fan_in_fan_out", "layers_to_transform", "layers_pattern", "modules_to_save", "init_lora_weights"),
        *("use_rslora", "rank_pattern", "alpha_pattern", "eva_config", "ensure_weight_tying", "runtime_config"),
    ]
)
"""LoRA's settings under which an adapter is, in each of its layers, one product added to the base's."""

_KEEPS_BASE = (True, False, "gaussian", "orthogonal", "eva")
"""Ways to draw the first weights that leave the base as it is; ``pissa`` and the like take their part out."""

_MERGE = "Pull it, merge it into its base (python -m pipeline merge NAME), and use the merged model."


def require_plain(config: Any, state: dict[str, Any], directory: Path) -> None:
    """Refuse an adapter of which a role would compute something else than PEFT does, without an error.

    Roles share one base, sample from it with B A merged into it, and have no other weights of their own.

    Raises:
        ModelError: see above.
    """
    kind = str(config.peft_type).removeprefix("PeftType.")
    if kind != "LORA":
        raise ModelError(str(directory), f"is an adapter of kind {kind}, and only LoRA is read.", _MERGE)
    default = vars(LoraConfig())
    # What is null, false or empty is off, also where PEFT's own default is {}: others write "loftq_config": null.
    other = [f for f, value in vars(config).items() if f not in _PLAIN and value and value != default.get(f)]
    if config.init_lora_weights not in _KEEPS_BASE:
        other.append(f"init_lora_weights={config.init_lora_weights}")
    if other:
        raise ModelError(str(directory), f"is no plain LoRA: its config has {', '.join(sorted(other))}.", _MERGE)
    # PEFT writes an embedding or the output layer beside its LoRA; add_role refuses an output layer's LoRA alone.
    known = (".lora_A.", ".lora_B.")
    more = [n for n in state if not any(part in n for part in known) and not n.endswith("score.weight")]
    if more:
        first = more[0].removeprefix("base_model.model.")
        what = f"has {len(more)} weights besides the LoRA of blocks, such as {first}, that would be left out."
        raise ModelError(str(directory), what, _MERGE)


def require_plain_head(model: PeftModel, adapter: str, directory: Path) -> None:
    """Refuse LoRA on the output layer, of whose weight alone roles make logits; one that adds nothing may stay.

    Raises:
        ModelError: see above.
    """
    head = cast("Any", model.get_base_model()).get_output_embeddings()
    up = getattr(head, "lora_B", {})
    if adapter in up and up[adapter].weight.any():
        raise ModelError(str(directory), "has LoRA on the output layer, which would be left out.", _MERGE)
