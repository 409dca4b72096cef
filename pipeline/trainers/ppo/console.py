"""Print PPO on the console: a line per update with the same columns every time, and a few of its completions.

All metrics are in metrics.jsonl and in the trackers; docs/metrics.md explains them.
"""

from __future__ import annotations

import math
import shutil
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
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

from pipeline.base.terminal_text import columns, cut, escape_for_terminal, put
from pipeline.labelling.conversation import shown_prompt
from pipeline.modeling.tokens import decode, decode_all
from pipeline.modeling.types import Tokenizer
from pipeline.results.metrics import Logged
from pipeline.scoring.scorer import Samples
from pipeline.trainers.ppo.rollout import Rollout
from pipeline.trainers.ppo.section import PPOSection

HEADER_EVERY = 20
SAMPLES = 3
WIDTH = 115
RECENT = 20
"""Updates whose mean pace gives the time left: the length of completions changes over a run."""

COLUMNS = {
    Logged.SCORES: 9,
    Logged.GOLD: 9,
    Logged.KL: 9,
    Logged.KL_PER_TOKEN: 10,
    Logged.ENTROPY: 9,
    Logged.CLIPPED: 9,
    Logged.CLOSINGS: 9,
    Logged.EXPLAINED: 10,
    Logged.ENDED: 5,
    Logged.LENGTH: 7,
    Logged.SPEED: 9,
}
"""The metrics of a line and their column widths."""
UPDATE_WIDTH, LEFT_WIDTH = 11, 9


@dataclass(frozen=True)
class Sample:
    """One completion with its score, and the judge's where there is one."""

    prompt: str
    completion: str
    score: float
    check: float | None = None


class Console(TrainerCallback):
    """Prints a line per update, from the main process.

    Args:
        samples_every: updates between two prints of completions; 0 for never.
    """

    def __init__(self, samples_every: int) -> None:
        self.samples_every = samples_every
        self.lines = 0
        self.samples: list[Sample] = []
        self.held_out: Sample | None = None
        self.times: deque[tuple[int, float]] = deque(maxlen=RECENT + 1)

    def take(self, update: int, rollout: Rollout, prompts: Sequence[Sequence[int]], tokenizer: Tokenizer) -> None:
        """Keep the first completions of an update until its line is printed; rows are in random order.

        Args:
            update: from 0.
            prompts: ids of the rollout's rows.
        """
        if not self.samples_every or update % self.samples_every:
            return
        rows = zip(prompts[:SAMPLES], rollout.completions(), rollout.score.tolist(), strict=False)
        self.samples = [
            Sample(prompt_text(tokenizer, prompt), decode(tokenizer, completion), score)
            for prompt, completion, score in rows
        ]

    def take_held_out(self, samples: Samples, scores: Sequence[float], checks: Sequence[float]) -> None:
        """Keep the first held-out completion for its line, always of the same prompt."""
        check = checks[0] if checks else None
        prompt = prompt_text(samples.tokenizer, samples.prompt_ids[0])
        self.held_out = Sample(prompt, samples.completions[0], scores[0], check)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.lines = 0
        self.times.clear()
        # The pace is this process's; the updates before a kill do not count.
        self.times.append((state.global_step, time.monotonic()))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if not state.is_world_process_zero:
            return
        logs, width = logs or {}, shutil.get_terminal_size((WIDTH, 24)).columns
        if "update" in logs:
            self.times.append((logs["update"], time.monotonic()))
            if self.lines % HEADER_EVERY == 0:
                for heading in header():
                    put(heading)
            self.lines += 1
            put(line(logs, state.max_steps, self.seconds_left(state.max_steps)))
        if Logged.HELD_SCORES in logs:
            put(held_out_line(logs))
            if self.held_out is not None:
                put(sample_line(self.held_out, width))
        for sample in self.samples:
            put(sample_line(sample, width))
        self.samples = []

    def seconds_left(self, updates: int) -> float | None:
        """Seconds to the last update at the recent pace; None before the second update."""
        (first, began), (last, now) = self.times[0], self.times[-1]
        return None if last == first else (now - began) / (last - first) * (updates - last)


