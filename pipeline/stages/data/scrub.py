"""``python -m pipeline data scrub``: a version with placeholders in the place of personal data."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

from pipeline.annotators import Source
from pipeline.base.errors import DataError
from pipeline.base.json_values import JsonObject
from pipeline.base.records import Annotation, Comparison, digest, row_id
from pipeline.base.terminal_text import put, put_json
from pipeline.labelling.items import items_from_rows
from pipeline.store.parquet import read_footer
from pipeline.store.store import Store
from pipeline.store.version import Version
from pipeline.texts.personal_data.count import STATS, in_words
from pipeline.texts.personal_data.scrub import scrubbed, scrubbed_pair

Row = dict[str, Any]
Group = tuple[str, tuple[str, ...]]

FORMAT = 1
"""Raised when the same rows give other ones."""
KINDS = ("preferences", "comparisons", "prompts")
ROLE = "scrubbed"
"""Of the parent whose rows these are."""

_COMPLETIONS = ("chosen", "rejected", "completion", "completion_a", "completion_b")
_FREE = ("note", "reason", "gold")
_NOT_KEPT = ("hub", "pulled", "replaces", "redacted")
"""Of the governance of the version that is scrubbed: what is said of that one alone."""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command line."""
    command.add_argument("ref", metavar="REF", help="preferences, comparisons or prompts")


def run(store: Store, args: argparse.Namespace) -> int:
    """The command."""
    old = store.resolve(args.ref)
    new, made = scrub(store, old)
    counts: Mapping[str, int] = new.manifest.stats[STATS]
    if args.json:
        put_json({"version": new.ref, "of": old.ref, "made": made, STATS: counts})
    else:
        put(f"{'' if made else 'up to date: '}{old.ref} -> {new.ref}: {in_words(counts)} replaced")
        put("Names of people are not found. To train on it:  inputs: {" + f"{new.manifest.kind}: {new.ref}" + "}")
    return 0


def scrub(store: Store, old: Version) -> tuple[Version, bool]:
    """A version of ``old`` without personal data of well-defined form, and whether it is new.

    Raises:
        DataError: it holds no rows of texts, or carries those of another version.
        StoreError: it is damaged; the disk.
    """
    manifest = old.manifest
    if manifest.kind not in KINDS:
        raise DataError(old.where, f"is a version of {manifest.kind}.", f"Name one of {', '.join(KINDS)}.")
    if (before := next((p.ref for p in manifest.parents if p.role == "previous"), None)) is not None:
        # Carried rows get other ids, by which an erasure could no longer find them.
        mend = "Scrub what comes in: collect.scrub: true."
        raise DataError(old.where, f"carries rows of {before}.", mend)
    key = digest(["scrub", old.id, old.ref, FORMAT])
    if (made := store.find(old.name, key)) is not None:
        return made, False
    governance = {k: v for k, v in manifest.governance.items() if k not in _NOT_KEPT}
    counts, ids = Counter[str](), _new_ids(old)
    with store.draft(
        old.name,
        kind=manifest.kind,
        stage="scrub",
        key=key,
        parents=[(old, ROLE)],
        config=manifest.config,
        seed=manifest.seed,
        governance=governance,
    ) as draft:
        for name in manifest.splits:
            config, _, split = name.rpartition("/")
            config = config or "default"
            if shards := old.shards(split, config):
                schema = read_footer(shards[0], old.where).schema.to_arrow_schema()
                rows = (_scrubbed_row(row, ids, counts) for row in old.iter_rows(split, config))
                draft.write_rows(split, rows, config, schema)
            else:
                draft.write_rows(split, [], config, carry=old)
        # By ``sampling`` these would be taken for what an experiment has sampled itself.
        draft.stats.update({k: v for k, v in manifest.stats.items() if k != "sampling"})
        draft.stats[STATS] = dict(counts)
        draft.models.extend(manifest.models)
        draft.datasets.extend(manifest.datasets)
    return draft.version, True


