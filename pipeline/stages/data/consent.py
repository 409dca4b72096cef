"""Check before an export whether the people whose rows leave have agreed to it."""

from __future__ import annotations

from pipeline.base.errors import DataError, StoreError
from pipeline.formats.judged import is_person
from pipeline.store.store import Store
from pipeline.store.version import Version

_NOT_NEEDED = "not needed"


def consent_basis(store: Store, version: Version, split: str, basis: str | None) -> str | None:
    """The basis on which rows without consent may leave; None where no row needs one.

    Raises:
        DataError: a row needs one and ``basis`` is None, or ``basis`` is blank.
    """
    if basis is not None and not basis.strip():
        raise DataError("--without-consent", "is empty.", "Say in a sentence why these rows may leave.")
    why = _without_consent(store, version, split)
    if why is None:
        return None
    if basis is None:
        fix = 'Ask them; or say why their rows may leave:  --without-consent "..."'
        raise DataError(version.where, f"{why} Nothing was written.", fix)
    return basis.strip()


def _without_consent(store: Store, version: Version, split: str) -> str | None:
    """Whose rows have no consent, in a sentence; None where all have it, or none needs it."""
    consent = str(version.manifest.governance.get("consent") or _NOT_NEEDED)
    answers, people, recorded = 0, set[str](), False
    for config in ("votes", "edits"):
        for row in version.iter_rows(split, config) if version.has_split(split, config) else ():
            recorded = recorded or "consent" in row
            if "consent" in row and not row["consent"] and is_person(row.get("annotator")):
                answers += 1
                people.add(row["annotator"])
    if people:
        return f"answers of people without their consent: {answers:,} (people: {len(people)})."
    if not recorded and not consent.startswith(_NOT_NEEDED):
        return f'the answers have no consent of their own, and the manifest says "{consent[:80]}".'
    for parent in version.manifest.parents:
        if parent.role != "previous":  # whose rows are carried into this version
            continue
        try:
            why = _without_consent(store, store.resolve(parent.ref), split)
        except StoreError:
            why = "what people agreed to is not known: it is gone."
        if why is not None:
            return f"of the rows from {parent.ref}: {why}"
    return None
