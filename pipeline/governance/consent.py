"""Check before rows leave whether the people whose answers they are have agreed to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.base.errors import DataError, StoreError
from pipeline.formats.judged import is_person
from pipeline.governance.approvals import one_line
from pipeline.governance.gate import Missing
from pipeline.store.parquet import Row
from pipeline.store.store import Store
from pipeline.store.version import Version

KEY = "consent"
"""Of governance: a sentence that begins with one of the words below, or any other."""
NOT_NEEDED = "not needed"
UNKNOWN = "unknown"
STATED = "stated for all rows"
_SAY_NOTHING = (NOT_NEEDED, UNKNOWN, STATED)
_MEND = "ask these people, or train without the rows: --without-consent does not do where consent is required"


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
    return one_line(basis, "--without-consent")


def missing_consent(store: Store, version: Version) -> Iterator[Missing]:
    """The preferences among a version and its ancestors of which consent is refused or not known."""
    for node in [store.lineage(version), *store.ancestors(version)]:
        if node.manifest is not None and node.manifest.kind != "preferences":
            continue
        if node.state != "present":
            if node.manifest is not None or _may_be_preferences(store, version, node.ref):
                yield Missing(f"what people agreed to in {node.ref} is not known: it is {node.state}", _MEND)
            continue
        there = version if node.ref == version.ref else store.resolve(node.ref)
        for split in sorted({key.rpartition("/")[2] for key in there.splits}):
            if (why := _without_consent(store, there, split, strict=True)) is not None:
                yield Missing(f"{node.ref}, {split}: {why.rstrip('.')}", _MEND)
                break


def _may_be_preferences(store: Store, version: Version, ref: str) -> bool:
    """Whether an ancestor of which nothing is left is called preferences, or earlier ones, by what it made."""
    nodes = [store.lineage(version), *store.ancestors(version)]
    parents = (p for node in nodes if node.manifest for p in node.manifest.parents)
    return any(p.ref == ref and p.role in ("preferences", "previous", "scrubbed") for p in parents)


@dataclass
class _Answers:
    """Answers of people without consent, and those of which it is not known."""

    refused: int = 0
    unknown: int = 0
    recorded: bool = False
    people: set[str] = field(default_factory=set[str])

    def add(self, row: Row) -> None:
        who = row.get("annotator")
        self.recorded = self.recorded or KEY in row
        if not is_person(who) or row.get(KEY):
            return
        self.people.add(str(who))
        if KEY in row:
            self.refused += 1
        else:
            self.unknown += 1


def _without_consent(store: Store, version: Version, split: str, strict: bool = False) -> str | None:
    """Whose rows have no consent, in a sentence; None where all have it, or none needs it.

    Args:
        strict: where that is not known, they have none; of this version alone, without those before it.
    """
    said = version.manifest.governance.get(KEY)
    consent, answers = str(said or NOT_NEEDED), _Answers()
    configs = ("votes", "edits") if version.has_split(split, "votes") else ("default", "unpaired", "edits")
    for config in configs:
        for row in version.iter_rows(split, config) if version.has_split(split, config) else ():
            answers.add(row)
    if answers.refused:
        return f"answers of people without their consent: {answers.refused:,} (people: {len(answers.people)})."
    if not answers.recorded and not consent.startswith(_SAY_NOTHING):
        return f'the answers have no consent of their own, and the manifest says "{consent[:80]}".'
    if strict and not consent.startswith(STATED):
        if answers.unknown:
            return f"answers of people whose consent is not known: {answers.unknown:,}."
        if not answers.recorded and _is_unknown(version):
            return "what people agreed to is not known."
    for parent in version.manifest.parents:
        if parent.role != "previous" or strict:  # whose rows are carried into this version
            continue
        try:
            why = _without_consent(store, store.resolve(parent.ref), split)
        except StoreError:
            why = "what people agreed to is not known: it is gone."
        if why is not None:
            return f"of the rows from {parent.ref}: {why}"
    return None


def _is_unknown(version: Version) -> bool:
    """Whether nothing is known; of rows that were imported versions of before say that nobody annotated here."""
    said = str(version.manifest.governance.get(KEY) or UNKNOWN)
    imported = "format" in version.manifest.stats
    return said.startswith(UNKNOWN) or (imported and said.startswith(NOT_NEEDED))
