"""Whether this process is the main one of its stage, and lines for the person who watches the stage."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import TypeVar

from pipeline.base.terminal_text import put

T = TypeVar("T")


def main_process() -> bool:
    """True on the one process that writes."""
    return rank() == 0


def rank() -> int:
    """The rank of this process among those that do this work together."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes do this work together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def say(stage: str, text: str) -> None:
    """A line for the person watching; from the main process only."""
    if main_process():
        put(f"[{stage}] {text}")


def watched(rows: Iterable[T], stage: str, what: str, total: int | None = None) -> Iterator[T]:
    """``rows``, with a line now and then that says how many there were, such as ``2,000,000 rows read``."""
    started = said = time.monotonic()
    for number, row in enumerate(rows, 1):
        yield row
        if number % 1000 == 0 and (now := time.monotonic()) - said > SAY_EVERY:
            of = f" of {total:,}" if total is not None else ""
            say(stage, f"{number:,}{of} {what}, {number / (now - started):,.0f} a second")
            said = now


SAY_EVERY = 30.0
"""Seconds between two lines about work that takes long."""

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
