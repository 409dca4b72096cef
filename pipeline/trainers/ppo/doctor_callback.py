"""Print the doctor's findings while PPO trains, each once. It changes nothing in the training."""

from __future__ import annotations

from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pipeline.health import Doctor, Facts, Finding
from pipeline.health.written_texts import Written


class DoctorCallback(TrainerCallback):
    """Feeds each logged row to the rules of :mod:`pipeline.health`.

    Resumed training first feeds the rows in its checkpoint, so no finding is printed twice.

    Args:
        written: the sampled texts, stored before their row is logged; without them a finding quotes no sentence.
    """

    def __init__(self, written: Written | None = None) -> None:
        self.written = written

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.doctor = Doctor(Facts.of_settings(vars(args)), self.written)
        for row in state.log_history:
            self.doctor.take(row)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        new = self.doctor.take(logs or {})
        if state.is_world_process_zero:
            for finding in new:
                tqdm.write(line(finding))


def line(finding: Finding) -> str:
    """The finding, the advice, and a link."""
    since = "" if finding.since is None else f" Since update {finding.since}."
    return (
        f"[ppo] {finding.severity}, {finding.rule}: {finding.what}{since}\n      {finding.change} ({finding.link})"
    )
