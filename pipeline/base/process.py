"""This process among those that do a stage's work together, and what it tells the person watching."""

from __future__ import annotations

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


def quiet() -> None:
    """Keep what libraries say about their own future off the screen; what concerns the user is said by stages."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    for name in ("HF_HUB_DISABLE_TELEMETRY", "TRL_EXPERIMENTAL_SILENCE", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(name, "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
