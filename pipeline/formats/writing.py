"""Write a preference as a row of another tool's format, and name the parts that are lost.

Where two completions stand side by side, which is on which side depends on the texts alone
(:meth:`JudgedRow.comparison`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pipeline.formats.detect import Format, JudgedRow, Message, Reading, Unusable, read_judged, render_plain
from pipeline.formats.families.argilla import account
from pipeline.formats.families.label_studio import mark_of
from pipeline.formats.judged import Refused
from pipeline.formats.messages import bot, turns_of, user

ExportFormat = Literal[
    "trl", "trl_implicit", "conversational", "unpaired", "hh", "ultrafeedback", "shp", "helpsteer", "arena",
    "argilla", "label_studio", "csv", "jsonl",
]  # fmt: skip
EXPORT_FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)

ALL_OR_NO_MARGINS: frozenset[ExportFormat] = frozenset(("trl", "trl_implicit", "conversational"))
"""Formats whose rows have a margin each or none: TRL stops at an absent one, ``load_dataset`` at an absent key."""

LABEL_CONFIG = """<View>
  <Header value="Which answer is better?"/>
  <Text name="prompt" value="$prompt"/>
  <View style="display: flex; gap: 1em">
    <Text name="answer1" value="$answer1"/>
    <Text name="answer2" value="$answer2"/>
  </View>
  <Pairwise name="comparison" toName="answer1,answer2"/>
</View>
"""
"""The labelling configuration of a Label Studio project that shows what is exported for it."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """A preference of ours, with its ids."""

    row: JudgedRow
    id: str
    comparison_id: str


@dataclass(frozen=True)
class _Target:
    write: Callable[[Source], list[Row]]
    reads_as: Format
    ties: bool = False
    ids: bool = False


def holds_ties(format: ExportFormat) -> bool:
    """Whether the format has a way to say that neither is better."""
    return _TARGETS[format].ties


def holds_ids(format: ExportFormat) -> bool:
    """Whether the id of a row has a place in it."""
    return _TARGETS[format].ids


def write(source: Source, format: ExportFormat) -> tuple[list[Row], list[str]] | Unusable:
    """The rows of one preference, two for ``unpaired``, and the parts of it that are lost.

    Each row is read back: the losses are those that a reader will meet.

    Returns:
        :class:`Unusable` where the format cannot hold it: read back, it would be no comparison.
    """
    target = _TARGETS[format]
    try:
        rows = target.write(source)
    except Refused as refused:
        return refused.unusable
    _, back = next(read_judged((("", row) for row in rows), target.reads_as, Reading()))
    if isinstance(back, Unusable):
        return back
    pairing = ["which two were compared"] if target.reads_as == "unpaired" else []
    return rows, [*pairing, *_losses(source.row, back)]


def _losses(row: JudgedRow, back: JudgedRow) -> list[str]:
    lost: list[str] = []
    if row.prompt != back.prompt or {row.chosen, row.rejected} != {back.chosen, back.rejected}:
        lost.append("prompts or blanks as they stood")
    if row.margin != back.margin and not row.tie:
        lost.append("margins" if row.margin is not None else "absent margins")
    if row.both_bad != back.both_bad:
        lost.append("both bad apart from ties")
    if row.annotator != back.annotator:
        lost.append("annotators' ids")
    return lost


def _turns(prompt: str) -> list[Message]:
    return turns_of(prompt) or user(prompt)


def _said(completion: str) -> str:
    return bot(completion)[0]["content"]


def _as_text(turns: Sequence[Message]) -> str:
    """A user's only turn as it stands, more of them written out."""
    return turns[0]["content"] if len(turns) == 1 and turns[0]["role"] == "user" else render_plain(turns, "")[0]


def _without_none(row: Row) -> Row:
    return {key: value for key, value in row.items() if value is not None}


def _sides(source: Source, chosen: object, rejected: object, **prompt: Any) -> list[Row]:
    return [_without_none({**prompt, "chosen": chosen, "rejected": rejected, "margin": source.row.margin})]


def _trl(source: Source) -> list[Row]:
    r = source.row
    return _sides(source, r.chosen, r.rejected, prompt=r.prompt)


def _trl_implicit(source: Source) -> list[Row]:
    r = source.row
    return _sides(source, r.prompt + r.chosen, r.prompt + r.rejected)


def _conversational(source: Source) -> list[Row]:
    r = source.row
    return _sides(source, bot(r.chosen), bot(r.rejected), prompt=_turns(r.prompt))


def _unpaired(source: Source) -> list[Row]:
    r = source.row
    sides = ((r.chosen, True), (r.rejected, False))
    return [{"prompt": r.prompt, "completion": completion, "label": label} for completion, label in sides]


