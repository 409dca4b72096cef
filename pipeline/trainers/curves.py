"""Print the place of a run's curves in one line, instead of the seven that Trackio prints for each run."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

from pipeline.base.process import say
from pipeline.workflow.experiment import Experiment

if TYPE_CHECKING:
    from transformers import TrainingArguments

STARTED = "* Trackio project initialized: "
ROUTINE = (
    "* Trackio metrics logged to: ",
    "* View dashboard by running in your terminal:",
    '\033[1m\033[38;5;208mtrackio show --project "',
    "* or by running in Python: trackio.show(",
    "* psutil detected, enabling automatic ",
    "* NVIDIA GPU detected, enabling automatic ",
    "* Apple Silicon detected, enabling automatic ",
    "* Created new run: ",
    "* Resumed existing run: ",
    "* Run finished. Uploading logs to Trackio",
)
"""The lines that Trackio prints about every run that stays on this machine."""


def announce_curves(config: Experiment, stage: str, args: TrainingArguments) -> None:
    """Prefix Trackio's lines with the stage, and drop the routine ones; its warnings stay.

    Args:
        args: the stage's training arguments; without ``trackio`` among its trackers nothing is done.
    """
    if "trackio" not in (args.report_to or []):
        return
    import trackio
    import trackio.run
    import trackio.utils

    remote = args.trackio_space_id or os.environ.get("TRACKIO_SPACE_ID") or os.environ.get("TRACKIO_SERVER_URL")
    shown = f"make dashboard CONFIG={config.path}"
    if args.project != config.name:
        shown = f'trackio show --project "{args.project}"'
    line = None if remote else f"curves: {shown} (kept in {trackio.utils.TRACKIO_DIR})"
    for module in (trackio, trackio.run, trackio.utils):
        # Trackio calls print, also when Python exits; a name in the module shadows the builtin.
        vars(module)["print"] = functools.partial(relay, stage, line)


def relay(stage: str, curves: str | None, *parts: object, **_: Any) -> None:
    """Print a line of Trackio's, or ``curves`` at the start of a run.

    Args:
        curves: the line that replaces the routine ones; None prints all, for a run on a server.
    """
    text = " ".join(map(str, parts))
    if curves is None or not text.startswith((STARTED, *ROUTINE)):
        say(stage, f"trackio: {text.removeprefix('* ')}")
    elif text.startswith(STARTED):
        say(stage, curves)
