"""An event as the page sends it, checked and put into the words of the log. The log says whether it can be."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.labelling.items import Item, as_meant, order_of, parse_choice
from pipeline.labelling.log.events import NewEvent
from pipeline.labelling.settings import FLAG_REASONS, SKIP_REASONS
from pipeline.labelling.web.request_checks import Refusal

if TYPE_CHECKING:
    from pipeline.labelling.web.context import Site

NOTE_BYTES = 10 * 1024
EDIT_BYTES = 100 * 1024
MOST_MS = 24 * 3600 * 1000
STRENGTHS = ("much", "slightly")

_KEY = re.compile(r"[A-Za-z0-9_-]{8,64}")
_NEEDED = {
    "vote": {"choice", "ms"},
    "skip": {"reason", "ms"},
    "flag": {"on"},
    "undo": set[str](),
    "edit": {"completion", "text"},
    "consent": {"version", "sha256"},
}
_OPTIONAL = {"vote": {"strength", "tags", "note"}, "skip": {"note"}, "flag": {"reason", "note"}}
_WITHOUT_ITEM = ("undo", "consent")


def event_of(body: Mapping[str, Any], annotator: str, site: Site) -> NewEvent:
    """The event that a body describes, in canonical words.

    Raises:
        Refusal: 400 an unknown or missing key, a wrong type, none of the possible values; 404 no such item; 409
            another consent text by now.
    """
    kind = _one_of(body, "type", _NEEDED)
    needed = {"key", "type"} | _NEEDED[kind] | (set() if kind in _WITHOUT_ITEM else {"item"})
    missing, unknown = needed - set(body), set(body) - needed - _OPTIONAL.get(kind, set())
    if missing or unknown:
        what = f"misses {_listed(missing)}" if missing else f"does not know {_listed(unknown)}"
        raise Refusal(400, f"An event of type {kind} {what}.", "wrong keys")
    key = _text(body, "key", NOTE_BYTES)
    if not _KEY.fullmatch(key):
        raise Refusal(400, "key must be 8 to 64 of the characters A-Z a-z 0-9 _ -.", "key")
    if kind == "consent":
        return NewEvent(key, kind, annotator, None, _consent(body, site))
    if kind == "undo":
        return NewEvent(key, kind, annotator)
    item = site.log.item(_text(body, "item", NOTE_BYTES))
    if item is None:
        raise Refusal(404, "There is no such item.")
    payload = _PAYLOADS[kind](body, item, annotator, site)
    return NewEvent(key, kind, annotator, item.id, payload, _ms(body) if "ms" in needed else None)


def _vote(body: Mapping[str, Any], item: Item, annotator: str, site: Site) -> dict[str, Any]:
    n, settings = len(item.completions), site.settings
    try:
        shown = parse_choice(_text(body, "choice", NOTE_BYTES), item.mode, n)
    except ValueError as err:
        raise Refusal(400, f"{err}.", "choice") from None
    order = order_of(item.id, annotator, site.log.salt, n)
    strength = None
    if body.get("strength") is not None:
        strength = _one_of(body, "strength", STRENGTHS if "strength" in settings.ask else ())
    tags = body.get("tags") or []
    known = settings.tags if "tags" in settings.ask else []
    if not isinstance(tags, list) or any(not isinstance(tag, str) or tag not in known for tag in tags):
        raise Refusal(400, f"tags must be a list of some of: {_listed(known)}.", "tags")
    return {
        "choice": as_meant(shown, item.mode, order),
        "order": list(order),
        # Nobody prefers a tie much.
        "strength": strength if shown not in ("tie", "both_bad") else None,
        "tags": list(dict.fromkeys(tags)),
        "note": _note(body, "note" in settings.ask),
    }


def _skip(body: Mapping[str, Any], item: Item, annotator: str, site: Site) -> dict[str, Any]:
    return {"reason": _one_of(body, "reason", SKIP_REASONS), "note": _note(body)}


def _flag(body: Mapping[str, Any], item: Item, annotator: str, site: Site) -> dict[str, Any]:
    if not isinstance(body["on"], bool):
        raise Refusal(400, "on must be true or false.")
    reason = _one_of(body, "reason", FLAG_REASONS) if body["on"] else ""
    return {"on": body["on"], "reason": reason, "note": _note(body)}


def _edit(body: Mapping[str, Any], item: Item, annotator: str, site: Site) -> dict[str, Any]:
    if "edit" not in site.settings.ask:
        raise Refusal(400, "Edits are not asked for.")
    n = len(item.completions)
    place = _whole(body, "completion")
    if not 0 <= place < n:
        raise Refusal(400, f"completion must be a place from 0 to {n - 1}.", "completion")
    text = _text(body, "text", EDIT_BYTES)
    if not text.strip():
        raise Refusal(400, "The better answer is empty.")
    return {"completion": order_of(item.id, annotator, site.log.salt, n)[place], "text": text}


def _consent(body: Mapping[str, Any], site: Site) -> dict[str, Any]:
    said = {name: _text(body, name, 256) for name in ("version", "sha256")}
    if said != {"version": site.consent.version, "sha256": site.consent.sha256}:
        raise Refusal(409, "The text to agree to is another one by now. Reload the page.", "consent")
    return said


_PAYLOADS: dict[str, Callable[[Mapping[str, Any], Item, str, Site], dict[str, Any]]] = {
    "vote": _vote,
    "skip": _skip,
    "flag": _flag,
    "edit": _edit,
}


def _note(body: Mapping[str, Any], asked: bool = True) -> str:
    text = _text(body, "note", NOTE_BYTES) if body.get("note") is not None else ""
    if text and not asked:
        raise Refusal(400, "Notes are not asked for.")
    return text


def _text(body: Mapping[str, Any], name: str, most_bytes: int) -> str:
    value = body[name]
    if not isinstance(value, str):
        raise Refusal(400, f"{name} must be text.", name)
    try:
        size = len(value.encode("utf-8"))
    except UnicodeEncodeError:
        raise Refusal(400, f"{name} is not valid Unicode.", name) from None
    if "\0" in value:  # nobody types it, and files downstream end at it
        raise Refusal(400, f"{name} holds a NUL character.", name)
    if size > most_bytes:
        raise Refusal(413, f"{name} is longer than {most_bytes:,} bytes.", name)
    return value


def _one_of(body: Mapping[str, Any], name: str, known: Any) -> Any:
    value = body.get(name)
    if not isinstance(value, str) or value not in known:
        raise Refusal(400, f"{name} must be one of: {_listed(known)}.", name)
    return value


def _whole(body: Mapping[str, Any], name: str) -> int:
    value = body[name]
    if not isinstance(value, int) or isinstance(value, bool):
        raise Refusal(400, f"{name} must be a whole number.", name)
    return value


def _ms(body: Mapping[str, Any]) -> int:
    # A page left open for days says nothing of the time spent, and its answer is as good as any.
    return min(_whole(body, "ms"), MOST_MS)


def _listed(names: Any) -> str:
    return ", ".join(sorted(names)) or "(none: it is not asked for)"
