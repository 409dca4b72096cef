"""A task for chat models: short requests of everyday life, answered in a few words. Needs no download.

The requests, written for this task, are in ``requests.tsv``: 50 of each of 14 domains, a fifth of them held out.
The gold score is in :mod:`pipeline.tasks.truths.clear_reply`.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pipeline.base.errors import ConfigError
from pipeline.formats.messages import Message
from pipeline.tasks import Split
from pipeline.tasks._chat import chat_render
from pipeline.tasks._pool import PromptPool
from pipeline.tasks.truths.clear_reply import CLEAR_REPLY_NAME, clear_replies

REQUESTS = Path(__file__).with_name("requests.tsv")


@dataclass
class Task:
    """Requests as a chat template writes them: a system turn, if any, the user's, and the opening of the reply.

    Args:
        completion_tokens: most tokens in a reply.
        chat_template: ``base``, or a tokenizer (directory or Hub id), whose chat template writes the turns; None
            writes them out plainly, for a base that is no chat model.
        system: the system turn; None leaves it to the template, whose own some insert.
        domains: of these only, such as ``[food, pets]``.
    """

    completion_tokens: int = 40
    chat_template: str | None = None
    system: str | None = None
    domains: list[str] | None = None
    gold_name: str | None = field(init=False, default=CLEAR_REPLY_NAME)

    def corpus(self, seed: int) -> None:
        """There is none: a chat model answers as it is."""

    def prompts(self, split: Split, n: int | None, seed: int) -> Sequence[str]:
        """See :class:`pipeline.tasks.Task`."""
        return self._pool.draw(split, n, seed)

    def gold_scores(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        """The worth of a reply to the request alone: :func:`pipeline.tasks.truths.clear_reply.clear_reply`."""
        return clear_replies([self._request(prompt) for prompt in prompts], completions)

    @cached_property
    def _rows(self) -> list[dict[str, str]]:
        with REQUESTS.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        known = list(dict.fromkeys(row["domain"] for row in rows))
        if missing := [domain for domain in self.domains or known if domain not in known]:
            mend = f"Choose of: {', '.join(known)}."
            raise ConfigError("task_args.domains", f'"{missing[0]}" is not a domain.', mend)
        return [row for row in rows if self.domains is None or row["domain"] in self.domains]

    @cached_property
    def _pool(self) -> PromptPool:
        render = chat_render(self.chat_template)
        before: list[Message] = [] if self.system is None else [{"role": "system", "content": self.system}]
        sides: dict[str, list[str]] = {"train": [], "test": []}
        for row in self._rows:
            turns: list[Message] = [*before, {"role": "user", "content": row["request"]}]
            sides[row["split"]].append(render(turns, "")[0])
        return PromptPool(sides["train"], sides["test"])

    @cached_property
    def _longest_first(self) -> list[str]:
        return sorted((row["request"] for row in self._rows), key=len, reverse=True)

    def _request(self, prompt: str) -> str:
        """The request in a prompt; one that is not ours counts as a whole."""
        return next((request for request in self._longest_first if request in prompt), prompt)
