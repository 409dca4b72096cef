"""Shared by checkpoints of PPO and of TRL's trainers: when one is due, what a damaged one raises, new seeds."""

from __future__ import annotations

import pickle
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments, set_seed

from pipeline.base.errors import StoreError, first_line
from pipeline.base.records import digest

SHARE = 0.02
"""Largest share of the training time that saving may take."""


class SaveInTime(TrainerCallback):
    """Requests a checkpoint every ``least`` seconds, or less often if saving takes more than its ``SHARE``.

    In seconds, not steps, as a kill costs seconds. Training does not depend on it.
    """

    def __init__(self, least: float) -> None:
        self.least, self.took, self.last = least, 0.0, 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.last = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        due = [time.monotonic() - self.last >= max(self.least, self.took / SHARE)]
        if args.world_size > 1:  # clocks differ, and all ranks write or none
            broadcast_object_list(due)
        if due[0]:
            control.should_save = True

    def wrote(self, seconds: float) -> None:
        """Record the time that a checkpoint took, and start counting from now."""
        self.took, self.last = seconds, time.monotonic()


def seed_anew(seed: int, step: int, rank: int) -> None:
    """Seed all generators for a run that goes on with another number of ranks, whose states would not go round."""
    set_seed(int(digest([seed, step, rank])[:8], 16))


@contextmanager
def readable(checkpoint: Path | str | None) -> Generator[None]:
    """Turn the errors of a checkpoint's readers into a StoreError of one line."""
    wrong = (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError, SafetensorError)
    mend = "Remove it to continue from the one before, or start over: add --fresh."
    try:
        yield
    except StoreError as err:
        raise StoreError(err.where, err.what, mend) from err
    except wrong as err:
        raise StoreError(str(checkpoint), f"is damaged: {first_line(err)}.", mend) from err
