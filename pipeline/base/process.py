"""This process among those that do a stage's work together, and what it tells the person watching."""

from __future__ import annotations

import logging
import os
import warnings

from pipeline.base.terminal_text import put


def main_process() -> bool:
    """True on the one process that writes."""
    return int(os.environ.get("RANK", "0")) == 0


def world_size() -> int:
    """How many processes do this work together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def say(stage: str, text: str) -> None:
    """A line for the person watching; from the main process only."""
    if main_process():
        put(f"[{stage}] {text}")


ROUTINE = {
    "transformers.modeling_utils": "We strongly recommend passing in an `attention_mask`",
    "transformers.tokenization_utils_base": "Token indices sequence length is longer than the specified maximum",
    "transformers.trainer_utils": "Warning: The following arguments do not match the ones in",
}
"""What libraries log, by logger, about what this package does itself: cut and pad texts, compare a checkpoint's
settings."""
LIBRARIES = r"(accelerate|datasets|huggingface_hub|peft|tokenizers|torch|transformers|trl)(\.|$)"


def quiet() -> None:
    """Silence what libraries say about each other's future; what concerns the user's input or code is shown."""
    for name in ("HF_HUB_DISABLE_TELEMETRY", "TRL_EXPERIMENTAL_SILENCE", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(name, "1")
    warnings.filterwarnings("ignore", category=FutureWarning, module=LIBRARIES)
    for name, beginning in ROUTINE.items():
        logging.getLogger(name).addFilter(lambda r, start=beginning: not r.getMessage().startswith(start))


def accept_deprecations() -> None:
    """Silence the notices about old names that this package, PEFT and TRL use of versions pyproject allows."""
    renamed = r"`(is_)?gradient_checkpointing(_kwargs)?` is deprecated and will be removed in v6"
    warnings.filterwarnings("ignore", renamed, FutureWarning)
    warnings.filterwarnings("ignore", r"You are importing from 'trl\.experimental'", UserWarning)
