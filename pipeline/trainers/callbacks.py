"""Callbacks of the trainers: metrics.jsonl, the end of a run that diverges, the progress bar."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.utils import logging

from pipeline.base.errors import ModelError
from pipeline.base.files import disk_errors
from pipeline.modeling.weights import non_finite


class MetricsFile(TrainerCallback):
    """Appends every logged row to ``metrics.jsonl``, from the main process.

    Resumed training starts the file with the rows in its checkpoint; later rows are logged again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.is_world_process_zero:
            with disk_errors(str(self.path)):
                self.path.write_text("".join(_line(row) for row in state.log_history), encoding="utf-8")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if state.is_world_process_zero and logs:
            with disk_errors(str(self.path)), self.path.open("a", encoding="utf-8") as out:
                out.write(_line({"step": state.global_step, **logs}))


class StopDiverged(TrainerCallback):
    """Ends training at the first logged step whose trained weights are not finite."""

    def __init__(self, stage: str) -> None:
        self.stage = stage

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        trained = ((n, p) for n, p in kwargs["model"].named_parameters() if p.requires_grad)
        if (name := non_finite(trained)) is not None:
            raise ModelError(
                f"{self.stage}, step {state.global_step}",
                f"training has diverged: the weights {name} hold NaN or infinity.",
                diverged_advice(self.stage),
            )


def diverged_advice(stage: str) -> str:
    """The advice for a run whose weights are no longer finite."""
    return f"Lower {stage}.learning_rate or raise {stage}.warmup_steps, and start over: add --fresh."


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, sort_keys=True) + "\n"


class ProgressBar(ProgressCallback):
    """A progress bar with a few of the figures; metrics.jsonl and the trackers have all."""

    SHOWN = ("loss", "accuracy")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        shown = {key: f"{logs[key]:.3g}" for key in self.SHOWN if logs and key in logs}
        if shown and self.training_bar is not None:
            self.training_bar.set_postfix(shown)


@contextmanager
def closed_bar(trainer: Trainer) -> Generator[None]:
    """Close the progress bar if training ends in an error, so that the message gets a line of its own."""
    try:
        yield
    except BaseException:
        for callback in trainer.callback_handler.callbacks:
            if (bar := getattr(callback, "training_bar", None)) is not None:
                bar.close()
        raise


def show_progress(trainer: Trainer) -> None:
    """Replace the bar that prints every logged dictionary; a run with ``disable_tqdm`` keeps these.

    Writing a checkpoint has no bar of its own, which would break this one.
    """
    logging.disable_progress_bar()
    if not trainer.args.disable_tqdm:
        trainer.remove_callback(ProgressCallback)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(ProgressBar)
