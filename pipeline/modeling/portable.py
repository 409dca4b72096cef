"""Write tokenizers, models and adapter configs so that earlier transformers and peft read them as they are meant.

Measured with transformers 4.46.3, 4.57.6 and 5.23.0, peft 0.10 to 0.21; docs/loaders.md has the table.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from transformers import PreTrainedModel

from pipeline.modeling.types import Tokenizer

if TYPE_CHECKING:
    from peft import LoraConfig

ADAPTER_KEYS = frozenset(
    [
        *("peft_type", "task_type", "base_model_name_or_path", "revision", "inference_mode"),
        *("r", "lora_alpha", "lora_dropout", "target_modules", "fan_in_fan_out", "bias"),
        *("modules_to_save", "layers_to_transform"),
    ]
)
"""Keys that every peft since 0.10 knows. They are written also where they have their default."""


def save_tokenizer(tokenizer: Tokenizer, directory: Path) -> None:
    """Write a tokenizer that transformers 4 opens too.

    Transformers 5 names the class ``TokenizersBackend`` and lists further special tokens as
    ``extra_special_tokens``; transformers 4 knows no such class, and expects a dictionary under that key. Of the
    class that it does know it gives ``token_type_ids`` too, unless told which inputs there are, and GPT-2 adds the
    embedding of token 0 to every position for them.
    """
    tokenizer.save_pretrained(str(directory))
    path = directory / "tokenizer_config.json"
    saved = _read(path)
    if saved.get("tokenizer_class") == "TokenizersBackend":
        saved["tokenizer_class"] = "PreTrainedTokenizerFast"
        saved["model_input_names"] = list(tokenizer.model_input_names)
    if isinstance(extra := saved.get("extra_special_tokens"), list):
        saved["additional_special_tokens"] = extra
        del saved["extra_special_tokens"]
    for key in ("is_local", "local_files_only"):  # how it was loaded here
        saved.pop(key, None)
    _write(path, saved)


def save_model_files(model: PreTrainedModel, directory: Path) -> None:
    """Write a whole model, with the keys of its config that earlier readers look for."""
    model.save_pretrained(directory)
    path = directory / "config.json"
    _write(path, with_earlier_keys(_read(path)))


def with_earlier_keys(config: dict[str, Any]) -> dict[str, Any]:
    """The ``config`` of a model, with the keys that transformers 5 renamed under their earlier names too.

    Transformers 4 reads the base of rotary positions from ``rope_theta`` alone and otherwise takes 10000,
    without a warning. llama.cpp's converter reads GPT-2's positions from ``n_ctx``.
    """
    earlier: dict[str, Any] = {}
    rope = config.get("rope_parameters")
    # Where each kind of layer has its own parameters, transformers 4 has a key of its own for each model.
    if isinstance(rope, dict) and "rope_theta" in rope:
        rope = cast("dict[str, Any]", rope)
        earlier |= {k: rope[k] for k in ("rope_theta", "partial_rotary_factor") if k in rope}
        if rope.get("rope_type", "default") != "default":
            earlier["rope_scaling"] = {k: v for k, v in rope.items() if k not in earlier}
    if config.get("model_type") == "gpt2":
        earlier["n_ctx"] = config["n_positions"]
    return {**config, **earlier}


def adapter_settings(config: LoraConfig) -> dict[str, Any]:
    """The settings of an adapter without those that peft 0.10 to 0.21 would assume anyway.

    Peft before 0.14 raises for a key that it does not know; peft 0.14 under transformers loses every setting then
    and takes its defaults instead, without a word.
    """
    from peft import LoraConfig

    settings, defaults = config.to_dict(), LoraConfig().to_dict()
    kept = {k: v for k, v in settings.items() if k in ADAPTER_KEYS or v != defaults.get(k)}
    kept.pop("peft_version", None)
    # PEFT keeps the target modules in a set, whose order changes from process to process.
    return {k: sorted(v) if isinstance(v, set) else v for k, v in kept.items()}


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
