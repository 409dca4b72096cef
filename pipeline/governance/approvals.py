"""Sign-offs: a person says yes or no to a version, and that holds for its exact bytes."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.base.errors import ConfigError, StoreError
from pipeline.base.files import sha256_file
from pipeline.base.records import digest
from pipeline.governance.audit_log import AuditLog, Event
from pipeline.store.store import Store
from pipeline.store.version import Version

_LONGEST = {"--by": 100, "--note": 2000, "--override": 2000, "--without-consent": 2000}


@dataclass(frozen=True)
class Approval:
    """Who said yes to which version, or no, when, and what they wrote.

    Attributes:
        hash: of the event in the audit log.
        seal: of the version, see :func:`seal`.
    """

    ref: str
    by: str
    note: str
    time: str
    hash: str
    seal: str
    is_yes: bool = True


def seal(version: Version) -> str:
    """sha256 over the manifest, which holds that of every file, and the card.

    Raises:
        StoreError: a file is not as the manifest says.
    """
    if problems := version.verify():
        raise StoreError(version.where, f"is not as it was made ({problems[0]}).", "Restore it, or make it again.")
    card = version.path / "README.md"
    card_digest = sha256_file(card) if card.is_file() else None
    return digest([sha256_file(version.path / "manifest.json"), card_digest])


def approve(store: Store, version: Version, by: str, note: str, yes: bool = True) -> tuple[Approval, bool]:
    """Record that ``by`` approves ``version``, or says no to it.

    Returns:
        What was said, and whether it is new: the same words by the same person about the same bytes are not.
    Raises:
        ConfigError: no name, or one that does not fit in a line.
        StoreError: the version is damaged, or the audit log was changed.
    """
    by, note = one_line(by, "--by"), one_line(note, "--note", empty=True)
    log = AuditLog(store.root)
    last, now = _last(log.events(), version.ref), seal(version)
    kind = "approved" if yes else "rejected"
    same = last is not None and (last.event, last.by, last.facts["note"]) == (kind, by, note)
    if last is not None and same and _holds_for(last, now):
        return _approval(last), False
    facts: dict[str, str | int] = {"ref": version.ref, "id": version.id, "seal": now, "note": note}
    return _approval(log.append(kind, by, facts)), True


def withdraw(store: Store, version: Version, by: str, note: str) -> Approval | None:
    """Take the approval of ``version`` back; returns it, None where there is none."""
    by, note = one_line(by, "--by"), one_line(note, "--note", empty=True)
    log = AuditLog(store.root)
    last = _last(log.events(), version.ref)
    if last is None or last.event != "approved":
        return None
    log.append("withdrawn", by, {"ref": version.ref, "id": version.id, "note": note})
    return _approval(last)


def approval_of(store: Store, version: Version) -> Approval | None:
    """The approval of exactly these bytes; None where nobody approved them, or it was withdrawn.

    Raises:
        StoreError: the version is damaged, or the audit log was changed: neither counts as approved.
    """
    decision = decision_of(store, version)
    return decision if decision is not None and decision.is_yes else None


def decision_of(store: Store, version: Version) -> Approval | None:
    """The last yes or no to exactly these bytes; None where there is none, or the yes was withdrawn.

    Raises:
        StoreError: as of :func:`approval_of`.
    """
    last = _last(AuditLog(store.root).events(), version.ref)
    if last is None or last.event == "withdrawn" or not _holds_for(last, seal(version)):
        return None
    return _approval(last)


def sign_off(store: Store, version: Version) -> Approval | str:
    """The approval of exactly these bytes, or in a sentence without its end why there is none.

    Raises:
        StoreError: the audit log was changed.
    """
    last = _last(AuditLog(store.root).events(), version.ref)
    if last is None:
        return f"{version.ref} is not signed off"
    if last.event == "withdrawn":
        return f"{version.ref} is not signed off: {last.by} withdrew that at {last.time}"
    try:
        now = seal(version)
    except StoreError as err:
        return f"{version.ref} {err.what.rstrip('.')}"
    changed = f"{version.ref} is not what {last.by} signed off: its manifest or card was changed"
    return _approval(last) if _holds_for(last, now) else changed


def changed_since(store: Store) -> list[str]:
    """The approved versions whose bytes are not those that were approved, a sentence each."""
    log = AuditLog(store.root)
    events, problems = log.events(), list[str]()
    for ref in dict.fromkeys(str(event.facts["ref"]) for event in events if event.event == "approved"):
        last = _last(events, ref)
        if last is None or last.event != "approved":
            continue
        try:
            now = seal(store.resolve(ref))
        except StoreError as err:
            problems.append(f"{ref}, approved by {last.by}: {err}")
            continue
        if now != last.facts.get("seal"):
            problems.append(f"{ref} is not what {last.by} approved: its manifest or card was changed")
    return problems


def _last(events: list[Event], ref: str) -> Event | None:
    said = ("approved", "rejected", "withdrawn")
    about = [e for e in events if e.event in said and e.facts.get("ref") == ref]
    return about[-1] if about else None


def _holds_for(event: Event, now: str) -> bool:
    return event.event != "withdrawn" and event.facts.get("seal") == now


def _approval(event: Event) -> Approval:
    facts = event.facts
    ref, note, sealed = str(facts["ref"]), str(facts["note"]), str(facts["seal"])
    return Approval(ref, event.by, note, event.time, event.hash, sealed, event.event == "approved")


def one_line(text: str, option: str, empty: bool = False) -> str:
    """``text`` in one line. Raises ConfigError where it is empty, too long or not printable."""
    text = " ".join(text.split())
    if (not text and not empty) or not text.isprintable() or len(text) > _LONGEST[option]:
        fact = "is empty." if not text else f"is longer than {_LONGEST[option]} characters, or not printable."
        raise ConfigError(option, fact)
    return text
