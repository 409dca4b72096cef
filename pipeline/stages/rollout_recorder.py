"""Write every rollout of PPO to the disk, and measure the completions for the log."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.base.files import disk_errors, write_text
from pipeline.base.process import main_process
from pipeline.base.records import digest
from pipeline.health.written_texts import Written, written
from pipeline.modeling.tokens import decode
from pipeline.modeling.types import Tokenizer
from pipeline.results.metrics import Logged
from pipeline.tasks import Task

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.trainers.ppo.rollout import Rollout

ROLLOUTS = {
    "id": "string",
    "update": "int32",
    "prompt": "string",
    "completion": "string",
    "completion_ids": "list<int32>",
    "ended": "bool",
    "score": "double",
    "kl_k1": "double",
}


class Recorder:
    """Appends rollouts to a file as they are sampled, so that an interrupted run ends with the same rows.

    Attributes:
        written: the completions as the doctor reads them; filled in the main process only.
    """

    def __init__(self, path: Path, task: Task, tokenizer: Tokenizer, prompts: list[str]) -> None:
        self.path, self.task, self.tokenizer, self.prompts = path, task, tokenizer, prompts
        self.written = Written()

    def keep(self, updates: int) -> None:
        """Drop the rows after update ``updates``, whose prompts are sampled again."""
        if not main_process():
            return
        rows = [r for r in self.rows() if r["update"] <= updates]
        self.written = written(rows)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with disk_errors(str(self.path)):
            write_text(self.path, "".join(map(_line, rows)))

    def rows(self) -> Iterator[dict[str, Any]]:
        """All complete rows; the last line may have been cut by a kill."""
        if not self.path.is_file():
            return
        with self.path.open(encoding="utf-8") as file:
            for line in file:
                if not line.endswith("\n"):
                    return
                yield json.loads(line)

    def record(self, update: int, indices: list[int], rollout: Rollout, score: Tensor) -> dict[str, float]:
        """Append one update's rows; returns its diversity metrics and gold score, for the log."""
        completions = rollout.completions()
        prompts = [self.prompts[i] for i in indices]
        texts = [decode(self.tokenizer, ids) for ids in completions]
        kl = ((rollout.old_logprobs - rollout.ref_logprobs) * rollout.completion_mask).sum(1).tolist()
        ended, scores = rollout.ended.tolist(), score.tolist()
        columns = zip(prompts, completions, texts, ended, scores, kl, strict=True)
        lines = [
            _line(
                dict(
                    zip(
                        ROLLOUTS,
                        (digest([update, i, prompt, ids]), update + 1, prompt, text, ids, *rest),
                        strict=True,
                    )
                )
            )
            for i, (prompt, ids, text, *rest) in enumerate(columns)
        ]
        with disk_errors(str(self.path)), self.path.open("a", encoding="utf-8") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        figures = dict(self.written.take(update + 1, prompts, texts, ended, scores))
        gold = self.task.gold_scores(prompts, texts)
        return figures if gold is None else {**figures, Logged.GOLD: sum(gold) / len(gold)}


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"