def _hh(source: Source) -> list[Row]:
    r, prompt = source.row, source.row.prompt
    if not (prompt.startswith("\n\nHuman:") and turns_of(prompt)):
        turns = _turns(prompt)
        if any(turn["role"] == "system" for turn in turns):
            raise Refused("it has a system turn")
        names = {"user": "Human", "assistant": "Assistant"}
        prompt = "".join(f"\n\n{names[t['role']]}: {t['content']}" for t in turns) + "\n\nAssistant:"
    return [{"chosen": prompt + r.chosen, "rejected": prompt + r.rejected}]


def _ultrafeedback(source: Source) -> list[Row]:
    (c, choice), turns = source.row.comparison(0), _turns(source.row.prompt)
    scores = {"a": (1.0, 0.0), "b": (0.0, 1.0), "tie": (1.0, 1.0), "both_bad": (0.0, 0.0)}[choice]
    sides = zip((c.completion_a, c.completion_b), scores, strict=True)
    completions = [{"response": _said(completion), "overall_score": score} for completion, score in sides]
    return [{"instruction": _as_text(turns), "completions": completions}]


def _shp(source: Source) -> list[Row]:
    c, choice = source.row.comparison(0)
    sides = {"human_ref_A": _said(c.completion_a), "human_ref_B": _said(c.completion_b)}
    return [{"history": _as_text(_turns(source.row.prompt)), **sides, "labels": int(choice == "a")}]


def _helpsteer(source: Source) -> list[Row]:
    c, choice = source.row.comparison(0)
    strength = min(3, max(1, round(source.row.margin or 1)))
    sides = {"response1": _said(c.completion_a), "response2": _said(c.completion_b)}
    preference = {"a": -strength, "b": strength}.get(choice, 0)
    return [{"context": _turns(source.row.prompt), **sides, "overall_preference": preference}]


def _arena(source: Source) -> list[Row]:
    (c, choice), turns = source.row.comparison(0), _turns(source.row.prompt)
    winner = {"a": "model_a", "b": "model_b", "tie": "tie", "both_bad": "tie (bothbad)"}[choice]
    row: Row = {
        "question_id": source.id,
        "conversation_a": [*turns, *bot(c.completion_a)],
        "conversation_b": [*turns, *bot(c.completion_b)],
        "winner": winner,
        "turn": sum(turn["role"] == "user" for turn in turns),
        "judge": source.row.annotator,
    }
    return [_without_none(row)]


def _argilla(source: Source) -> list[Row]:
    c, choice = source.row.comparison(0)
    value = {"a": "response1", "b": "response2"}.get(choice, choice)
    who = source.row.annotator
    # Argilla takes only UUIDs for people; which one of ours it stands for is kept beside it.
    metadata = _without_none({"annotator": who, "margin": source.row.margin})
    response = {"value": value, "user_id": account(who), "status": "submitted"}
    return [
        {
            "id": source.id,
            "fields": {"prompt": c.prompt, "response1": c.completion_a, "response2": c.completion_b},
            "metadata": metadata,
            "suggestions": {},
            "responses": {"preference": [response]},
        }
    ]


def _label_studio(source: Source) -> list[Row]:
    c, choice = source.row.comparison(0)
    # Label Studio's page shows an answer only where to_name is the control's own name.
    result = {"id": mark_of(source.id), "from_name": "comparison", "to_name": "comparison", "type": "pairwise"}
    data: Row = {"id": source.id, "prompt": c.prompt, "answer1": c.completion_a, "answer2": c.completion_b}
    # Label Studio takes as completed_by only accounts that it has.
    data |= _without_none({"annotator": source.row.annotator, "margin": source.row.margin})
    value = {"selected": "left" if choice == "a" else "right"}
    return [{"data": data, "annotations": [{"result": [{**result, "value": value}]}]}]


def _plain(source: Source) -> list[Row]:
    r = source.row
    texts = {"id": source.id, "prompt": r.prompt, "chosen": r.chosen, "rejected": r.rejected}
    verdict = {"tie": r.tie, "both_bad": r.both_bad, "margin": r.margin}
    return [{**texts, **verdict, "annotator": r.annotator, "comparison_id": source.comparison_id}]


_TARGETS: dict[ExportFormat, _Target] = {
    "trl": _Target(_trl, "trl"),
    "trl_implicit": _Target(_trl_implicit, "trl_implicit"),
    "conversational": _Target(_conversational, "conversational"),
    "unpaired": _Target(_unpaired, "unpaired"),
    "hh": _Target(_hh, "hh"),
    "ultrafeedback": _Target(_ultrafeedback, "ultrafeedback", ties=True),
    "shp": _Target(_shp, "shp"),
    "helpsteer": _Target(_helpsteer, "helpsteer", ties=True),
    "arena": _Target(_arena, "arena", ties=True, ids=True),
    "argilla": _Target(_argilla, "argilla", ties=True, ids=True),
    "label_studio": _Target(_label_studio, "label_studio", ids=True),
    "csv": _Target(_plain, "trl", ties=True, ids=True),
    "jsonl": _Target(_plain, "trl", ties=True, ids=True),
}
