"""LoRA adapters: build the settings, add a trained one to a base as a role, save one in Hub format."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from peft import LoraConfig, PeftModel
from torch import Tensor, nn

from pipeline.base.errors import ModelError, first_line
from pipeline.modeling.plain_lora import require_plain, require_plain_head
from pipeline.modeling.portable import adapter_settings, save_tokenizer
from pipeline.modeling.types import CausalLM, Tokenizer
from pipeline.modeling.weights import non_finite

if TYPE_CHECKING:
    from peft.tuners.lora import Linear
    from transformers import PreTrainedModel


def lora_config(
    model: CausalLM,
    *,
    r: int,
    alpha: int,
    dropout: float,
    target_modules: list[str] | None,
    task_type: str,
    first_layer: int = 0,
) -> LoraConfig:
    """A PEFT ``LoraConfig`` for ``model``; every linear layer of the blocks for ``target_modules`` None.

    PEFT's own default for GPT-2 is ``c_attn`` alone.

    Args:
        first_layer: the lowest block that gets an adapter.
    Raises:
        ModelError: a target module that the model does not have, or its output layer.
    """
    from peft import LoraConfig
    from transformers.pytorch_utils import Conv1D

    names = {n.rsplit(".", 1)[-1]: m for n, m in model.named_modules() if _is_linear(m)}
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    inner = sorted(n for n, m in names.items() if m is not head and n != "score")
    targets = target_modules or inner
    if refused := [t for t in targets if t not in inner]:
        # Scores of tokens are computed with the base's own output weight, and a score head is trained whole.
        what = "is its output" if refused[0] in names else "is no linear layer of it"
        raise ModelError(
            f"lora_target_modules {refused}",
            f'"{refused[0]}" {what}: {type(model).__name__} is adapted within its blocks.',
            f"Name some of: {', '.join(inner)}",
        )
    return LoraConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=targets,
        fan_in_fan_out=any(isinstance(names[t], Conv1D) for t in targets),
        task_type=task_type,
        modules_to_save=["score"] if task_type == "SEQ_CLS" else None,
        layers_to_transform=_from_layer(model, first_layer),
    )


def fuse_lora(model: nn.Module) -> None:
    """Let PEFT's LoRA layers add their update in one product, in the dtype of the states.

    PEFT casts the states to LoRA's fp32, scales the update and adds it: three passes over the widest activations,
    4 % of a fp32 minibatch at 124M and 14 % of a bf16 one. Here the scale goes into B. LoRA's weights and the sums
    of their gradients stay fp32. Anything but one plain adapter on a linear layer runs PEFT's own code.
    """
    from peft.tuners.lora import Linear

    for layer in model.modules():
        if type(layer) is Linear and "forward" not in vars(layer):
            layer.forward = partial(_lora_forward, layer)


def _lora_forward(layer: Linear, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    active = layer.active_adapters
    name = active[0] if len(active) == 1 and active[0] in layer.lora_A else None
    special = args or kwargs or layer.disable_adapters or layer.merged or layer.lora_variant
    if name is None or special or type(layer.lora_dropout[name]) is not nn.Identity or layer.lora_bias[name]:
        return type(layer).forward(layer, x, *args, **kwargs)
    result = layer.base_layer(x)
    down = cast("Tensor", layer.lora_A[name].weight).to(x.dtype)
    up = (cast("Tensor", layer.lora_B[name].weight) * layer.scaling[name]).to(x.dtype)
    flat = torch.addmm(result.reshape(-1, result.shape[-1]), x.reshape(-1, x.shape[-1]) @ down.T, up.T)
    return flat.view(result.shape)


@torch.no_grad()
def merge_into(base: PreTrainedModel, adapted: PeftModel) -> PreTrainedModel:
    """Add the active LoRA of ``adapted`` to the weights of ``base``, which has its own precision.

    PEFT's own merge of a base that was cast to bf16 would round the update to its eight bits.
    """
    from peft.tuners.lora import Linear

    for name, layer in adapted.get_base_model().named_modules():
        if type(layer) is Linear:
            weight = cast("Tensor", base.get_submodule(name).weight)
            delta = layer.get_delta_weight(cast("str", adapted.active_adapter))
            weight += delta.to(weight)
    return base


def read_adapter(directory: Path) -> tuple[LoraConfig, dict[str, Any]]:
    """The config and the tensors of the adapter in ``directory``.

    Raises:
        ModelError: a file is missing or damaged, a tensor is not finite, or it is no plain LoRA.
    """
    from peft import LoraConfig
    from safetensors.torch import load_file

    name = "adapter_config.json"
    try:
        config = cast("LoraConfig", LoraConfig.from_pretrained(str(directory)))
        name = "adapter_model.safetensors"
        state = load_file(directory / name)
    except Exception as err:  # a damaged file can raise anything
        what = f"its {name} is missing or damaged ({first_line(err)})."
        raise ModelError(str(directory), what, "Download it again, or train it again.") from err
    if (bad := non_finite(state.items())) is not None:
        raise ModelError(str(directory), f"the weights {bad} hold NaN or infinity.", "Train the adapter again.")
    require_plain(config, state, directory)
    return config, state


def with_adapter(model: CausalLM, directory: Path, adapter: str, base: str) -> PeftModel:
    """``model`` as a PEFT model, with a new adapter that has the settings of the one in ``directory``.

    Raises:
        ModelError: the adapter is damaged, or names layers that the base does not have.
    """
    from peft import get_peft_model

    config, _ = read_adapter(directory)
    config.base_model_name_or_path = base
    config.task_type, config.modules_to_save = "CAUSAL_LM", None
    try:
        return get_peft_model(model, config, adapter_name=adapter)
    except (ValueError, TypeError, RuntimeError, AttributeError) as err:
        what = f"its adapter_config.json does not fit this base ({first_line(err)})."
        raise ModelError(str(directory), what, "Train it again.") from err


def with_reward_adapter(model: PreTrainedModel, directory: Path) -> PeftModel:
    """A sequence classifier as a PEFT model with the reward adapter in ``directory``, head included, to train on.

    Raises:
        ModelError: the adapter is damaged, has no head, or does not fit the base.
    """
    from peft import get_peft_model, set_peft_model_state_dict

    config, state = read_adapter(directory)
    config.task_type, config.inference_mode = "SEQ_CLS", False
    config.base_model_name_or_path = None  # PEFT sets the base's, and would warn of another spelling of its path
    try:
        adapted = cast("PeftModel", get_peft_model(model, config))
        result = set_peft_model_state_dict(adapted, state)
    except (ValueError, TypeError, RuntimeError, AttributeError, KeyError) as err:
        what = f"its layers do not fit this base ({first_line(err)})."
        raise ModelError(str(directory), what, "Train it again.") from err
    missing = [name for name in result.missing_keys if ".default" in name]
    if missing or result.unexpected_keys:
        what = f"is no reward adapter of this base, for example by {[*missing, *result.unexpected_keys][0]}."
        raise ModelError(str(directory), what, "Train one on this base: make reward")
    return adapted


def add_role(model: CausalLM, directory: Path, adapter: str) -> dict[str, Any]:
    """Load the adapter in ``directory`` onto the causal LM ``model`` as role ``adapter``, frozen.

    A reward adapter was trained on a sequence classifier over the same base, whose blocks have the same names; a
    causal LM has no score head, so that is returned.

    Returns:
        The file's other tensors, by name.
    Raises:
        ModelError: the adapter is damaged or does not fit the base.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    config, state = read_adapter(directory)
    config.task_type, config.modules_to_save, config.inference_mode = "CAUSAL_LM", None, True
    lora = {k: v for k, v in state.items() if "lora_" in k}
    try:
        if adapter not in model.peft_config:
            cast("PeftModel", model).add_adapter(adapter, config)
        result = set_peft_model_state_dict(model, lora, adapter_name=adapter)
    except (RuntimeError, ValueError) as err:
        raise ModelError(
            str(directory), "the adapter's layers do not fit this base.", "It was trained on another base."
        ) from err
    if result.unexpected_keys:
        raise ModelError(
            str(directory),
            f"the adapter has layers that this base does not have, such as {result.unexpected_keys[0]}.",
            "It was trained on another base.",
        )
    missing = sorted(
        set(get_peft_model_state_dict(model, adapter_name=adapter, save_embedding_layers=False)) - set(lora)
    )
    if missing:
        raise ModelError(
            str(directory),
            f"its adapter_model.safetensors lacks {len(missing)} weights that its adapter_config.json asks for, "
            f"such as {missing[0]}.",
            "They would have their initial values. Train it again.",
        )
    require_plain_head(cast("PeftModel", model), adapter, directory)
    for name, parameter in model.named_parameters():
        if f".{adapter}." in name:
            parameter.requires_grad_(False)
    return {k: v for k, v in state.items() if "lora_" not in k}


def save_adapter(
    model: CausalLM, adapter: str, directory: Path, *, base: str, revision: str | None, tokenizer: Tokenizer
) -> None:
    """Write one adapter as a Hub repository's root: config, safetensors weights, tokenizer. No card.

    Args:
        base: the value of ``base_model_name_or_path``: a Hub id, or a directory's absolute path.
        revision: the base's commit on the Hub.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    state = get_peft_model_state_dict(model, adapter_name=adapter, save_embedding_layers=False)
    save_file(
        {k: v.detach().cpu().contiguous() for k, v in state.items()},
        directory / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )
    settings = adapter_settings(cast("LoraConfig", model.peft_config[adapter]))
    settings |= {"base_model_name_or_path": base, "revision": revision, "inference_mode": True}
    (directory / "adapter_config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    save_tokenizer(tokenizer, directory)


def _from_layer(model: CausalLM, first: int) -> list[int] | None:
    if first == 0:
        return None
    layers = model.config.num_hidden_layers
    if first >= layers:
        raise ModelError(f"trunk_layers {first}", f"leaves none of {layers} blocks to adapt.", "Give fewer.")
    return list(range(first, layers))


def _is_linear(module: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)
