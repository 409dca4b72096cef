"""Replay preferences collected elsewhere as judged comparisons. Formats: :mod:`pipeline.formats.detect`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.annotators import Context, Source
from pipeline.base.errors import DataError
from pipeline.base.json_values import JsonObject
from pipeline.base.process import say
from pipeline.base.records import Annotation, Comparison
from pipeline.formats.detect import PUBLIC_SETS, Format, JudgedRow, Notices, Unusable, read_judged
from pipeline.formats.inspection import look_at_head
from pipeline.formats.read_options import Judged, JudgedSet, Origins, Repeats
from pipeline.governance.consent import STATED, UNKNOWN
from pipeline.sources.row_sources import Row


@dataclass(frozen=True)
class Options(JudgedSet):
    """The data set and how to read it: :class:`pipeline.formats.read_options.JudgedSet`, and

    Args:
        limit: stop after this many usable rows, in the order of the set.
        chat_template: the same as in ``task_args``, or the reward model learns other prompts than PPO samples.
        on_bad_row: ``error`` stops at the first unusable row, ``skip`` counts it by reason. None: ``skip`` for
            the public sets, some of whose rows have empty turns or two prompts; ``error`` for all others.
        annotator: the annotator's name in every row; by default ``replay:<dataset>``. Where rows name a person,
            it is an id derived from the dataset's and the person's name instead (``p_...``), never the name.
        consent: what the people whose choices these are agreed to, and how that is known: said of all rows.
    """

    on_bad_row: Literal["error", "skip"] | None = None
    annotator: str | None = None
    consent: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.consent is not None and not self.consent.strip():
            raise ValueError("consent is empty: say what people agreed to, or leave it out.")


def build(options: Options, context: Context) -> Source:
    """A lazy source. Which side is A depends on ``context.seed`` and the two texts alone."""
    return Replay(options, context)


class Replay:
    """See :class:`Options`."""

    def __init__(self, options: Options, context: Context) -> None:
        local = Path(options.dataset).expanduser()
        short = local.resolve().name if local.exists() else options.dataset
        self.name = options.annotator or f"replay:{short}"
        self.aggregate, self.margin = options.aggregate, options.margin
        self._options, self._context, self._salt = options, context, short
        self._format: Format = options.format
        self._counts, self._skipped = Counter[str](), Counter[str]()
        self._details = dict[str, str]()
        self._people = set[str]()
        self._notices = Notices()

    @property
    def consent(self) -> str:
        """What is known of people's consent, for the manifest; see :mod:`pipeline.governance.consent`."""
        if (stated := self._options.consent) is not None:
            return f"{STATED}: {' '.join(stated.split())}"
        if (column := self._options.columns.get("consent")) is not None:
            return f"{STATED}: those whose column {column} says so; the others were left out"
        return f"{UNKNOWN}: imported, and nobody has said what people agreed to"

    def judged(self) -> Iterator[tuple[Comparison, Annotation]]:
        """Every vote, ties included. A row that counts several people's votes yields one annotation per choice.

        Raises:
            DataError: nothing to read; an unusable row under ``on_bad_row: error``; no usable row at all.
        """
        self._counts, self._skipped, self._people = Counter(), Counter(), set()
        self._details = {}
        repeats = Repeats()
        for row, origin in self._usable():
            judged = Judged(row, *row.comparison(self._context.seed))
            if repeats.is_vote(judged, origin):
                self._counts["used"] += 1
                yield from self._votes(judged)
                if self._counts["used"] == self._options.limit:
                    break
        for judged in repeats.copies():
            self._counts["used"] += judged.times
            yield from self._votes(judged)
        self._counts["duplicates"] = repeats.duplicates
        if not self._counts["used"]:
            reasons = ", ".join(f"{reason} ({n})" for reason, n in self._skipped.most_common(3))
            details = [self._details[reason] for reason, _ in self._skipped.most_common(1)]
            reasons += "".join(f"; {detail}" for detail in details if detail)
            what = f"none of {self._counts['rows']} rows is usable as {self._format}: {reasons}."
            raise DataError(self._options.dataset, what, "Check format and columns in collect.annotator_args.")

    def report(self) -> JsonObject:
        """``rows`` read, votes ``used``, ``ties`` among those, dropped ``duplicates``, ``skipped`` by reason.

        Also, where known, the number of ``people``, and ``notices``: lines about unused columns and changed rows.
        """
        counts = {key: self._counts[key] for key in ("rows", "used", "ties", "duplicates")}
        if self._people:
            counts["people"] = len(self._people)
        return {
            "dataset": self._options.dataset,
            "format": self._format,
            **counts,
            "skipped": dict(sorted(self._skipped.items())),
            **({"notices": notices} if (notices := self._notices.lines()) else {}),
        }

    def _votes(self, judged: Judged) -> Iterator[tuple[Comparison, Annotation]]:
        row = judged.row
        self._counts["ties"] += judged.times * (judged.choice == "tie")
        self._people |= {row.annotator} if row.annotator is not None else set()
        for vote in judged.votes(self.name):
            yield judged.comparison, vote

    def _usable(self) -> Iterator[tuple[JudgedRow, bytes]]:
        """Rows with their origin, see :meth:`Repeats.is_vote`."""
        from pipeline.modeling.tokens import template_render

        o = self._options
        self._format = o.format
        how = o.reading(template_render(o.chat_template), self._salt)
        self._notices = how.notices
        where = f"{self._context.where}: collect.annotator_args.dataset"
        say("collect", look_at_head(o, where, how.render))
        self._format, _, _, rows = o.rows(where)
        origins = Origins(self._format)
        for place, parsed in read_judged(origins.watched(self._counted(rows)), self._format, how):
            if isinstance(parsed, JudgedRow):
                yield parsed, origins.next()
            else:
                self._refuse(parsed, place)

    def _counted(self, rows: Iterable[tuple[str, Row]]) -> Iterator[tuple[str, Row]]:
        for row in rows:
            self._counts["rows"] += 1
            yield row

    def _refuse(self, bad: Unusable, place: str) -> None:
        skip = self._options.on_bad_row or ("skip" if self._format in PUBLIC_SETS else "error")
        if bad.broken and skip == "error":
            remedy = "Correct the row, or set  on_bad_row: skip  to skip and count such rows."
            raise DataError(place, f"is not a preference in format {self._format}: {bad.line}.", remedy)
        self._skipped[bad.reason] += 1
        self._details.setdefault(bad.reason, bad.detail)
