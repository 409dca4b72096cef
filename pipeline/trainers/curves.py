"""Trackio says where a run's curves are in one line of ours, instead of the seven it prints for each run."""

from __future__ import annotations

import functools
import os
from typing import Any

from pipeline.base.process import say
from pipeline.workflow.experiment import Experiment

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
"""What it prints about every run that it keeps on this machine, from which nothing is uploaded."""


def announce_curves(config: Experiment, stage: str, args: Any) -> None:
    """Let Trackio print as the stage does; anything but routine passes, such as its warnings.

    Args:
        args: the stage's training arguments; nothing is done where ``trackio`` is not among its trackers.
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
        # Its lines are plain calls of print, some of them when Python exits: the module's own name comes first.
        vars(module)["print"] = functools.partial(relay, stage, line)


def relay(stage: str, curves: str | None, *parts: object, **_: Any) -> None:
    """Say one line of Trackio's.

    Args:
        curves: what to say at the start of a run that is kept on this machine; None where it goes elsewhere, of
            which every line is shown.
    """
    text = " ".join(map(str, parts))
    if curves is None or not text.startswith((STARTED, *ROUTINE)):
        say(stage, f"trackio: {text.removeprefix('* ')}")
    elif text.startswith(STARTED):
        say(stage, curves)
