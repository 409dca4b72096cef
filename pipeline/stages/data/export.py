"""``python -m pipeline data export``: a preferences version as one file in another tool's format.

What leaves: texts, choices, ids. What people agreed to is checked first, and of people only their ids leave. What
the formats look like is :mod:`pipeline.formats.writing`'s.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

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
from pipeline.store import refs
from pipeline.store.store import Store
from pipeline.store.version import Version

Row = dict[str, Any]

_NOT_NEEDED = "not needed"


@dataclass
class Exported:
    """What was written.

    Attributes:
        rows: in the file.
        preferences: of ours among them, ties included.
        left_out: what the format cannot hold at all, by reason.
        lost: what it does not keep of what it holds.
        without_consent: why rows of people who agreed to nothing may leave; None where there are none.
        label_config: the file beside it with the labelling configuration for the Label Studio project it goes to.
    """

    rows: int = 0
    preferences: int = 0
    left_out: Counter[str] = field(default_factory=Counter[str])
    lost: Counter[str] = field(default_factory=Counter[str])
    without_consent: str | None = None
    label_config: str | None = None

    def sentence(self, format: str) -> str:
        """One line for the person watching."""
        said = [f"{self.rows:,} {'row' if self.rows == 1 else 'rows'}"]
        for verb, counts in ((f"{format} does not keep", self.lost), ("left out", self.left_out)):
            if counts:
                said.append(f"{verb}: " + ", ".join(f"{what} ({n:,})" for what, n in counts.items()))
        return "; ".join(said)


def export(
    store: Store,
    version: Version,
    out: Path,
    format: ExportFormat,
    *,
    split: str = "train",
    without_consent: str | None = None,
    force: bool = False,
) -> Exported:
    """Write one split to ``out``, and beside it ``<out>.about``: from which version, and what is missing.

    For Label Studio also ``<out>.xml``, the labelling configuration of the project to import it into.

    Args:
        without_consent: the basis on which rows of people who agreed to nothing may leave; written down.
        force: replace a file that is there.
    Raises:
        DataError: no preferences; people without consent; a file name that does not fit; nothing to write.
        StoreError: ``out`` exists or cannot be written.
    """
    if version.manifest.kind != "preferences":
        raise DataError(version.where, f"holds {version.manifest.kind}, not preferences.", "Name another version.")
    version.shards(split)
    _check_name(out, format, force)
    done = Exported(without_consent=_consent(store, version, split, without_consent))
    about = {"version": version.ref, "id": version.id, "split": split, "format": format}
    temporary = out.with_name(f".{out.name}.{uuid.uuid4().hex}")
    rows = _converted(_sources(store, version, split, format, done), format, done)
    if format == "unpaired" and version.has_split(split, "unpaired"):
        rows = _opinions(version, split, done)
    with disk_errors(str(out), lambda: "nothing was written"):
        try:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                _write(file, out.suffix.lower(), rows)
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


def about_path(out: Path) -> Path:
    """Of the note beside an export; no reader of rows takes this name for rows."""
    return out.with_name(out.name + ".about")


def config_path(out: Path) -> Path:
    """Of the labelling configuration beside an export for Label Studio."""
    return out.with_name(out.name + ".xml")


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command line."""
    command.add_argument("ref", metavar="REF")
    command.add_argument("out", metavar="OUT", type=Path, help="a file: .jsonl, .json or .csv")
    command.add_argument("--format", required=True, choices=EXPORT_FORMATS, help="of the rows")
    command.add_argument("--split", default="train", help="default: train")
    command.add_argument(
        "--without-consent",
        metavar="BASIS",
        help="also rows of people who agreed to nothing, for this reason, which is written down",
    )
    command.add_argument("--force", action="store_true", help="replace OUT")


def run(store: Store, args: argparse.Namespace) -> int:
    """The command."""
    version = store.resolve(args.ref)
    done = export(
        store,
        version,
        args.out,
        args.format,
        split=args.split,
        without_consent=args.without_consent,
        force=args.force,
    )
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
    fitting = [".csv"] if format == "csv" else [".jsonl"] if format == "jsonl" else [".jsonl", ".json"]
    if out.suffix.lower() not in fitting:
        raise DataError(str(out), f"is no name for {format}.", f"Let it end in {' or '.join(fitting)}.")
    if not out.parent.is_dir():
        raise StoreError(str(out), f"there is no directory {out.parent}.", "Make it, or choose another.")
    beside = [about_path(out), *([config_path(out)] if format == "label_studio" else [])]
    if out.is_dir() or (not force and any(path.exists() for path in (out, *beside))):
        raise StoreError(str(out), "exists already.", "Choose another name, or add --force.")