def prompt_text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """A prompt without special tokens; of a conversation the turns, without the words of its template."""
    text = decode_all(tokenizer, ids)
    shown = shown_prompt(text)
    return decode_all(tokenizer, ids, without_special=True) if shown == text else shown


def header() -> tuple[str, str]:
    """The headings, and their units below them."""
    headings = "".join(f"{metric.about.heading:>{width}}" for metric, width in COLUMNS.items())
    units = "".join(
        f"{metric.about.short_unit or metric.about.unit:>{width}}" for metric, width in COLUMNS.items()
    )
    return (
        f"{'update':>{UPDATE_WIDTH}}{headings}{'left':>{LEFT_WIDTH}}",
        f"{'':>{UPDATE_WIDTH}}{units}{'h:min:s':>{LEFT_WIDTH}}",
    )


def line(logs: dict[str, Any], updates: int, seconds_left: float | None) -> str:
    """One update under the :func:`header`; a dash for a metric that was not measured."""
    place = f"{logs['update']}/{updates}"
    left = "-" if seconds_left is None else clock(seconds_left)
    cells = (cell(logs.get(metric), metric) for metric in COLUMNS)
    return f"{place:>{UPDATE_WIDTH}}" + "".join(cells) + f"{left:>{LEFT_WIDTH}}"


def cell(value: float | None, metric: Logged) -> str:
    """A number right-aligned in its column; in scientific notation if it would fill the column."""
    width = COLUMNS[metric]
    if value is None:
        return f"{'-':>{width}}"
    value *= 100 if metric.about.short_unit == "%" else 1
    text = f"{value:.{metric.about.digits}f}"
    if len(text) >= width and math.isfinite(value):
        text = f"{value:.{max(width - 8, 0)}e}"
    elif float(text) == 0:  # -0.0001 is 0.00, not -0.00
        text = text.removeprefix("-")
    return f"{text:>{width}}"


def clock(seconds: float) -> str:
    """``1:02:03``, or ``2:03`` within the hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def held_out_line(logs: dict[str, Any]) -> str:
    """The line of a held-out evaluation."""
    parts = [f"proxy {logs[Logged.HELD_SCORES]:.3f}"]
    if Logged.CHECK in logs:
        error = logs.get(Logged.CHECK_ERROR, math.nan)
        parts.append(f"check {logs[Logged.CHECK]:.3f} (standard error {error:.3f})")
    if Logged.HELD_CLOSINGS in logs:
        left = f" ({logs[Logged.CLOSINGS_LEFT]:.0%})" if Logged.CLOSINGS_LEFT in logs else ""
        parts.append(f"{logs[Logged.HELD_CLOSINGS]:.1f}{left} effective closings")
    parts += [f"KL k1 {logs[Logged.HELD_KL]:.2f} nats", f"{logs[Logged.HELD_LENGTH]:.1f} tokens"]
    return f"{'held out':>{UPDATE_WIDTH}}  " + ", ".join(parts)


def sample_line(sample: Sample, width: int) -> str:
    """One completion in ``width`` columns: score, end of the prompt, start of the completion; both escaped."""
    judged = "" if sample.check is None else f" (check {sample.check:.3f})"
    start = f"{'sample':>{UPDATE_WIDTH}}{cell(sample.score, Logged.SCORES)}{judged}  "
    room = max(width - len(start) - len(" → "), 20)
    prompt, completion = escape_for_terminal(sample.prompt), escape_for_terminal(sample.completion)
    # A short completion leaves more room to the prompt.
    first = cut(prompt, max(room // 3, room - columns(completion)), end=True)
    return f"{start}{first} → {cut(completion, room - columns(first))}"


def add_console(trainer: Trainer, args: PPOSection, updates: int) -> Console | None:
    """Replace the progress bar by a :class:`Console`; a run with ``disable_tqdm`` keeps the plain dictionaries."""
    if args.disable_tqdm:
        return None
    times = args.num_sample_generations
    console = Console(max(1, updates // times) if times > 0 else 0)
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(console)
    return console
