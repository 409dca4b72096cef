"""Check the fields of a new event against the question that it answers; pydantic's validators call these."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

from pipeline.labelling.items import Item, parse_choice
from pipeline.labelling.settings import FLAG_REASONS, LabelSection

NOTE_BYTES = 10 * 1024
EDIT_BYTES = 100 * 1024
CONSENT_BYTES = 256
MOST_MS = 24 * 3600 * 1000

Strength = Literal["much", "slightly"]
STRENGTHS: dict[Strength, float] = {"much": 2.0, "slightly": 1.0}
"""The margin of each strength."""


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


def listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "(none: it is not asked for)"


def one_of(value: object, names: Collection[str], info: ValidationInfo) -> Any:
    if not isinstance(value, str) or value not in names:
        raise _wrong(f"{info.field_name} must be one of: {listed(names)}.")
    return value


def at_most(most_bytes: int) -> AfterValidator:
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


def check_choice(choice: str, info: ValidationInfo) -> str:
    asked = _asked(info)
    if asked is None or asked.item is None:
        return choice
    try:
        return parse_choice(choice, asked.item.mode, len(asked.item.completions))
    except ValueError as err:
        raise _wrong(f"{err}.") from None


def check_order(order: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
    asked = _asked(info)
    n = len(asked.item.completions) if asked is not None and asked.item is not None else len(order)
    if sorted(order) != list(range(n)):
        raise _wrong(f"order must be the numbers 0 to {n - 1} in the order shown.")
    return order


def check_strength(value: object, info: ValidationInfo) -> Any:
    asked = _asked(info)
    if value is not None:
        one_of(value, STRENGTHS if asked is None or "strength" in asked.settings.ask else (), info)
    # A tie has no strength.
    return None if info.data.get("choice") in ("tie", "both_bad") else value


def check_tags(value: Any, info: ValidationInfo) -> Any:
    asked = _asked(info)
    tags = value or []
    if asked is not None:
        names = asked.settings.tags if "tags" in asked.settings.ask else []
        if not isinstance(tags, list) or any(not isinstance(tag, str) or tag not in names for tag in tags):
            raise _wrong(f"tags must be a list of some of: {listed(names)}.")
    return tuple(dict.fromkeys(tags))


def check_vote_note(note: str, info: ValidationInfo) -> str:
    asked = _asked(info)
    if note and asked is not None and "note" not in asked.settings.ask:
        raise _wrong("Notes are not asked for.")
    return note


def check_flag_reason(value: object, info: ValidationInfo) -> Any:
    return one_of(value, FLAG_REASONS, info) if info.data.get("on") else ""


def check_place(place: int, info: ValidationInfo) -> int:
    asked = _asked(info)
    if asked is not None and "edit" not in asked.settings.ask:
        raise _wrong("Edits are not asked for.")
    if asked is not None and asked.item is not None and not 0 <= place < len(asked.item.completions):
        raise _wrong(f"completion must be a place from 0 to {len(asked.item.completions) - 1}.")
    return place


def check_not_blank(text: str) -> str:
    if not text.strip():
        raise _wrong("The better answer is empty.")
    return text


def check_milliseconds(ms: int) -> int:
    if ms < 0:
        raise _wrong(f"ms = {ms} should be milliseconds.")
    # A page left open for days: the answer counts, the time does not.
    return min(ms, MOST_MS)
