"""The schema of new events, as one pydantic union with all its checks.

Events from outside are parsed by :func:`parse_event` or :func:`parse_adjudication` where they arrive;
:class:`~pipeline.labelling.log.events.Events` trusts the types.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

from pipeline.base.json_values import JsonObject
from pipeline.labelling.items import Item, parse_choice
from pipeline.labelling.settings import FLAG_REASONS, SKIP_REASONS, LabelSection

OPERATOR = "operator"
"""The ``annotator`` of an adjudication."""

NOTE_BYTES = 10 * 1024
EDIT_BYTES = 100 * 1024
CONSENT_BYTES = 256
MOST_MS = 24 * 3600 * 1000

Strength = Literal["much", "slightly"]
STRENGTHS: dict[Strength, float] = {"much": 2.0, "slightly": 1.0}
"""The margin of each strength."""


class Malformed(ValueError):
    """An event that violates the schema.

    Attributes:
        field: the key concerned, or "wrong keys"; never text of the sender.
        too_long: whether a text exceeds its limit.
    """

    def __init__(self, message: str, field: str, too_long: bool = False) -> None:
        self.field, self.too_long = field, too_long
        super().__init__(message)


@dataclass(frozen=True)
class Asked:
    """The question that an event answers: its item, if any, and the settings."""

    item: Item | None
    settings: LabelSection


def _asked(info: ValidationInfo) -> Asked | None:
    """None for events that our own code creates."""
    return info.context


def _wrong(message: str, **values: Any) -> PydanticCustomError:
    # Not as the template: a message may contain the sender's braces.
    return PydanticCustomError("wrong", "{message}", {"message": message, **values})


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "(none: it is not asked for)"


def _one_of(value: object, names: Collection[str], info: ValidationInfo) -> Any:
    if not isinstance(value, str) or value not in names:
        raise _wrong(f"{info.field_name} must be one of: {_listed(names)}.")
    return value


def _at_most(most_bytes: int) -> AfterValidator:
    def check(text: str, info: ValidationInfo) -> str:
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise _wrong(f"{info.field_name} is not valid Unicode.") from None
        if "\0" in text:  # it would truncate the text in some readers
            raise _wrong(f"{info.field_name} contains a NUL character.")
        if size > most_bytes:
            raise _wrong(f"{info.field_name} is longer than {most_bytes:,} bytes.", too_long=True)
        return text

    return AfterValidator(check)


def _choice(choice: str, info: ValidationInfo) -> str:
    asked = _asked(info)
    if asked is None or asked.item is None:
        return choice
    try:
        return parse_choice(choice, asked.item.mode, len(asked.item.completions))
    except ValueError as err:
        raise _wrong(f"{err}.") from None


def _order(order: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
    asked = _asked(info)
    n = len(asked.item.completions) if asked is not None and asked.item is not None else len(order)
    if sorted(order) != list(range(n)):
        raise _wrong(f"order must be the numbers 0 to {n - 1} in the order shown.")
    return order


def _strength(value: object, info: ValidationInfo) -> Any:
    asked = _asked(info)
    if value is not None:
        _one_of(value, STRENGTHS if asked is None or "strength" in asked.settings.ask else (), info)
    # A tie has no strength.
    return None if info.data.get("choice") in ("tie", "both_bad") else value


def _tags(value: Any, info: ValidationInfo) -> Any:
    asked = _asked(info)
    tags = value or []
    if asked is not None:
        names = asked.settings.tags if "tags" in asked.settings.ask else []
        if not isinstance(tags, list) or any(not isinstance(tag, str) or tag not in names for tag in tags):
            raise _wrong(f"tags must be a list of some of: {_listed(names)}.")
    return tuple(dict.fromkeys(tags))


def _vote_note(note: str, info: ValidationInfo) -> str:
    asked = _asked(info)
    if note and asked is not None and "note" not in asked.settings.ask:
        raise _wrong("Notes are not asked for.")
    return note


def _flag_reason(value: object, info: ValidationInfo) -> Any:
    return _one_of(value, FLAG_REASONS, info) if info.data.get("on") else ""


def _place(place: int, info: ValidationInfo) -> int:
    asked = _asked(info)
    if asked is not None and "edit" not in asked.settings.ask:
        raise _wrong("Edits are not asked for.")
    if asked is not None and asked.item is not None and not 0 <= place < len(asked.item.completions):
        raise _wrong(f"completion must be a place from 0 to {len(asked.item.completions) - 1}.")
    return place


def _not_blank(text: str) -> str:
    if not text.strip():
        raise _wrong("The better answer is empty.")
    return text


def _milliseconds(ms: int) -> int:
    if ms < 0:
        raise _wrong(f"ms = {ms} should be milliseconds.")
    # A page left open for days: the answer counts, the time does not.
    return min(ms, MOST_MS)


Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{8,64}$")]
"""Idempotency key: the sender draws one per action and keeps it for retries."""
Note = Annotated[str, BeforeValidator(lambda note: "" if note is None else note), _at_most(NOTE_BYTES)]
Milliseconds = Annotated[int, AfterValidator(_milliseconds)]
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


ItemId = Annotated[str, _at_most(NOTE_BYTES)]


class _OnItem(_ByPerson):
    item: ItemId


class NewVote(_OnItem):
    """``order``: place ``i`` of the page showed ``completions[order[i]]``."""

    type: Literal["vote"] = "vote"
    choice: Annotated[str, _at_most(NOTE_BYTES), AfterValidator(_choice)]
    order: Annotated[tuple[int, ...], AfterValidator(_order)]
    strength: Annotated[Strength | None, BeforeValidator(_strength)] = None
    tags: Annotated[tuple[str, ...], BeforeValidator(_tags)] = ()
    note: Annotated[Note, AfterValidator(_vote_note)] = ""
    ms: Milliseconds


class NewSkip(_OnItem):
    type: Literal["skip"] = "skip"
    reason: Annotated[str, BeforeValidator(lambda value, info: _one_of(value, SKIP_REASONS, info))]
    note: Note = ""
    ms: Milliseconds


class NewFlag(_OnItem):
    """Sets or removes the person's flag on an item."""

    type: Literal["flag"] = "flag"
    on: bool
    reason: Annotated[str, BeforeValidator(_flag_reason), Field(validate_default=True)] = ""
    note: Note = ""


