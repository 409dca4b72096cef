"""Write tokenizers, models and adapter configs so that earlier transformers and peft read them rightly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel

from pipeline.modeling.types import Tokenizer
from pipeline.store.portable_files import portable_adapter, portable_model, portable_tokenizer

if TYPE_CHECKING:
    from peft import LoraConfig


def save_tokenizer(tokenizer: Tokenizer, directory: Path) -> None:
    """Write a tokenizer that transformers 4 opens too."""
    tokenizer.save_pretrained(str(directory))
    path = directory / "tokenizer_config.json"
    _write(path, portable_tokenizer(_read(path), tokenizer.model_input_names))


def save_model_files(model: PreTrainedModel, directory: Path) -> None:
    """Write a whole model, with the keys of its config that earlier readers look for."""
    model.save_pretrained(directory)
    path = directory / "config.json"
    _write(path, portable_model(_read(path)))


def adapter_settings(config: LoraConfig) -> dict[str, Any]:
    """The settings of an adapter that earlier peft reads as they are meant."""
    from peft import LoraConfig

    settings = portable_adapter(config.to_dict(), LoraConfig().to_dict())
    # PEFT keeps the target modules in a set, whose order changes from process to process.
    return {k: sorted(v) if isinstance(v, set) else v for k, v in settings.items()}


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
