"""Time a transformers ``Trainer`` from the end of its construction to its last step, ours and TRL's alike."""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, trainer

from tests.bench.harness import Case

clock: Callable[[], float] = time.perf_counter
"""What a training is timed by."""


class StepClock(TrainerCallback):
    """Records when the newest trainer was ready and when it had trained.

    What comes before (reading the base, tokenising) and after (the held-out loss, checks) is once a run, the steps
    are most of it. transformers gives every trainer this callback, so no trainer has to be asked to take it.
    """

    def __init__(self) -> None:
        self.started = self.seconds = 0.0

    def on_init_end(self, *_: Any, **__: Any) -> None:
        self.started = clock()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.seconds = clock() - self.started


def training_seconds(work: Callable[[], object]) -> float:
    """Run ``work``, in which one trainer trains; the seconds of its training."""
    clock = StepClock()
    trainer.DEFAULT_CALLBACKS.append(clock)  # pyright: ignore[reportArgumentType]
    try:
        with redirect_stdout(io.StringIO()):  # transformers prints every logged row
            work()
    finally:
        trainer.DEFAULT_CALLBACKS.remove(clock)  # pyright: ignore[reportArgumentType]
    if not clock.seconds:
        raise RuntimeError("no trainer has trained")
    return clock.seconds


class TrainerCase(Case):
    """One epoch of a trainer, made anew each time.

    Attributes:
        settings: arguments of the trainer, whichever it is.
    """

    def __init__(self, out: Path, bf16: bool, rows: int) -> None:
        self.out = out
        self.settings: dict[str, Any] = {
            "report_to": "none", "use_cpu": True, "bf16": bf16, "disable_tqdm": True,
            "gradient_checkpointing": False, "save_strategy": "no", "logging_steps": 10,
            "dataloader_pin_memory": False, "learning_rate": 1e-4, "num_train_epochs": 1,
            "per_device_train_batch_size": rows,
        }  # fmt: skip

    def run(self) -> float:
        with tempfile.TemporaryDirectory(dir=self.out) as directory:  # a trainer goes on from checkpoints it finds
            return training_seconds(lambda: self.train(self.settings | {"output_dir": directory}))

    def warm(self) -> None:
        """One step."""
        with tempfile.TemporaryDirectory(dir=self.out) as directory:
            training_seconds(lambda: self.train(self.settings | {"output_dir": directory, "max_steps": 1}))

    def train(self, settings: dict[str, Any]) -> None:
        """Train with these settings."""
        raise NotImplementedError
