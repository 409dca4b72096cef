"""Preferences somebody else collected, read back as judged comparisons: nothing is sampled.

Ratings that are no choice between two completions are left out on purpose (see pipeline.core.formats).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.annotators import Context, Source
from pipeline.core.errors import DataError
from pipeline.core.formats import COLUMNS, Format, JudgedRow, Unusable, detect_format, parse_row
from pipeline.core.records import Annotation, Comparison, row_id
from pipeline.core.rows import located_rows, rename_columns, require_columns


@dataclass(frozen=True)
class Options:
    """Where the preferences are and how to read them.

    Args:
        dataset: a file, a directory or a Hub id, see :func:`pipeline.core.rows.located_rows`.
        format: told from the first row by default.
        columns: ``{our name: their name}`` for prompt, chosen, rejected, tie, margin, votes_chosen and
            votes_rejected.
        chat_template: a tokenizer (directory or Hub id) whose chat template writes conversations out; the same as
            in ``task_args``, or the reward model learns on other prompts than PPO samples.
        limit: stop after this many usable rows, in the order of the set.
        on_bad_row: ``error`` stops at the first unusable row, ``skip`` counts it by reason. None: ``skip`` for
            HH-RLHF, whose public rows include some with empty turns or two prompts; ``error`` for the rest.
        annotator: the name that stands in every row; by default ``replay:<dataset>``.
    """

    dataset: str
    format: Format = "auto"
    columns: dict[str, str] = field(default_factory=dict[str, str])
    split: str | None = None
    subset: str | None = None
    revision: str | None = None
    limit: int | None = None
    chat_template: str | None = None
    on_bad_row: Literal["error", "skip"] | None = None
    annotator: str | None = None

    def __post_init__(self) -> None:
        unknown = sorted(set(self.columns) - set(COLUMNS))
        if unknown:
            raise ValueError(
                f'columns names "{unknown[0]}", which is none of ours: {", ".join(COLUMNS)}. '
                "It is written {ours: theirs}."
            )
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit = {self.limit} should be 1 or more.")


def build(options: Options, context: Context) -> Source:
    """A source that reads when asked. Which side is A depends on ``context.seed`` and the two texts alone."""
    return Replay(options, context)


class Replay:
    """See :class:`Options`."""

    def __init__(self, options: Options, context: Context) -> None:
        local = Path(options.dataset).expanduser()
        short = local.resolve().name if local.exists() else options.dataset
        self.name = options.annotator or f"replay:{short}"
        self._options, self._context = options, context
        self._format: Format = options.format
        self._counts, self._skipped = Counter[str](), Counter[str]()

    def judged(self) -> Iterator[tuple[Comparison, Annotation]]:
        """Every usable row once, ties included.

        Raises:
            DataError: nothing to read; an unusable row under ``on_bad_row: error``; no usable row at all.
        """
        self._counts, self._skipped = Counter(), Counter()
        seen: set[bytes] = set()
        for row in self._usable():
            key = bytes.fromhex(row_id(row.prompt, row.chosen, row.rejected))[:16]
            if key in seen:
                self._counts["duplicates"] += 1
                continue
            seen.add(key)
            comparison, choice = row.comparison(self._context.seed)
            self._counts["used"] += 1
            self._counts["ties"] += choice == "tie"
            yield comparison, Annotation(comparison.id, self.name, choice, margin=row.margin)
            if self._counts["used"] == self._options.limit:
                break
        if not self._counts["used"]:
            reasons = ", ".join(f"{reason} ({n})" for reason, n in self._skipped.most_common(3))
            raise DataError(
                self._options.dataset,
                f"none of {self._counts['rows']} rows is usable as {self._format}: {reasons}.",
                "Check format and columns in collect.annotator_args.",
            )

    def report(self) -> dict[str, Any]:
        """``rows`` read, ``used``, ``ties`` among those, ``duplicates`` left out, ``skipped`` by reason."""
        counts = {key: self._counts[key] for key in ("rows", "used", "ties", "duplicates")}
        return {
            "dataset": self._options.dataset,
            "format": self._format,
            **counts,
            "skipped": dict(sorted(self._skipped.items())),
        }

    def _usable(self) -> Iterator[JudgedRow]:
        from pipeline.modeling.tokens import template_render

        o, render = self._options, template_render(self._options.chat_template)
        self._format = o.format
        rows = located_rows(
            o.dataset,
            split=o.split,
            subset=o.subset,
            revision=o.revision,
            where=f"{self._context.where}: collect.annotator_args.dataset",
        )
        for place, row in rows:
            if self._counts["rows"] == 0:
                require_columns(row, o.columns.values(), place, "Mend the right-hand side in  columns: {...}.")
                self._format = detect_format(rename_columns(row, o.columns), place, o.format)
            self._counts["rows"] += 1
            parsed = parse_row(rename_columns(row, o.columns), self._format, place, render)
            if isinstance(parsed, JudgedRow):
                yield parsed
            else:
                self._refuse(parsed, place)

    def _refuse(self, bad: Unusable, place: str) -> None:
        skip = self._options.on_bad_row or ("skip" if self._format == "hh" else "error")
        if skip == "error":
            raise DataError(
                place,
                f"is no preference in format {self._format}: {bad.reason}.",
                "Mend the row, or set  on_bad_row: skip  to leave such rows out and count them.",
            )
        self._skipped[bad.reason] += 1
