"""Label Studio's exports (JSON, JSON_MIN, CSV) as its server 1.23.2 writes them.

In JSON the ``to_name`` of a pairwise answer is the control's own name, so which field stood on the left is not in
the file. JSON_MIN and CSV have a row for each submission, and the control's values in a cell of its name:
``[{"selected": "left"}]``; a choice of ``Choices`` is the bare word. Skipped tasks are absent there; in JSON they
are ``was_cancelled`` and may keep a click. Who submits without a click leaves ``result: []``, or no cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pipeline.base.json_values import dict_of
from pipeline.formats.choices import in_order
from pipeline.formats.families.answers import (
    Record,
    Scored,
    Several,
    Submission,
    Told,
    Unread,
    about,
    dicts_of,
    list_in,
)
from pipeline.formats.families.label_config import LabelConfig
from pipeline.formats.judged import Refused, Row, absent, is_person

FLAT = frozenset(("annotator", "annotation_id", "lead_time"))
"""Columns that every row of JSON_MIN and CSV has."""

RATINGS = "ratings"
"""The question that ratings of several completions answer together."""

_META = FLAT | {"id", "created_at", "updated_at", "agreement"}
_REMARKS = ("textarea", "number", "datetime", "taxonomy")  # beside a choice, and none themselves
_READ = ("selected", "choices", "rating", "ranker")


def is_task(row: Row) -> bool:
    """Whether this is a task of the JSON export."""
    return isinstance(row.get("data"), dict) and isinstance(row.get("annotations"), list)


def is_flat(row: Row) -> bool:
    """Whether this is a row of JSON_MIN or CSV."""
    return set(row) >= FLAT


def task(row: Row, config: LabelConfig | None) -> Record:
    """A task of the JSON export; its predictions and drafts are nobody's answer.

    Raises:
        Refused: it is no task.
    """
    if not is_task(row):
        raise Refused("no task of Label Studio: data and annotations")
    data = dict_of(row["data"])
    submissions: list[Submission] = []
    for annotation in dicts_of(row["annotations"]):
        who = _account(annotation.get("completed_by"))
        if _is_ours(annotation, data):
            who = data["annotator"] if is_person(data.get("annotator")) else None
        if annotation.get("was_cancelled"):
            submissions.append(Submission(who, left_out="skipped by who was asked"))
        else:
            submissions.append(_submission(dicts_of(annotation.get("result")), who, data, config))
    return Record(data, tuple(submissions))


def flat(row: Row, config: LabelConfig | None, choice: str | None) -> Record:
    """A row of JSON_MIN or CSV: the fields of the task, and one submission unless nobody has answered it.

    Args:
        choice: the name of the control, where the user gave it.
    """
    known = {*(config.controls if config is not None else ()), *([choice] if choice else [])}
    cells = {name: _values(value) for name, value in row.items() if name not in _META}
    data = {name: row[name] for name in cells if name not in known and cells[name] is None}
    if absent(row.get("annotation_id")):
        return Record(data, ())
    results = [
        {"from_name": name, "to_name": "", **value}
        for name, values in cells.items()
        for value in values
        or ([{"value": {"choices": [row[name]]}}] if name in known and not absent(row[name]) else [])
    ]
    submission = _submission(results, _account(row.get("annotator")), data, config)
    return Record(data, (submission,), unnamed=not known and not submission.values)


def _account(by: Any) -> Any:
    """Who submitted: an account's number, its email, or either in an object."""
    if isinstance(by, dict):
        account = dict_of(by)
        by = next((account[key] for key in ("id", "email", "username") if not absent(account.get(key))), None)
    if isinstance(by, float) and by.is_integer():  # of a table with empty cells
        return int(by)
    return by if isinstance(by, (str, int)) else None


def _is_ours(annotation: Row, data: Row) -> bool:
    """Whether a submission is what our own export wrote, whose person stands in the data.

    Label Studio gives what is imported to the account that imports it.
    """
    marks = {str(result.get("id")) for result in dicts_of(annotation.get("result"))}
    return annotation.get("completed_by") is None or mark_of(str(data.get("id"))) in marks


def mark_of(id: str) -> str:
    """The id of an answer in our own exports: Label Studio keeps it, and its own ones look differently."""
    return f"ours-{id[:16]}"


def _values(cell: object) -> list[dict[str, Any]] | None:
    """The values of a control in a cell; None where it is a field of the task."""
    listed = list_in(cell)
    if not listed or not all(isinstance(one, dict) and any(key in one for key in _READ) for one in listed):
        return None
    return [{"value": one} for one in cast("list[dict[str, Any]]", listed)]


def _submission(
    results: list[dict[str, Any]], who: object, data: Mapping[str, Any], config: LabelConfig | None
) -> Submission:
    values: dict[str, Any] = {}
    ratings: dict[str, float] = {}
    other: set[str] = set()
    unplaced = False
    for result in results:
        question, given = str(result.get("from_name")), dict_of(result.get("value"))
        fields = _fields(question, result, data, config)
        if "rating" in given:
            target = fields[0] if len(fields) == 1 else None if fields else about(question, data)
            if target is not None and isinstance(given["rating"], (int, float)):
                ratings[target] = float(given["rating"])
            unplaced = unplaced or (target is None and not fields)
        elif "ranker" in given:
            values[question] = _ranking(dict_of(given["ranker"]), data)
        elif given.get("selected") is not None or given.get("choices"):
            values[question] = _choice(given, fields, result)
        elif str(result.get("type")).lower() not in _REMARKS:
            other.add(str(result.get("type")))
    if len(ratings) > 1:
        values[RATINGS] = Scored(tuple((data.get(field), score) for field, score in ratings.items()))
    if unplaced and not values:
        # Merely left out it would pass for a submission without a choice, which may mean a tie.
        values[RATINGS] = Unread("a Rating of which nothing says what it rates; say  label_config: project.xml")
    if other and not values:
        return Submission(who, left_out=f"an answer of type {min(other)} is not read")
    return Submission(who, values)


def _fields(question: str, result: Row, data: Mapping[str, Any], config: LabelConfig | None) -> tuple[str, ...]:
    """The fields of the task that a control is about, left first; none where nothing says."""
    if config is not None and question in config.controls:
        return config.controls[question].fields
    named = tuple(name.strip() for name in str(result.get("to_name") or "").split(","))
    return named if all(name in data for name in named) else ()


def _choice(given: Row, fields: tuple[str, ...], result: Row) -> Any:
    chosen: Any = given.get("selected")
    if chosen is None:
        listed = list_in(given.get("choices"))
        if listed and len(listed) > 1:
            return Several(tuple(listed))
        # A word of the project's, about sides or not.
        return listed[0] if listed else given.get("choices")
    tags = str(result.get("to_name") or "").split(",")
    return Told(chosen, fields if len(fields) == 2 else (), len(tags) == 2 and in_order(*tags) is False)


def _ranking(ranker: Row, data: Mapping[str, Any]) -> Any:
    """The items of a ranked list, best first."""
    if len(ranker) != 1:
        return Unread("a Ranker with buckets is not read")
    ids = [str(id) for id in list_in(next(iter(ranker.values()))) or []]
    for value in data.values():
        items = {str(item["id"]): item for item in dicts_of(list_in(value) or []) if "id" in item}
        if ids and all(id in items for id in ids):
            texts = (
                next((items[id][k] for k in ("body", "text", "title") if items[id].get(k)), None) for id in ids
            )
            return Scored(tuple((body, -float(place)) for place, body in enumerate(texts)))
    return Unread("a Ranker whose items are not in the task")
