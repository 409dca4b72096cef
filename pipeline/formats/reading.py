"""The options of reading besides the format, and the steps that several formats share."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pipeline.base.records import Choice
from pipeline.formats.cells import no_list
from pipeline.formats.choices import known_side, plain_word, verdict
from pipeline.formats.families.label_config import LabelConfig
from pipeline.formats.judged import (
    JudgedRow,
    Refused,
    Row,
    Unusable,
    absent,
    check_consent,
    is_person,
    judged,
    number,
    person,
    text,
)
from pipeline.formats.messages import Message, Render, answered, is_conversation, messages, render_plain
from pipeline.formats.notices import Notices
from pipeline.sources.row_sources import rename_columns

_NOTHING = ("nan", "NaN", "<NA>", "None", "null", "NULL")

__all__ = ["Reading", "annotator", "as_given", "known_side", "plain_word", "ranked", "side"]


@dataclass(frozen=True)
class Reading:
    """How rows are read.

    Args:
        render: turns messages into text; pass one that uses a tokenizer's chat template.
        columns: ``{our name: their name}``.
        salt: goes into the ids that stand for annotators' names; see :func:`pipeline.formats.judged.person`.
        pairs: of a rating or ranking of several completions: every pair, or the best against the worst one.
        min_score_ratio: of SHP, the least ``score_ratio`` that is read.
        choices: ``{their value: a, b, tie, both_bad or skip}``; no other value is taken where there is one.
        label_config: of a Label Studio project, which says what was shown on the left.
        drafts: count answers that nobody submitted, or of which a file does not say it, as Argilla's JSON does.
        no_choice: what somebody meant who submitted without choosing: a tie, or nothing (left out and counted).
        joined: ``{our name: several of theirs}``, whose texts make one, a blank line between them.
        lists_are_texts: a text that is a list of texts stays one (the user named the format), else it is refused.
        system: of one row, what a column of theirs says before the conversation; see :func:`our_names`.
        notices: what happened to the rows that should be said.
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
    joined: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    lists_are_texts: bool = False
    system: str | None = None
    notices: Notices = field(default_factory=Notices, compare=False)

    def notice(self, line: str) -> None:
        """Keep a line about how rows are read; each once."""
        self.notices.tell(line)


def our_names(row: Row, how: Reading) -> tuple[Row, Reading]:
    """A row under our names, and how to read this one: with its system text, where a column is mapped to it.

    Raises:
        Refused: columns to be joined, or the system column, hold something other than texts; no consent, where a
            column of it is mapped.
    """
    if not how.columns and not how.joined:
        return row, how
    renamed = rename_columns(dict(row), how.columns)
    if "consent" in how.columns:
        check_consent(renamed)
    if how.joined:
        for name in (theirs for several in how.joined.values() for theirs in several):
            renamed.pop(name, None)
        renamed |= {ours: _joined(row, ours, several) for ours, several in how.joined.items()}
    if "system" not in how.columns and "system" not in how.joined:
        return renamed, how
    system = renamed.pop("system", None)
    if absent(system) or not text(system, "system").strip():
        return renamed, how
    no_list(system, "system")
    return renamed, replace(how, system=system, render=_after_system(how.render, system))


def _joined(row: Row, ours: str, several: Sequence[str]) -> str | None:
    there = [(name, row[name]) for name in several if not absent(row.get(name))]
    for name, part in there:
        if is_conversation(part):
            raise Refused(f"{name} is a conversation and cannot be joined; map the text before it to system")
        no_list(text(part, name), name)
    return "\n\n".join(part for _, part in there if part.strip()) if there else None


def _after_system(render: Render, said: str) -> Render:
    def rendered(turns: Sequence[Message], answer: str) -> tuple[str, str]:
        if turns and turns[0]["role"] == "system":
            if turns[0]["content"].strip() != said.strip():
                raise Refused("the system column disagrees with the system turn of the conversation")
            return render(turns, answer)
        return render([{"role": "system", "content": said}, *turns], answer)

    return rendered


def plain(value: object, name: str, how: Reading) -> str:
    """A text that stays as it is. Raises Refused; a list of texts or messages written as text is none."""
    written = text(value, name)
    if written in _NOTHING:
        how.notices.add(f'a {name} is the word "{written}", as tables write an empty cell')
    if not how.lists_are_texts or is_conversation(written, name):
        no_list(written, name)
    return written