def _write(file: IO[str], kind: str, rows: Iterable[Row]) -> None:
    if kind == ".csv":
        writer: csv.DictWriter[str] | None = None
        for row in rows:
            if writer is None:
                writer = csv.DictWriter(file, list(row))
                writer.writeheader()
            writer.writerow(row)
        return
    array = kind == ".json"
    before = "[\n" if array else ""
    for row in rows:
        file.write(before + json.dumps(row, ensure_ascii=False))
        before = ",\n" if array else "\n"
    file.write("\n]\n" if array else "\n")


# People's consent


def _consent(store: Store, version: Version, split: str, basis: str | None) -> str | None:
    """The basis that is needed, if any.

    Raises:
        DataError: one is needed and none is given.
    """
    if basis is not None and not basis.strip():
        raise DataError("--without-consent", "is empty.", "Say in a sentence why these rows may leave.")
    why = _without_consent(store, version, split)
    if why is not None and basis is None:
        mend = 'Ask them; or say why their rows may leave:  --without-consent "..."'
        raise DataError(version.where, f"{why} Nothing was written.", mend)
    return None if why is None or basis is None else basis.strip()


def _without_consent(store: Store, version: Version, split: str) -> str | None:
    """Whose rows have no consent, in a sentence; None where all have, or none needs one."""
    said = str(version.manifest.governance.get("consent") or _NOT_NEEDED)
    answers, people, asked = 0, set[str](), False
    for config in ("votes", "edits"):
        for row in version.iter_rows(split, config) if version.has_split(split, config) else ():
            asked = asked or "consent" in row
            if "consent" in row and not row["consent"] and is_person(row.get("annotator")):
                answers += 1
                people.add(row["annotator"])
    if people:
        return f"answers of people without their consent: {answers:,} (people: {len(people)})."
    if not asked and not said.startswith(_NOT_NEEDED):
        return f'the answers have no consent of their own, and the manifest says "{said[:80]}".'
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


# What is exported


def _sources(store: Store, version: Version, split: str, format: ExportFormat, done: Exported) -> Iterator[Source]:
    decided = set[str]()
    margins = format not in ALL_OR_NO_MARGINS or _all_have_margins(version, split)
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


def _all_have_margins(version: Version, split: str) -> bool:
    return not any(absent(r["margin"]) for r in version.iter_rows(split, columns=["margin"]))


def _called(choice: str) -> str:
    return "ties" if choice == "tie" else "pairs with both bad"


def _undecided(version: Version, split: str, decided: set[str]) -> dict[str, str]:
    """``tie`` or ``both_bad`` by comparison, of those that gave no row.

    What several votes come to is read where it is kept; elsewhere more than half of the votes must say so.
    """
    if version.has_split(split, "outcomes"):
        rows = version.iter_rows(split, "outcomes")
        found = {r["comparison_id"]: r["choice"] for r in rows if r["choice"] in ("tie", "both_bad")}
        return {id: choice for id, choice in found.items() if id is not None and id not in decided}
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
    found: dict[str, tuple[str, str, str]] = {}
    for parent in version.manifest.parents:
        try:
            origin = store.resolve(parent.ref) if parent.role == "comparisons" else None
        except StoreError:  # collected
            continue
        if origin is not None and origin.has_split(split):
            rows = (r for r in origin.iter_rows(split) if r["id"] in wanted)
            found |= {r["id"]: (r["prompt"], r["completion_a"], r["completion_b"]) for r in rows}
    return found


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
            done.rows += 1
            yield row


def _opinions(version: Version, split: str, done: Exported) -> Iterator[Row]:
    """Completions that people liked or disliked one at a time."""
    for row in version.iter_rows(split, "unpaired", columns=["prompt", "completion", "label"]):
        done.rows += 1
        yield row
