"""``python -m pipeline data export``: write a preferences version as one file in another tool's format.

The file holds texts, choices and ids, of people their ids alone, and only of those who agreed to it.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pipeline.base.cli import as_called
from pipeline.base.errors import DataError, StoreError
from pipeline.base.files import disk_errors, fsync, replace_json
from pipeline.base.records import PREFERENCES, digest, row_id
from pipeline.base.terminal_text import put, put_json
from pipeline.formats.judged import JudgedRow, Unusable, absent, is_person
from pipeline.formats.writing import (
    ALL_OR_NO_MARGINS,
    EXPORT_FORMATS,
    LABEL_CONFIG,
    ExportFormat,
    Source,
    holds_ids,
    holds_ties,
    write,
)
from pipeline.governance.consent import consent_basis, missing_consent
from pipeline.governance.gate import Missing, Override, admit, asked_of
from pipeline.store import refs
from pipeline.store.store import Store
from pipeline.store.version import Version
from pipeline.texts.personal_data.count import count, over

Row = dict[str, Any]


@dataclass
class Exported:
    """The result of an export.

    Attributes:
        rows: in the file.
        preferences: of ours among them, ties included.
        left_out: preferences that the format cannot hold, by reason.
        lost: what it does not keep of those it holds.
        without_consent: why rows of people who agreed to nothing may leave; None where there are none.
        label_config: the file beside it with the labelling configuration of a Label Studio project.
    """

    rows: int = 0
    preferences: int = 0
    left_out: Counter[str] = field(default_factory=Counter[str])
    lost: Counter[str] = field(default_factory=Counter[str])
    without_consent: str | None = None
    label_config: str | None = None

    def sentence(self, format: str) -> str:
        """One line for the person watching."""
        parts = [f"{self.rows:,} {'row' if self.rows == 1 else 'rows'}"]
        for verb, counts in ((f"{format} does not keep", self.lost), ("left out", self.left_out)):
            if counts:
                parts.append(f"{verb}: " + ", ".join(f"{what} ({n:,})" for what, n in counts.items()))
        return "; ".join(parts)


def export(
    store: Store,
    version: Version,
    out: Path,
    format: ExportFormat,
    *,
    split: str = "train",
    without_consent: str | None = None,
    override: Override | None = None,
    force: bool = False,
) -> Exported:
    """Write one split to ``out``, and beside it ``<out>.about``: from which version, and what is missing.

    For Label Studio also ``<out>.xml``, the labelling configuration of the project to import it into.

    Args:
        without_consent: the basis on which rows of people who agreed to nothing may leave; written down.
        override: the same where it is required, with a name.
        force: replace a file that is there.
    Raises:
        DataError: no preferences; people without consent; a file name that does not fit; nothing to write.
        StoreError: ``out`` exists or cannot be written.
    """
    version.shards(split)
    _check_name(out, format, force)
    done = Exported(without_consent=_permit(store, version, split, out, without_consent, override))
    about = {"version": version.ref, "id": version.id, "split": split, "format": format}
    temporary = out.with_name(f".{out.name}.{uuid.uuid4().hex}")
    if format == "unpaired" and version.has_split(split, "unpaired"):  # completions that were judged alone
        rows = version.iter_rows(split, "unpaired", columns=["prompt", "completion", "label"])
    else:
        rows = _converted(_sources(store, version, split, format, done), format, done)
    with disk_errors(str(out), lambda: "nothing was written"):
        try:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                done.rows = _write(file, out.suffix.lower(), rows)
                file.flush()
                os.fsync(file.fileno())
            if not done.rows:
                raise DataError(version.where, f"split {split} has nothing for {format}: {done.sentence(format)}.")
            if format == "label_studio":
                done.label_config = str(config_path(out))
                config_path(out).write_text(LABEL_CONFIG, encoding="utf-8")
            replace_json(about_path(out), {**about, "made": refs.now(), **vars(done)})
            os.replace(temporary, out)
            fsync(out.parent)
        finally:
            temporary.unlink(missing_ok=True)
    return done


def _permit(
    store: Store, version: Version, split: str, out: Path, basis: str | None, override: Override | None
) -> str | None:
    """Why rows may leave that lack something; None where they lack nothing. Raises: see :func:`export`."""
    if version.manifest.kind != "preferences":
        raise DataError(version.where, f"holds {version.manifest.kind}, not preferences.", "Name another version.")
    asked = asked_of(store, version)
    lacking: list[Missing] = []
    if "consent" in asked:
        lacking += missing_consent(store, version)
    else:
        basis = consent_basis(store, version, split, basis)
    limits = asked.get("personal_data")
    texts = version.iter_rows(split, columns=["prompt", "chosen", "rejected"]) if limits else ()
    if limits and (exceeded := over(count(texts), limits)):
        mend = f"{as_called('pipeline data scrub')} {version.ref}"
        lacking.append(Missing(f"personal data in {version.ref}, {split}: {', '.join(exceeded)}", mend))
    event = admit(store, version, str(out), lacking, override)
    if event is not None:
        return f"{event.facts['note']} ({event.by})"
    return None if "consent" in asked else basis


def about_path(out: Path) -> Path:
    """The path of the note beside an export; no reader of rows takes this name for rows."""
    return out.with_name(out.name + ".about")


def config_path(out: Path) -> Path:
    """The path of the labelling configuration beside an export for Label Studio."""
    return out.with_name(out.name + ".xml")


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command line."""
    command.add_argument("ref", metavar="REF")
    command.add_argument("out", metavar="OUT", type=Path, help="a file: .jsonl, .json or .csv")
    command.add_argument("--format", required=True, choices=EXPORT_FORMATS, help="of the rows")
    command.add_argument("--split", default="train", help="default: train")
    agreed = "also rows of people who agreed to nothing, for this reason, which is written down"
    command.add_argument("--without-consent", metavar="BASIS", help=agreed)
    command.add_argument("--override", metavar="REASON", help="the same where the config requires consent")
    command.add_argument("--by", metavar="NAME", help="who overrides; stands in the audit log")
    command.add_argument("--force", action="store_true", help="replace OUT")


