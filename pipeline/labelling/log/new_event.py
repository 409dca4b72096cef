"""The schema of new events, as one pydantic union; :mod:`pipeline.labelling.log.event_checks` has its checks.

Events from outside are parsed by :func:`parse_event` or :func:`parse_adjudication` where they arrive;
:class:`~pipeline.labelling.log.events.Events` trusts the types.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from pipeline.base.json_values import JsonObject
from pipeline.labelling.log.event_checks import (
    CONSENT_BYTES,
    EDIT_BYTES,
    NOTE_BYTES,
    Asked,
    Strength,
    at_most,
    check_choice,
    check_flag_reason,
    check_milliseconds,
    check_not_blank,
    check_order,
    check_place,
    check_strength,
    check_tags,
    check_vote_note,
    listed,
    one_of,
)
from pipeline.labelling.settings import SKIP_REASONS

OPERATOR = "operator"
"""The ``annotator`` of an adjudication."""


class Malformed(ValueError):
    """An event that violates the schema.

    Attributes:
        field: the key concerned, or "wrong keys"; never text of the sender.
        too_long: whether a text exceeds its limit.
    """

    def __init__(self, message: str, field: str, too_long: bool = False) -> None:
        self.field, self.too_long = field, too_long
        super().__init__(message)


Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{8,64}$")]
"""Idempotency key: the sender draws one per action and keeps it for retries."""
Note = Annotated[str, BeforeValidator(lambda note: "" if note is None else note), at_most(NOTE_BYTES)]
Milliseconds = Annotated[int, AfterValidator(check_milliseconds)]
"""Time that the person spent."""


class _Event(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    key: Key

    @property
    def payload(self) -> JsonObject:
        """The content that the log stores as JSON."""
        return self.model_dump(exclude={"type", "key", "annotator", "item", "ms"})


class _ByPerson(_Event):
    annotator: str


ItemId = Annotated[str, at_most(NOTE_BYTES)]


class _OnItem(_ByPerson):
    item: ItemId


class NewVote(_OnItem):
    """``order``: place ``i`` of the page showed ``completions[order[i]]``."""

    type: Literal["vote"] = "vote"
    choice: Annotated[str, at_most(NOTE_BYTES), AfterValidator(check_choice)]
    order: Annotated[tuple[int, ...], AfterValidator(check_order)]
    strength: Annotated[Strength | None, BeforeValidator(check_strength)] = None
    tags: Annotated[tuple[str, ...], BeforeValidator(check_tags)] = ()
    note: Annotated[Note, AfterValidator(check_vote_note)] = ""
    ms: Milliseconds


class NewSkip(_OnItem):
    type: Literal["skip"] = "skip"
    reason: Annotated[str, BeforeValidator(lambda value, info: one_of(value, SKIP_REASONS, info))]
    note: Note = ""
    ms: Milliseconds


class NewFlag(_OnItem):
    """Sets or removes the person's flag on an item."""

    type: Literal["flag"] = "flag"
    on: bool
    reason: Annotated[str, BeforeValidator(check_flag_reason), Field(validate_default=True)] = ""
    note: Note = ""


class NewEdit(_OnItem):
    """A better text for the completion with this index."""

    type: Literal["edit"] = "edit"
    completion: Annotated[int, AfterValidator(check_place)]
    text: Annotated[str, at_most(EDIT_BYTES), AfterValidator(check_not_blank)]


class Answerer(BaseModel):
    """The version that wrote a completion: its reference, and its content id (of a Hub model its commit)."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    role: Literal["base", "policy"]
    ref: str
    id: str


class Source(BaseModel):
    """Where the completions of an item come from that a person had written by asking.

    Attributes:
        exchange: id of the question and its answers; one vote on the pair and one on each answer share it.
        answerers: one for each completion of the item, in its order.
        scores: the reward model's, likewise; None without one.
        sampling: temperature, most tokens and seed.
        blind: whether the voter could not see who wrote which.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    exchange: str
    answerers: tuple[Answerer, ...]
    scores: tuple[float | None, ...]
    sampling: dict[str, int | float]
    blind: bool


class NewSourcedVote(NewVote):
    """A vote on completions that were written for the voter."""

    source: Source


class NewSourcedEdit(NewEdit):
    """A better text for a completion that was written for the editor."""

    source: Source


class NewRetraction(_OnItem):
    """Takes back the person's current vote on this item; :class:`NewUndo` takes back their newest of all."""

    type: Literal["undo"] = "undo"

    @property
    def payload(self) -> JsonObject:
        return {}


class NewUndo(_ByPerson):
    """Undoes the person's newest current vote or skip."""

    type: Literal["undo"] = "undo"


class NewConsent(_ByPerson):
    """Agreement to a text, identified by its version and the sha256 of its UTF-8 bytes."""

    type: Literal["consent"] = "consent"
    version: Annotated[str, at_most(CONSENT_BYTES)]
    sha256: Annotated[str, at_most(CONSENT_BYTES)]


class NewAdjudication(_Event):
    """The operator's decision on an item; it overrides the votes."""

    type: Literal["adjudicate"] = "adjudicate"
    annotator: Literal["operator"] = OPERATOR
    item: ItemId
    choice: Annotated[str, AfterValidator(check_choice)]


PersonEvent = Annotated[NewVote | NewSkip | NewFlag | NewEdit | NewUndo | NewConsent, Field(discriminator="type")]
NewEvent = PersonEvent | NewAdjudication
SourcedEvent = NewSourcedVote | NewSourcedEdit | NewRetraction
"""On items that join the log with the first answer to them: :meth:`pipeline.labelling.log.log.Log.answer`."""

_TYPES = ("vote", "skip", "flag", "undo", "edit", "consent")
_PERSON_EVENT: TypeAdapter[PersonEvent] = TypeAdapter(PersonEvent)

Parsed = TypeVar("Parsed")


def parse_event(values: Mapping[str, Any], asked: Asked) -> PersonEvent:
    """Parse an event from outside. Raises Malformed."""
    return _parse(lambda: _PERSON_EVENT.validate_python(values, context=asked), str(values.get("type")))


def parse_adjudication(values: Mapping[str, Any], asked: Asked) -> NewAdjudication:
    """Parse an operator's decision from outside. Raises Malformed."""
    return _parse(lambda: NewAdjudication.model_validate(values, context=asked), "adjudicate")


def _parse(validate: Callable[[], Parsed], kind: str) -> Parsed:
    try:
        return validate()
    except ValidationError as err:
        raise _malformed(err, kind) from None


# Messages for pydantic's own error types.
_WORDS = {
    "string_type": "must be text",
    "string_unicode": "is not valid Unicode",
    "string_pattern_mismatch": "must be 8 to 64 of the characters A-Z a-z 0-9 _ -",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
}


def _malformed(error: ValidationError, kind: str) -> Malformed:
    """The first error as one line; all missing keys, then all unknown keys, come first."""
    errors = error.errors(include_url=False)
    if errors[0]["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return Malformed(f"type must be one of: {listed(_TYPES)}.", "type")
    for error_type, verb in (("missing", "misses"), ("extra_forbidden", "does not know")):
        if keys := [str(e["loc"][-1]) for e in errors if e["type"] == error_type]:
            return Malformed(f"An event of type {kind} {verb} {listed(keys)}.", "wrong keys")
    first, values = errors[0], errors[0].get("ctx", {})
    field = str(next(part for part in reversed(first["loc"]) if isinstance(part, str)))
    if first["type"] == "wrong":
        return Malformed(values["message"], field, values.get("too_long", False))
    return Malformed(f"{field} {_WORDS.get(first['type'], 'has a wrong value')}.", field)
