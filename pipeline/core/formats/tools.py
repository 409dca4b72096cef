"""Exports of labelling tools: Argilla, Label Studio's pairwise comparison, and tables of pairs with a verdict.

One record may hold several people's answers. Guesses of models (Argilla's suggestions, Label Studio's predictions)
are left out on purpose: nobody has confirmed them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, cast

from pipeline.core.formats.judged import JudgedRow, Refused, Row, Unusable, judged, number, person
from pipeline.core.formats.reading import (
    Reading,
    annotator,
    as_given,
    known_side,
    margin_of,
    plain_word,
    ranked,
    side,
)
from pipeline.core.records import Choice

_PROMPTS = ("prompt", "instruction", "question", "query", "input", "context")
COMPLETION = re.compile(
    r"(response|answer|completion|output|generation|candidate|reply|option|text)([0-9]+|[a-z])"
)


@dataclass(frozen=True)
class Answer:
    """What one person answered to one question. ``sides`` are the fields on the left and on the right, if told."""

    who: Any
    value: Any
    sides: tuple[str, ...] = ()


class Answers(list[Answer]):
    """All answers to one question of a record."""


def tool_of(row: Row) -> str | None:
    """The tool whose record this unmistakably is."""
    if isinstance(row.get("fields"), dict) and isinstance(row.get("responses"), (dict, list)):
        return "argilla"
    if isinstance(row.get("data"), dict) and isinstance(row.get("annotations"), list):
        return "label_studio"
    return None


def fields_of(row: Row, tool: str) -> dict[str, Any]:
    """What a record shows to the people who answer, by name."""
    return _dict(row.get("fields" if tool == "argilla" else "data"))


def spread(row: Row, tool: str) -> dict[str, Any]:
    """A record as one flat row: its fields, and a column of :class:`Answers` for each question.

    Raises:
        Refused: it is no record of that tool, or nobody has answered it.
    """
    flat = _argilla(row) if tool == "argilla" else _label_studio(row)
    if not any(isinstance(value, Answers) for value in flat.values()):
        raise Refused("nobody has answered", broken=False)
    return flat


def answers(row: Row, how: Reading) -> list[JudgedRow | Unusable]:
    """Every answer in a spread record, in its order."""
    found: list[JudgedRow | Unusable] = []
    for answer in _question(row, how):
        try:
            found += _judged(row, answer, how)
        except Refused as refused:
            found.append(refused.unusable)
    return found


def choices(row: Row, how: Reading) -> list[JudgedRow | Unusable]:
    """``prompt``, ``completion_a``, ``completion_b`` and ``choice``: a table of anybody's.

    Texts are taken as they stand; a prompt of messages is written out.
    """
    names = ("completion_a", "completion_b")
    prompt, (a, b) = as_given(row.get("prompt"), [(n, row.get(n)) for n in names], how)
    choice = side(row.get("choice"), "choice")
    return [judged(prompt, (a, b), choice, names, margin=margin_of(row), annotator=annotator(row, how))]


def _argilla(record: Row) -> dict[str, Any]:
    """Records of version 1 (a list of responses, each with values by question) and 2 (responses by question)."""
    asked: dict[str, Answers] = {}
    responses: Any = record.get("responses")
    if isinstance(responses, dict):
        for question, given in cast("dict[str, Any]", responses).items():
            for response in _dicts(given):
                _keep(asked, question, response, response.get("value"))
    else:
        for response in _dicts(responses):
            for question, value in _dict(response.get("values")).items():
                _keep(asked, question, response, _dict(value).get("value") if isinstance(value, dict) else value)
    metadata = {k: v for k, v in _dict(record.get("metadata")).items() if k == "margin"}
    return {**metadata, **fields_of(record, "argilla"), **asked}


def _keep(asked: dict[str, Answers], question: str, response: Row, value: Any) -> None:
    if response.get("status") in (None, "submitted") and value is not None:  # not drafts, not discarded ones
        asked.setdefault(question, Answers()).append(Answer(response.get("user_id"), value))


def _label_studio(task: Row) -> dict[str, Any]:
    asked: dict[str, Answers] = {}
    for annotation in _dicts(task.get("annotations")):
        if annotation.get("was_cancelled"):
            continue
        by = annotation.get("completed_by")  # a number, or the account as an object
        who = _dict(by).get("id", _dict(by).get("email")) if isinstance(by, dict) else by
        for result in _dicts(annotation.get("result")):
            value = _dict(result.get("value"))
            chosen: Any = value.get("selected") or value.get("choices")
            if isinstance(chosen, list) and len(cast("list[Any]", chosen)) == 1:
                chosen = cast("list[Any]", chosen)[0]
            if isinstance(chosen, str):
                sides = tuple(str(result.get("to_name")).split(","))
                asked.setdefault(str(result.get("from_name")), Answers()).append(Answer(who, chosen, sides))
    return {**fields_of(task, "label_studio"), **asked}


def _dict(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _dicts(value: Any) -> list[dict[str, Any]]:
    listed = cast("list[Any]", value) if isinstance(value, list) else [value]
    return [cast("dict[str, Any]", v) for v in listed if isinstance(v, dict)]


def _question(row: Row, how: Reading) -> Answers:
    """The answers to the question that is about the completions."""
    asked = {name: value for name, value in row.items() if isinstance(value, Answers)}
    if "choice" in how.columns:
        if "choice" not in asked:
            raise Refused(f'nobody has answered "{how.columns["choice"]}"', broken=False)
        return asked["choice"]
    about = [q for q, given in asked.items() if any(_verdict(a.value, _names(row, a), how) for a in given)]
    if len(about) > 1:
        raise Refused("several questions could be the choice; say  columns: {choice: ...}")
    return asked[about[0]] if about else next(iter(asked.values()))


def _names(row: Row, answer: Answer) -> tuple[str, ...]:
    """The fields that hold the completions."""
    if "completion_a" in row and "completion_b" in row:
        return ("completion_a", "completion_b")
    if len(answer.sides) == 2 and all(side in row for side in answer.sides):
        return answer.sides
    texts = [k for k, v in row.items() if isinstance(v, str) and k not in _PROMPTS]
    named = [k for k in texts if COMPLETION.fullmatch(plain_word(k))]
    if len(named) > 1:
        return tuple(named)
    if len(texts) != 2:
        raise Refused("which fields are the completions? say  columns: {completion_a: ..., completion_b: ...}")
    return tuple(texts)


def _verdict(value: Any, names: tuple[str, ...], how: Reading) -> Choice | dict[str, float] | None:
    """A choice between two completions, or the rank of each ranked one, best lowest; None if it is neither."""
    if isinstance(value, str):
        if len(names) != 2:
            return None
        name = _field(value, names, how)
        return known_side(value) if name is None else "a" if name == names[0] else "b"
    if not isinstance(value, list):
        return None
    ranks: dict[str, float] = {}
    for place, item in enumerate(cast("list[Any]", value)):  # names, best first; or {"value": name, "rank": 1}
        ranked_one = _dict(item) if isinstance(item, dict) else {"value": item, "rank": place}
        name = _field(str(ranked_one.get("value")), names, how)
        rank = ranked_one.get("rank")
        if name is None or name in ranks or not isinstance(rank, (int, float)) or not math.isfinite(rank):
            return None
        ranks[name] = rank
    return ranks if len(ranks) > 1 else None


def _field(label: str, names: tuple[str, ...], how: Reading) -> str | None:
    """The completion that a label means: by its field's name, or by what tells the names apart, ``2``, ``b``."""
    word = plain_word(label)
    known = {name: plain_word(how.columns.get(name, name)) for name in names}
    ends = {name: found[2] for name, said in known.items() if (found := COMPLETION.fullmatch(said))}
    for words in (known, ends):
        meant = [name for name, said in words.items() if said == word]
        if len(meant) == 1:
            return meant[0]
    return None


def _judged(row: Row, answer: Answer, how: Reading) -> list[JudgedRow | Unusable]:
    names = _names(row, answer)
    verdict = _verdict(answer.value, names, how)
    if verdict is None:
        raise Refused("unknown choice")
    among = names if isinstance(verdict, str) else tuple(verdict)
    asked = next((p for p in _PROMPTS if p in row), "prompt")
    prompt, completions = as_given(row.get(asked), [(n, row.get(n)) for n in among], how)
    who = annotator(row, how) or person(answer.who, how.salt)
    if isinstance(verdict, str):
        (a, b), margin = completions, number(row.get("margin"), "margin")
        return [judged(prompt, (a, b), verdict, (among[0], among[1]), margin=margin, annotator=who)]
    scored = [(said, -rank) for said, rank in zip(completions, verdict.values(), strict=True)]
    return ranked(prompt, scored, how, annotator=who)