def run(store: Store, args: argparse.Namespace) -> int:
    """The command."""
    version = store.resolve(args.ref)
    options: dict[str, Any] = {"split": args.split, "without_consent": args.without_consent, "force": args.force}
    options["override"] = Override.given(args.override, args.by)
    done = export(store, version, args.out, args.format, **options)
    if args.json:
        put_json({"version": version.ref, "out": str(args.out), **vars(done)})
        return 0
    if done.without_consent is not None:
        put(f"people without consent are in it, because: {done.without_consent}")
    put(f"{version.ref} ({args.split}) -> {args.out}: {done.sentence(args.format)}")
    if done.label_config is not None:
        put(f"the project to import it into: paste {done.label_config} under Settings, Labeling Interface, Code")
    return 0


def _check_name(out: Path, format: ExportFormat, force: bool) -> None:
    fitting = [f".{format}"] if format in ("csv", "jsonl") else [".jsonl", ".json"]
    if out.suffix.lower() not in fitting:
        raise DataError(str(out), f"is no name for {format}.", f"Let it end in {' or '.join(fitting)}.")
    if not out.parent.is_dir():
        raise StoreError(str(out), f"there is no directory {out.parent}.", "Make it, or choose another.")
    beside = [about_path(out), *([config_path(out)] if format == "label_studio" else [])]
    if out.is_dir() or (not force and any(path.exists() for path in (out, *beside))):
        raise StoreError(str(out), "exists already.", "Choose another name, or add --force.")


def _write(file: IO[str], kind: str, rows: Iterator[Row]) -> int:
    """Write the rows as CSV, as a JSON array or as JSON lines; returns how many there are."""
    count = 0
    if kind == ".csv":
        first = next(rows, {})
        writer = csv.DictWriter(file, list(first))
        writer.writeheader()
        for row in itertools.chain([first] if first else [], rows):
            writer.writerow(row)
            count += 1
        return count
    start, between, end = ("[\n", ",\n", "\n]\n") if kind == ".json" else ("", "\n", "\n")
    for count, row in enumerate(rows, 1):
        file.write((between if count > 1 else start) + json.dumps(row, ensure_ascii=False))
    file.write(end)
    return count


