"""An example of a task, to be changed into yours: sentences that should give a reason.

A task is a dataclass ``Task`` in a module that a config names by its dotted path, ``task: my.task``. The prompts
are the lines of prompts.txt beside this file. docs/plugins.md says what each method is asked for.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.base.records import split_of

REASONS = [
    " because it never breaks",
    " because my mother likes it",
    " because of its colour",
    " because it was cheap",
]
TIMES = [" on Monday", " in the spring", " last year", " this morning"]


@dataclass
class Task:
    """Continue a prompt with a reason.

    Args:
        file: the prompts, one in a line.
        test_share: share of the prompts that are only tested on.
        completion_tokens: most tokens in a completion.
    """

    file: str = str(Path(__file__).with_name("prompts.txt"))
    test_share: float = 0.25
    completion_tokens: int = 16
    gold_name: str = "gives a reason (0 or 1)"

    def corpus(self, seed: int) -> list[str]:
        """Texts for a small base from scratch; with ``base_model`` in the config, return None instead."""
        draw = random.Random(seed)
        prompts = self.prompts("train", None, seed)
        return [draw.choice(prompts) + draw.choice([*REASONS, *TIMES]) + "." for _ in range(3000)]

    def prompts(self, split: Literal["train", "test"], n: int | None, seed: int) -> list[str]:
        """``n`` prompts of a split in the seed's order, again from the start if there are fewer; None: all."""
        lines = dict.fromkeys(Path(self.file).read_text(encoding="utf-8").splitlines())
        chosen = [line for line in lines if line.strip() and split_of(line, self.test_share) == split]
        random.Random(f"{seed} {split}").shuffle(chosen)
        wanted = len(chosen) if n is None else n
        return (chosen * (1 + wanted // len(chosen)))[:wanted]

    def gold_scores(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        """How good each completion is: here, whether it gives one of the reasons and then ends."""
        return [float(any(text == f"{reason}." for reason in REASONS)) for text in completions]