class ScrubbedSource:
    """A source of judged comparisons, without personal data of well-defined form in their texts."""

    def __init__(self, source: Source) -> None:
        self._source, self._counts = source, Counter[str]()
        self.name = source.name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def judged(self) -> Iterator[tuple[Comparison, Annotation]]:
        """Those of the source."""
        for comparison, vote in self._source.judged():
            pair = [comparison.completion_a, comparison.completion_b]
            prompt, (a, b) = scrubbed_pair(comparison.prompt, pair, self._counts)
            new = Comparison(prompt, a, b, comparison.meta)
            yield new, replace(vote, comparison_id=new.id)

    def report(self) -> JsonObject:
        """That of the source, and what was replaced."""
        return {**self._source.report(), STATS: dict(self._counts)}


def scrubbed_groups(groups: Iterable[Group], counts: Counter[str]) -> Iterator[Group]:
    """Prompts and their completions without personal data; ``counts`` gets what was replaced."""
    for prompt, completions in groups:
        new_prompt, texts = scrubbed_pair(prompt, completions, counts)
        yield new_prompt, tuple(texts)


def _new_ids(version: Version) -> dict[str, str]:
    """The new id by the old one, of items and their pairs, which answers refer to."""
    ids: dict[str, str] = {}
    for name in version.manifest.splits:
        config, _, split = name.rpartition("/")
        if config != "items":
            continue
        rows = version.iter_rows(split, "items")
        for row, item in zip(version.iter_rows(split, "items"), items_from_rows(rows, split), strict=True):
            prompt, texts = scrubbed_pair(item.prompt, item.completions)
            (after,) = items_from_rows([{**row, "prompt": prompt, "completions": json.dumps(texts)}], split)
            ids[item.id] = after.id
            for i, j in combinations(range(len(texts)), 2):
                old, new = ([text[i], text[j]] for text in (item.completions, texts))
                ids[digest([item.prompt, *old])] = digest([prompt, *new])
    return {old: new for old, new in ids.items() if old != new}


def _scrubbed_row(row: Row, ids: Mapping[str, str], counts: Counter[str]) -> Row:
    new = {**row, **{key: scrubbed([row[key]], counts)[0] for key in _FREE if isinstance(row.get(key), str)}}
    keys = [key for key in _COMPLETIONS if isinstance(row.get(key), str)]
    listed: list[str] = json.loads(row["completions"]) if isinstance(row.get("completions"), str) else []
    prompt, texts = scrubbed_pair(row.get("prompt") or "", [*(row[key] for key in keys), *listed], counts)
    if isinstance(row.get("prompt"), str):
        new["prompt"] = prompt
    new |= zip(keys, texts, strict=False)
    if row.get("token_ids") is not None and new["completion"] != row["completion"]:
        new["token_ids"] = None  # they spell the text that was replaced
    if listed:
        new["completions"] = json.dumps(texts[len(keys) :], ensure_ascii=False)
    for key in ("item_id", "comparison_id"):
        if key in row:
            new[key] = ids.get(row[key], row[key])
    if "id" in row:
        new["id"] = _new_id(row, new, ids)
    return new


def _new_id(row: Row, new: Row, ids: Mapping[str, str]) -> str:
    """Of a row whose id is that of its texts, the id of the new ones; any other stays."""
    for before, after in zip(_ids_of(row), _ids_of(new), strict=True):
        if row["id"] == before:
            return after
    return ids.get(row["id"], row["id"])


def _ids_of(row: Row) -> Iterator[str]:
    if "chosen" in row:
        yield row_id(row["prompt"], row["chosen"], row["rejected"])
    if "replaced" in row:
        yield digest([row["item_id"], row["annotator"], row["replaced"], row["completion"]])
    if "label" in row:
        yield digest([row["prompt"], row["completion"], row["label"]])
    if "completion_a" in row:
        yield digest([row["prompt"], row["completion_a"], row["completion_b"]])
    if "prompt" in row:
        yield digest([row["prompt"]])