def _sources(store: Store, version: Version, split: str, format: ExportFormat, done: Exported) -> Iterator[Source]:
    decided = set[str]()
    margins = format not in ALL_OR_NO_MARGINS or not any(
        absent(r["margin"]) for r in version.iter_rows(split, columns=["margin"])
    )
    for r in version.iter_rows(split, columns=list(PREFERENCES)):
        decided.add(r["comparison_id"])
        margin = None if absent(r["margin"]) else float(r["margin"])
        if margin is not None and not margins:
            done.lost["margins, as some rows have none"] += 1
            margin = None
        # Others than people may bear any name, a person's too.
        who = r["annotator"] if is_person(r["annotator"]) else None
        judged = JudgedRow(r["prompt"], r["chosen"], r["rejected"], margin=margin, annotator=who)
        yield Source(judged, r["id"], r["comparison_id"])
    undecided = _undecided(version, split, decided)
    if not holds_ties(format):
        for choice in undecided.values():
            done.left_out[f"{_called(choice)}: {format} has none"] += 1
        return
    texts = _texts(store, version, split, undecided)
    for id, choice in undecided.items():
        if id not in texts:
            done.left_out[f"{_called(choice)}: their texts are not at hand"] += 1
            continue
        prompt, a, b = texts[id]
        tie = JudgedRow(prompt, a, b, tie=True, both_bad=choice == "both_bad")
        yield Source(tie, row_id(prompt, a, b), id)


def _called(choice: str) -> str:
    return "ties" if choice == "tie" else "pairs with both bad"


def _undecided(version: Version, split: str, decided: set[str]) -> dict[str, str]:
    """``tie`` or ``both_bad`` by comparison, of those that gave no row.

    It is the outcome where the version keeps outcomes; elsewhere more than half of the votes must say so.
    """
    if version.has_split(split, "outcomes"):
        rows = (r for r in version.iter_rows(split, "outcomes") if r["choice"] in ("tie", "both_bad"))
        skip = {None, *decided}
        return {r["comparison_id"]: r["choice"] for r in rows if r["comparison_id"] not in skip}
    votes: dict[str, Counter[str]] = {}
    for r in version.iter_rows(split, "votes") if version.has_split(split, "votes") else ():
        if r.get("choice") in ("a", "b", "tie", "both_bad") and r["comparison_id"] not in decided:
            votes.setdefault(r["comparison_id"], Counter())[r["choice"]] += r.get("count") or 1
    undecided = {id: n for id, n in votes.items() if n["tie"] + n["both_bad"] > n["a"] + n["b"]}
    return {id: "both_bad" if n["both_bad"] > n["tie"] else "tie" for id, n in undecided.items()}


def _texts(store: Store, version: Version, split: str, wanted: dict[str, str]) -> dict[str, tuple[str, str, str]]:
    """Prompt and completions by comparison: of the version's own items, else of its parent's."""
    if not wanted:
        return {}
    if version.has_split(split, "items"):
        rows = (r for r in version.iter_rows(split, "items") if r["id"] in wanted)
        pairs = ((r, json.loads(r["completions"])) for r in rows)
        return {r["id"]: (r["prompt"], pair[0], pair[1]) for r, pair in pairs if len(pair) == 2}
    texts: dict[str, tuple[str, str, str]] = {}
    for parent in version.manifest.parents:
        try:
            origin = store.resolve(parent.ref) if parent.role == "comparisons" else None
        except StoreError:  # collected
            continue
        if origin is not None and origin.has_split(split):
            rows = (r for r in origin.iter_rows(split) if r["id"] in wanted)
            texts |= {r["id"]: (r["prompt"], r["completion_a"], r["completion_b"]) for r in rows}
    return texts


def _converted(sources: Iterable[Source], format: ExportFormat, done: Exported) -> Iterator[Row]:
    seen = set[str]()
    for source in sources:
        written = write(source, format)
        if isinstance(written, Unusable):
            done.left_out[f"not for {format}: {written.reason}"] += 1
            continue
        rows, lost = written
        done.preferences += 1
        done.lost.update(lost)
        done.lost.update([] if holds_ids(format) else ["ids of rows"])
        for row in rows:
            if format == "unpaired":  # a completion may be in several pairs
                key = digest(row)
                if key in seen:
                    continue
                seen.add(key)
            yield row
