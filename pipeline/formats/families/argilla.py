"""Argilla's records: versions 1 and 2 as JSON, the flat tables of version 2 (2.8.0), and version 1's Hub sets.

Version 2's JSON does not hold which answers were submitted; its flat form (``to_list(flatten=True)``,
``to_datasets``, ``to_hub``) does. Suggestions are models' and are not read.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from pipeline.base.json_values import dict_of
from pipeline.formats.cells import listed
from pipeline.formats.families.answers import Record, Scored, Submission, about, dicts_of
from pipeline.formats.judged import Refused, Row, Unclear, absent, is_person
from pipeline.formats.reading import Reading

RATINGS = "ratings"
_SUBMITTED, _DRAFT = "submitted", "draft"
_PEOPLE = uuid.uuid5(uuid.NAMESPACE_URL, "rlhf-pipeline/people")


def account(person: str | None) -> str:
    """The UUID that stands for a person of ours in Argilla, which takes no other ids; one for nobody."""
    return str(uuid.uuid5(_PEOPLE, person or "nobody"))


def is_record(row: Row) -> bool:
    """Whether this is a record of the JSON export."""
    return isinstance(row.get("fields"), dict) and isinstance(row.get("responses"), (dict, list))


def is_flat(row: Row) -> bool:
    """Whether this is a row of a flat table."""
    return any(_is_question(name, row) for name in row) or bool(_old_questions(row))


def _is_question(name: str, row: Row) -> bool:
    return name.endswith(".responses") and (f"{name}.users" in row or f"{name}.status" in row)


def record(row: Row, how: Reading) -> Record:
    """A record of version 1 (a list of responses, each with values by question) or 2 (responses by question).

    Raises:
        Refused: it is no record.
        Unclear: it does not say which answers were submitted.
    """
    if not is_record(row):
        raise Refused("no record of Argilla: fields and responses")
    fields = dict_of(row["fields"])
    answers: list[tuple[Any, str, Any, Any]] = []
    if isinstance(row["responses"], dict):
        for question, responses in dict_of(row["responses"]).items():
            answers += [
                (one.get("user_id"), question, one.get("value"), _status(one)) for one in dicts_of(responses)
            ]
    else:
        for one in dicts_of(row["responses"]):
            for question, value in (dict_of(one.get("values")) or {"": None}).items():
                said = dict_of(value).get("value") if isinstance(value, dict) else value
                answers.append((one.get("user_id"), question, said, _status(one)))
    return _record(fields, dict_of(row.get("metadata")), answers, how)


def flat(row: Row, how: Reading) -> Record:
    """A row of a flat table: ``q.responses``, ``q.responses.users``, ``q.responses.status`` for each question."""
    given: list[tuple[Any, str, Any, Any]] = []
    own: set[str] = {"id", "status", "_server_id", "external_id", "metadata", "vectors"}
    for name in row:
        if _is_question(name, row):
            question = name.removesuffix(".responses")
            own |= {name, f"{name}.users", f"{name}.status"}
            values = _cells(row, name) or []
            users, statuses = (_cells(row, f"{name}.{end}") or [None] * len(values) for end in ("users", "status"))
            if not len(values) == len(users) == len(statuses):
                raise Refused(f"{name} and its users and statuses are not equally many")
            given += [
                (who, question, value, status) for value, who, status in zip(values, users, statuses, strict=True)
            ]
        elif ".suggestion" in name or name.endswith(("-suggestion", "-suggestion-metadata")):
            own.add(name)
    for question, responses in _old_questions(row).items():
        own.add(question)
        given += [(one.get("user_id"), question, one.get("value"), _status(one)) for one in responses]
    fields = {name: value for name, value in row.items() if name not in own}
    return _record(fields, row, given, how)


def _cells(row: Row, name: str) -> list[Any] | None:
    """The list in a cell; None of an empty one. Raises Refused: it holds none that can be read."""
    value = row.get(name)
    cells = None if absent(value) else listed(value, name)
    if cells is None and not absent(value):
        raise Refused(f"{name} is not a list", detail=f'the value is "{str(value)[:60]}"')
    return cells


def _old_questions(row: Row) -> dict[str, list[dict[str, Any]]]:
    """Columns of answers in version 1's sets on the Hub: a list of objects, or an object of lists."""
    questions: dict[str, list[dict[str, Any]]] = {}
    for name, value in row.items():
        lists = dict_of(value)
        if set(lists) >= {"user_id", "value", "status"} and all(isinstance(v, list) for v in lists.values()):
            questions[name] = [dict(zip(lists, one, strict=True)) for one in zip(*lists.values(), strict=False)]
        elif isinstance(value, list):
            listed = dicts_of(value)
            if listed and all(set(one) >= {"user_id", "value", "status"} for one in listed):
                questions[name] = listed
    return questions


def _status(response: Row) -> Any:
    """Of a response; an id that only our own exports write stands for one that was submitted."""
    user = response.get("user_id")
    ours = "user_id" in response and (user is None or is_person(user)) and "status" not in response
    return _SUBMITTED if ours else response.get("status")


def _record(
    fields: Mapping[str, Any], metadata: Mapping[str, Any], given: list[tuple[Any, str, Any, Any]], how: Reading
) -> Record:
    """The answers by person, each person's in the order of the file."""
    by: dict[tuple[str, str | None], tuple[Any, dict[str, Any]]] = {}  # (account, why left out)
    for place, (who, question, value, status) in enumerate(given):
        if absent(status):
            if how.drafts != "count":
                raise Unclear(
                    "Argilla's JSON does not say which answers were submitted; drafts and discarded ones would "
                    "count too.",
                    "Export the table (records.to_list(flatten=True), to_datasets or to_hub), or say  "
                    "drafts: count.",
                )
            status = _SUBMITTED
        state = str(status)
        if state == _SUBMITTED or (state == _DRAFT and how.drafts == "count"):
            left_out = None
        else:
            left_out = "a draft" if state == _DRAFT else f"{state} by who was asked"
        key = (str(who), left_out)
        if who is None or question in by.get(key, (None, {}))[1]:
            key = (f"{who} {place}", left_out)
        values = by.setdefault(key, (_person(who, metadata), {}))[1]
        if value is not None:
            values[question] = value
    texts = {name: value for name, value in fields.items() if name != "margin"}
    margin = {"margin": metadata["margin"]} if not absent(metadata.get("margin")) else {}
    submissions = (
        Submission(who, _with_ratings(values, texts), left_out) for (_, left_out), (who, values) in by.items()
    )
    return Record({**texts, **margin}, tuple(submissions))


def _person(who: object, metadata: Mapping[str, Any]) -> Any:
    """Who answered; of our own exports the person or nobody whom the UUID stands for."""
    if who is None or str(who) == account(None):
        return None
    ours = metadata.get("annotator")
    return ours if is_person(ours) and str(who) == account(ours) else who


def _with_ratings(values: dict[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Add the scores of several completions, where each is rated by a question of its own."""
    scores: dict[str, float] = {}
    for question, value in values.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            field = about(question, fields)
            if field is not None:
                scores[field] = float(value)
    if len(scores) < 2:
        return values
    return {**values, RATINGS: Scored(tuple((fields[field], score) for field, score in scores.items()))}
