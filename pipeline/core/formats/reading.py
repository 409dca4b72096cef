"""What besides the format decides how rows are read, and what several formats do in the same way."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.core.formats.choices import known_side, plain_word, verdict
from pipeline.core.formats.judged import JudgedRow, Refused, Row, Unusable, is_person, judged, person, text
from pipeline.core.formats.label_config import LabelConfig
from pipeline.core.formats.messages import Render, answered, is_conversation, messages, render_plain
from pipeline.core.records import Choice

__all__ = ["Reading", "annotator", "as_given", "known_side", "plain_word", "ranked", "side"]


@dataclass(frozen=True)
class Reading:
    """How rows are read.

    Args:
        render: turns messages into text; pass one that uses a tokenizer's chat template.
        columns: ``{our name: their name}``.
        salt: goes into the ids that stand for annotators' names; see :func:`pipeline.core.formats.judged.person`.
        pairs: of a rating or ranking of several completions: every pair, or the best against the worst one.
        min_score_ratio: of SHP, the least ``score_ratio`` that is read.
        choices: ``{their value: a, b, tie, both_bad or skip}``; no other value is taken where there is one.
        label_config: of a Label Studio project, which says what was shown on the left.
        drafts: count answers that nobody submitted, or of which a file does not say it, as Argilla's JSON does.
        no_choice: what somebody meant who submitted without choosing: a tie, or nothing (left out and counted).
        notices: what was assumed, one line each, in the order it came up; for whoever reports on the reading.
    """

    render: Render = render_plain
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    salt: str = ""
    pairs: Literal["all", "best_worst"] = "all"
    min_score_ratio: float | None = None
    choices: Mapping[str, str] = field(default_factory=dict[str, str])
    label_config: LabelConfig | None = None
    drafts: Literal["refuse", "count"] = "refuse"
    no_choice: Literal["skip", "tie"] = "skip"
    notices: dict[str, None] = field(default_factory=dict[str, None], compare=False)

    def notice(self, line: str) -> None:
        """Keep a line about how rows are read; each once."""
        self.notices.setdefault(line)


def annotator(row: Row, how: Reading) -> str | None:
    """Who chose, from a column ``annotator``: an id of ours, or any name in the column that ``columns`` names.

    Otherwise it is what a column of that name happens to hold, such as ``oracle`` in our own versions.
    """
    name = row.get("annotator")
    return person(name, how.salt) if "annotator" in how.columns or is_person(name) else None


def as_given(prompt: Any, completions: Sequence[tuple[str, Any]], how: Reading) -> tuple[str, list[str]]:
    """Prompt and completions (name, value) as texts; written out only where the prompt is messages."""
    if not is_conversation(prompt):
        return text(prompt, "prompt"), [text(value, name) for name, value in completions]
    turns = messages(prompt, "prompt")
    written = [answered(turns, text(value, name), name, how.render) for name, value in completions]
    return written[0][0], [said for _, said in written]


def side(value: Any, name: str, how: Reading, names: tuple[str, str] = ("completion_a", "completion_b")) -> Choice:
    """:func:`pipeline.core.formats.choices.verdict` of a cell, where ``name`` and ``names`` are our columns.

    Raises:
        Refused: an unknown word, or none.
        Unclear: a value that only the user can explain.
    """
    one, other = (how.columns.get(ours, ours) for ours in names)
    return verdict(value, how.columns.get(name, name), (one, other), how.choices)


def ranked(
    prompt: str, scored: Sequence[tuple[str, float]], how: Reading, keep_scores: bool = False, **known: Any
) -> list[JudgedRow | Unusable]:
    """The pairs of completions of one prompt with scores, higher better. Equal scores are a tie."""
    pairs = list(itertools.combinations(scored, 2))
    if how.pairs == "best_worst" and pairs:
        order = sorted(scored, key=lambda s: -s[1])  # stable: of equal ones, the first
        pairs = [(order[0], order[-1])]
    found: list[JudgedRow | Unusable] = []
    for (a, score_a), (b, score_b) in pairs:
        choice: Choice = "a" if score_a > score_b else "b" if score_b > score_a else "tie"
        scores = {"scores": (score_a, score_b)} if keep_scores else {}
        try:
            found.append(judged(prompt, (a, b), choice, ("a completion", "another one"), **scores, **known))
        except Refused as refused:
            found.append(refused.unusable)
    return found
