"""The gate: what is asked for and missing stops a version, unless somebody overrides it by name.

Each refusal and each override is an event of the audit log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.base.errors import ConfigError, StoreError
from pipeline.base.required import REQUIRED, strictest
from pipeline.governance.approvals import one_line
from pipeline.governance.audit_log import AuditLog, Event, Facts
from pipeline.store.manifest import JsonDict
from pipeline.store.store import Store
from pipeline.store.version import Version


@dataclass(frozen=True)
class Missing:
    """What is asked for and not there: a sentence without its end, and what to do about it."""

    what: str
    mend: str


@dataclass(frozen=True)
class Override:
    """Why something may leave although the gate refuses it, and who says so.

    Raises:
        ConfigError: one of them does not fit in a line, or is empty.
    """

    reason: str
    by: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", one_line(self.reason, "--override"))
        object.__setattr__(self, "by", one_line(self.by, "--by"))

    @classmethod
    def given(cls, reason: str | None, by: str | None) -> Override | None:
        """That of a command line. Raises ConfigError where one of the two is missing."""
        if reason is None and by is None:
            return None
        if reason is None or by is None:
            raise ConfigError("--override", "needs a reason and a name.", 'Write  --override "why" --by NAME')
        return cls(reason, by)


def asked_of(store: Store, version: Version, given: object = None) -> JsonDict:
    """All that the version, its ancestors and ``given`` ask for, the strictest of each.

    Raises:
        StoreError: a manifest among them cannot be read, or holds what is no requirement.
    """
    nodes = [store.lineage(version), *store.ancestors(version)]
    for node in nodes:
        if node.state == "damaged":
            what = f"what it asks for is not known: {node.ref} is damaged."
            raise StoreError(version.where, what, "Restore it: python -m pipeline data verify")
    manifests = [node.manifest for node in nodes if node.manifest is not None]
    asked = [strictest(m.governance.get(REQUIRED), where=m.ref) for m in manifests]
    return strictest(given, *asked, where=version.where)


def admit(
    store: Store, version: Version, to: str, missing: Sequence[Missing], override: Override | None
) -> Event | None:
    """Let a version leave for ``to``; returns the event of the override where something is missing.

    The same override again is the same event.

    Raises:
        StoreError: something is missing and nobody overrides it; the audit log was changed.
    """
    log = AuditLog(store.root)
    log.events()
    if not missing:
        return None
    what = "; ".join(m.what for m in missing)
    if override is None:
        log.append("refused", "", _facts(version, to, what))
        listed = "; ".join(f"{m.what} ({m.mend})" for m in missing)
        mend = 'Or, noted in the audit log and on the card:  --override "why" --by NAME'
        raise StoreError(version.where, f"may not leave for {to}: {listed}.", mend)
    return note_override(store, version, to, what, override.reason, override.by)


def note_override(store: Store, version: Version, to: str, missing: str, reason: str, by: str) -> Event:
    """Note that a version leaves although something is missing; the same again is the same event.

    Raises:
        StoreError: the audit log was changed.
    """
    log, facts = AuditLog(store.root), {**_facts(version, to, missing), "note": reason}
    for event in log.events():
        if event.event == "overridden" and (event.by, event.facts) == (by, facts):
            return event
    return log.append("overridden", by, facts)


def _facts(version: Version, to: str, missing: str) -> Facts:
    return {"ref": version.ref, "id": version.id, "to": to, "missing": missing}