class NewEdit(_OnItem):
    """A better text for the completion with this index."""

    type: Literal["edit"] = "edit"
    completion: Annotated[int, AfterValidator(_place)]
    text: Annotated[str, _at_most(EDIT_BYTES), AfterValidator(_not_blank)]


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
    version: Annotated[str, _at_most(CONSENT_BYTES)]
    sha256: Annotated[str, _at_most(CONSENT_BYTES)]


class NewAdjudication(_Event):
    """The operator's decision on an item; it overrides the votes."""

    type: Literal["adjudicate"] = "adjudicate"
    annotator: Literal["operator"] = OPERATOR
    item: ItemId
    choice: Annotated[str, AfterValidator(_choice)]


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
        return Malformed(f"type must be one of: {_listed(_TYPES)}.", "type")
    for error_type, verb in (("missing", "misses"), ("extra_forbidden", "does not know")):
        if keys := [str(e["loc"][-1]) for e in errors if e["type"] == error_type]:
            return Malformed(f"An event of type {kind} {verb} {_listed(keys)}.", "wrong keys")
    first, values = errors[0], errors[0].get("ctx", {})
    field = str(next(part for part in reversed(first["loc"]) if isinstance(part, str)))
    if first["type"] == "wrong":
        return Malformed(values["message"], field, values.get("too_long", False))
    return Malformed(f"{field} {_WORDS.get(first['type'], 'has a wrong value')}.", field)
