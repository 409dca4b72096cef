"""Tells what the doctor finds while PPO trains: each finding once, when it is first seen.

The rules are :mod:`pipeline.health`'s; nothing here changes the training.
"""

from __future__ import annotations

from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback

from pipeline.health import Doctor, Facts, Finding
from pipeline.health.written_texts import Written


class Watching(TrainerCallback):
    """Feeds each logged row to the rules. Training that continues begins with the rows its checkpoint knows, so
    that what was told before is not told again.

    Args:
        written: what is sampled, before it is logged; without it, what spreads is not named.
    """

    def __init__(self, written: Written | None = None) -> None:
        self.written = written

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.doctor = Doctor(Facts.of_settings(vars(args)), self.written)
        for row in state.log_history:
            self.doctor.take(row)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        new = self.doctor.take(logs or {})
        if state.is_world_process_zero:
            for finding in new:
                tqdm.write(line(finding))


def line(finding: Finding) -> str:
    """What a person who watches needs: what, what to do, and where to read on."""
    since = "" if finding.since is None else f" Since update {finding.since}."
    return (
        f"[ppo] {finding.severity}, {finding.rule}: {finding.what}{since}\n      {finding.change} ({finding.link})"
    )