def prompt_as_given(value: object, how: Reading) -> str:
    """A prompt of plain text, after the row's system text where there is one. Raises Refused."""
    prompt = plain(value, "prompt", how)
    return prompt if how.system is None or not prompt.strip() else f"{how.system}\n\n{prompt}"


def without_repeat(prompt: str, sides: Sequence[str], how: Reading) -> list[str]:
    """Completions without the prompt that all of them repeat at their start, which is counted.

    A prompt of one word is left: ``I`` begins many an answer.
    """
    asked = prompt.strip()
    if not asked or (asked.isalnum() and len(asked) < 12):
        return list(sides)
    repeat = [_repeats(asked, completion) for completion in sides]
    if not all(repeat):
        if any(repeat):
            how.notices.add("the prompt begins one completion and not the other, and was left there")
        return list(sides)
    how.notices.add("the prompt was cut off the completions, which repeated it")
    return [
        completion.removeprefix(prompt) if completion.startswith(prompt) else completion.lstrip()[len(asked) :]
        for completion in sides
    ]


def _repeats(asked: str, said: str) -> bool:
    said = said.lstrip()
    if not said.startswith(asked):
        return False
    after = said[len(asked) : len(asked) + 1]
    return not (asked[-1].isalnum() and after.isalnum() and asked[-1].isascii())


def margin_of(row: Row, how: Reading) -> float | None:
    """The number in the column ``margin``. Raises Refused, and shows a word that stands there."""
    try:
        margin = number(row.get("margin"), "margin")
        if margin is not None and margin < 0:
            how.notices.add("the margin is below 0, as if what was chosen were the worse one")
        return margin
    except Refused:
        word = row["margin"]
        if isinstance(word, str) and any(c.isalpha() for c in word) and word.lower() not in ("nan", "inf"):
            raise Refused(f'margin is the word "{word[:40]}", not a number: make it one, or rename it') from None
        raise


def annotator(row: Row, how: Reading) -> str | None:
    """Who chose, from a column ``annotator``: an id of ours, or any name in the column that ``columns`` names.

    Otherwise it is what a column of that name happens to hold, such as ``oracle`` in our own versions.
    """
    name = row.get("annotator")
    if "annotator" in how.columns or is_person(name):
        return person(name, how.salt)
    if not absent(name) and "comparison_id" not in row:  # in versions of ours it is oracle, and the like
        how.notice('"annotator" was not read as people: columns: {annotator: annotator} reads it so')
    return None


def as_given(prompt: object, completions: Sequence[tuple[str, Any]], how: Reading) -> tuple[str, list[str]]:
    """Prompt and completions (name, value) as texts; written out only where the prompt is messages."""
    if not is_conversation(prompt, "prompt"):
        texts = [plain(value, name, how) for name, value in completions]
        bare = plain(prompt, "prompt", how)
        return prompt_as_given(prompt, how), without_repeat(bare, texts, how) if len(texts) > 1 else texts
    turns = messages(prompt, "prompt")
    written = [answered(turns, text(value, name), name, how.render) for name, value in completions]
    return written[0][0], [completion for _, completion in written]


def two_answers(
    turns: Sequence[Message], row: Row, names: tuple[str, str], how: Reading
) -> tuple[str, tuple[str, str]]:
    """Prompt and completions of two columns of answers to the same turns."""
    (prompt, a), (_, b) = (answered(turns, text(row.get(name), name), name, how.render) for name in names)
    return prompt, (a, b)


def side(
    value: object, name: str, how: Reading, names: tuple[str, str] = ("completion_a", "completion_b")
) -> Choice:
    """:func:`pipeline.formats.choices.verdict` of a cell, where ``name`` and ``names`` are our columns.

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
    rows: list[JudgedRow | Unusable] = []
    for (a, score_a), (b, score_b) in pairs:
        choice: Choice = "a" if score_a > score_b else "b" if score_b > score_a else "tie"
        scores = {"scores": (score_a, score_b)} if keep_scores else {}
        try:
            rows.append(judged(prompt, (a, b), choice, ("a completion", "another one"), **scores, **known))
        except Refused as refused:
            rows.append(refused.unusable)
    return rows
