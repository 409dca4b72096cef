"""Read answers given in labelling tools, and tables of pairs with a verdict.

What the tools' files look like is left to ``argilla`` and ``label_studio``. One record may hold several people's
answers. Guesses of models (Argilla's suggestions, Label Studio's predictions) are left out on purpose: nobody has
confirmed them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, cast

from pipeline.base.json_values import dict_of
from pipeline.base.records import Choice
from pipeline.formats.choices import in_order, shown, spelled, tokens, verdict
from pipeline.formats.families import argilla, label_studio
from pipeline.formats.families.answers import Record, Scored, Several, Submission, Told, Unread
from pipeline.formats.judged import (
    JudgedRow,
    Refused,
    Row,
    Unclear,
    Unusable,
    counted_votes,
    judged,
    number,
    person,
)
from pipeline.formats.reading import Reading, annotator, as_given, margin_of, our_names, plain_word, ranked, side

Tool = Literal["argilla", "label_studio"]

_PROMPTS = ("prompt", "instruction", "question", "query", "input", "context")
_KINDS = ("response", "answer", "completion", "output", "generation", "candidate", "reply", "option", "text")
_MAP = "say  columns: {completion_a: ..., completion_b: ...}"
_OTHER = "%s stood on the left and %s on the right, but the fields are %s."
_DECISIVE = ("pairwise", "ranker")
NO_CHOICE = "submitted without a choice"


def tool_of(row: Row) -> Tool | None:
    """The tool whose record this is beyond doubt."""
    if argilla.is_record(row) or argilla.is_flat(row):
        return "argilla"
    return "label_studio" if label_studio.is_task(row) or label_studio.is_flat(row) else None


def fields_of(row: Row, tool: Tool) -> dict[str, Any]:
    """The fields that a record shows, by name; of a flat table every column."""
    nested = row.get("fields" if tool == "argilla" else "data")
    return dict_of(nested) if isinstance(nested, dict) else dict(row)


def argilla_answers(row: Row, how: Reading) -> list[JudgedRow | Unusable]:
    """Every submission in a record of Argilla, or in a row of its flat table; see :func:`_answers`."""
    flat = "fields" not in row and argilla.is_flat(row)
    return _answers(argilla.flat(row, how) if flat else argilla.record(row, how), how)


def label_studio_answers(row: Row, how: Reading) -> list[JudgedRow | Unusable]:
    """Every submission in a task of Label Studio, or in a row of JSON_MIN or CSV; see :func:`_answers`."""
    if "data" not in row and label_studio.is_flat(row):
        return _answers(label_studio.flat(row, how.label_config, how.columns.get("choice")), how)
    return _answers(label_studio.task(row, how.label_config), how)


def _answers(record: Record, how: Reading) -> list[JudgedRow | Unusable]:
    """Every submission in a record, in its order.

    Raises:
        Refused: nobody has answered it.
        Unclear: only the user can say what its answers mean.
    """
    if not record.submissions:
        raise Refused("nobody has answered", broken=False)
    named = {ours: theirs for ours, theirs in how.columns.items() if ours != "choice"}
    fields, own = our_names(record.fields, replace(how, columns=named))
    how = replace(how, system=own.system, render=own.render)
    if record.unnamed and how.no_choice == "tie":
        mend = "Name it:  columns: {choice: ...}  or  label_config: project.xml"
        raise Unclear("which column is the choice, where somebody made none?", mend)
    question = _question(record, fields, how)
    judgements: list[JudgedRow | Unusable] = []
    for submission in record.submissions:
        try:
            judgements += _judged(fields, submission, question, how, record.unnamed)
        except Unclear:
            raise
        except Refused as refused:
            judgements.append(refused.unusable)
    return judgements


def choices(row: Row, how: Reading) -> list[JudgedRow | Unusable]:
    """``prompt``, ``completion_a``, ``completion_b`` and ``choice``: a table of anybody's.

    Texts are taken as they stand; a prompt of messages is written out.
    """
    names = ("completion_a", "completion_b")
    prompt, (a, b) = as_given(row.get("prompt"), [(n, row.get(n)) for n in names], how)
    choice = side(row.get("choice"), "choice", how)
    margin = margin_of(row, how)
    word = "chosen" if choice in ("a", "b") else choice
    votes = counted_votes(row, word, ("b", "a") if choice == "b" else ("a", "b"))
    who = None if votes else annotator(row, how)
    return [judged(prompt, (a, b), choice, names, margin=margin, annotator=who, votes=votes)]


def _question(record: Record, fields: Row, how: Reading) -> str | None:
    """The question that is about the completions; None where only one who chose nothing has answered.

    Raises:
        Refused: several could be it, or none is it.
    """
    mapped = how.columns.get("choice")
    values_by_question: dict[str, list[Any]] = {}
    for submission in record.submissions:
        for name, value in submission.values.items() if submission.left_out is None else ():
            values_by_question.setdefault(name, []).append(value)
    if mapped is not None or not values_by_question:
        return mapped
    decisive = [n for n, c in how.label_config.controls.items() if c.kind in _DECISIVE] if how.label_config else []
    if len(decisive) == 1 and not any(
        isinstance(v, Scored) for values in values_by_question.values() for v in values
    ):
        return decisive[0]
    about = [
        name
        for name, values in values_by_question.items()
        if any(_is_verdict(value, fields, how) for value in values)
    ]
    if len(about) > 1:
        named = ", ".join(sorted(about))
        raise Refused(
            "several questions could be the choice; say  columns: {choice: ...}", detail=f"they are {named}"
        )
    if about:
        return about[0]
    return min(values_by_question)


def _is_verdict(value: object, fields: Row, how: Reading) -> bool:
    """Whether a value chooses between the completions. A number alone may be a rating of anything."""
    if isinstance(value, (Told, Scored, Unread)):
        return True
    if isinstance(value, Several):
        return any(_is_verdict(label, fields, how) for label in value.labels)
    if not isinstance(value, (str, list)) and spelled(value) not in map(spelled, how.choices):
        return False
    try:
        names, ordered = _names(fields, how)
        if isinstance(value, list):
            return len(_ranks(cast("list[Any]", value), names, how)) > 1
        word = spelled(value)
        return not word.lstrip("+-").isdigit() and len(names) == 2 and bool(_side(value, names, ordered, how))
    except Unclear:
        return True
    except Refused:
        return False


def _judged(
    fields: Row, submission: Submission, question: str | None, how: Reading, unnamed: bool
) -> list[JudgedRow | Unusable]:
    if submission.left_out is not None:
        raise Refused(submission.left_out, broken=False)
    who = annotator(fields, how) if "annotator" in how.columns else person(submission.who, how.salt)
    prompt = fields.get(next((p for p in _PROMPTS if p in fields), "prompt"))
    value = submission.values.get(question or "")
    if isinstance(value, Unread):
        raise Refused(value.reason)
    if isinstance(value, Several):
        raise Refused("several choices at once", detail=f"they are {', '.join(map(str, value.labels))}")
    if isinstance(value, Scored):
        written, said = as_given(prompt, [("a completion", text) for text, _ in value.items], how)
        scored = [(text, score) for text, (_, score) in zip(said, value.items, strict=True)]
        return ranked(written, scored, how, annotator=who)
    if isinstance(value, Told) and value.sides and "completion_a" not in fields:
        if not all(name in fields for name in value.sides):
            raise Unclear(_OTHER % (*value.sides, ", ".join(fields)), "Is label_config this project's?")
        names, ordered = value.sides, True
    else:
        names, ordered = _names(fields, how)
    if isinstance(value, list):
        ranks = _ranks(cast("list[Any]", value), names, how)
        written, said = as_given(prompt, [(n, fields.get(n)) for n in ranks], how)
        scored = [(text, -rank) for text, rank in zip(said, ranks.values(), strict=True)]
        return ranked(written, scored, how, annotator=who)
    if len(names) != 2:
        said = shown(value.value if isinstance(value, Told) else value)
        raise Refused("unknown choice", detail=f"the value is {said} of {len(names)} completions")
    if isinstance(value, Told):
        names, ordered = _left_and_right(value, names, ordered, how)
    choice = _no_choice(how, unnamed) if value is None else _side(value, names, ordered, how)
    written, (a, b) = as_given(prompt, [(n, fields.get(n)) for n in names], how)
    margin = number(fields.get("margin"), "margin")
    return [judged(written, (a, b), choice, (names[0], names[1]), margin=margin, annotator=who)]


def _no_choice(how: Reading, unnamed: bool) -> Choice:
    if how.no_choice == "tie":
        return "tie"
    how.notice(f"{NO_CHOICE}: left out and counted; where this was how people said tie, say  no_choice: tie")
    detail = "or it is a word in a column of its own; then say  columns: {choice: ...}" if unnamed else ""
    raise Refused(NO_CHOICE, broken=False, detail=detail)


def _side(value: object, names: tuple[str, ...], ordered: bool, how: Reading) -> Choice:
    if isinstance(value, Told):
        # Where the project says what stood where, left is left whatever the fields are called.
        if value.sides and not how.choices and value.value in ("left", "right"):
            return "a" if value.value == "left" else "b"
        value = value.value
    if not isinstance(value, str) and not how.choices:  # a number on a scale, of which nobody knows the ends
        mend = "say what the values mean:  choices: {1: a, 2: a, 3: tie, 4: b, 5: b}"
        raise Refused("unknown choice", detail=f"the value is {shown(value)}; {mend}")
    theirs = (how.columns.get(names[0], names[0]), how.columns.get(names[1], names[1]))
    return verdict(value, "choice", theirs, how.choices, ordered)


def _left_and_right(
    told: Told, names: tuple[str, ...], ordered: bool, how: Reading
) -> tuple[tuple[str, ...], bool]:
    """The completions in the order in which they stood on the page, and whether that is known."""
    mapped = {how.columns.get(name, name): name for name in names}
    if told.sides:
        if set(told.sides) != set(mapped):
            raise Unclear(_OTHER % (*told.sides, " and ".join(mapped)), "Is label_config this project's?")
        return tuple(mapped[field] for field in told.sides), True
    if "completion_a" in names:
        return names, True
    if ordered and not told.backwards:
        how.notice(f'left is "{names[0]}" and right is "{names[1]}": by their names, as the file does not say it')
    return names, ordered and not told.backwards


def _names(fields: Row, how: Reading) -> tuple[tuple[str, ...], bool]:
    """The fields that hold the completions, and whether their order is known. The order of keys says nothing."""
    if "completion_a" in fields and "completion_b" in fields:
        return ("completion_a", "completion_b"), True
    texts = sorted(k for k, v in fields.items() if (v is None or isinstance(v, str)) and k not in _PROMPTS)
    kinds: dict[str, list[str]] = {}
    for name in texts:
        for kind in _KINDS:
            rest = plain_word(name).removeprefix(kind)
            if rest != plain_word(name) and (rest.isdigit() or len(rest) == 1 or rest in ("left", "right")):
                kinds.setdefault(kind, []).append(name)
    several = [names for names in kinds.values() if len(names) > 1]
    if not several:
        several = [[a, b] for a, b in itertools.combinations(texts, 2) if in_order(a, b) is not None]
    if not several and len(texts) == 2:
        several = [texts]
    if len(several) != 1:
        raise Refused(
            f"which fields are the completions? {_MAP}", detail=f"the fields are {', '.join(map(str, fields))}"
        )
    names = several[0]
    if len(names) != 2:
        return tuple(names), False
    order = in_order(*names)
    return (tuple(names) if order is not False else (names[1], names[0])), order is not None


def _ranks(value: list[Any], names: tuple[str, ...], how: Reading) -> dict[str, float]:
    """The rank of each ranked completion, best lowest. Raises Refused where it is no ranking of two or more."""
    ranks: dict[str, float] = {}
    for place, item in enumerate(value):  # names, best first; or {"value": name, "rank": 1}
        ranked_one = dict_of(item) if isinstance(item, dict) else {"value": item, "rank": place}
        name = _field(str(ranked_one.get("value")), names, how)
        rank = ranked_one.get("rank")
        if name is None or name in ranks or not isinstance(rank, (int, float)) or not math.isfinite(rank):
            raise Refused(
                "unknown choice", detail=f"the value is {shown(value)}; the completions are {', '.join(names)}"
            )
        ranks[name] = rank
    if len(ranks) < 2:
        raise Refused("unknown choice", detail=f"the value is {shown(value)}, a list of fewer than two")
    return ranks


def _field(label: str, names: tuple[str, ...], how: Reading) -> str | None:
    """The completion that a ranked label means: by its field's name, or by what tells the names apart, 2 or b."""
    theirs: Mapping[str, str] = {name: how.columns.get(name, name) for name in names}
    for spell in (str, plain_word):
        meant = [name for name, said in theirs.items() if spell(said) == spell(label)]
        if len(meant) == 1:
            return meant[0]
    mark = tokens(label)[-1:]
    if any(tokens(said)[:-1] == tokens(label)[:-1] for said in theirs.values()) or len(tokens(label)) == 1:
        meant = [name for name, said in theirs.items() if tokens(said)[-1:] == mark]
        return meant[0] if len(meant) == 1 else None
    return None
