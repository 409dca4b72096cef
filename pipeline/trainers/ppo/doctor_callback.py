"""Print the doctor's findings while PPO trains: each once, when it is first seen.

The rules are :mod:`pipeline.health`'s; nothing here changes the training.
"""

from __future__ import annotations

from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pipeline.health import Doctor, Facts, Finding
from pipeline.health.written_texts import Written


class DoctorCallback(TrainerCallback):
    """Feeds each logged row to the rules. Training that continues begins with the rows in its checkpoint, so that
    no finding is printed twice.

    Args:
        written: the sampled texts, kept before their row is logged; without them a finding names no sentence.
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
    """The finding, what to do about it, and where to read on."""
    since = "" if finding.since is None else f" Since update {finding.since}."
    return (
        f"[ppo] {finding.severity}, {finding.rule}: {finding.what}{since}\n      {finding.change} ({finding.link})"
    )
