"""Inspect a source of rows before training: its format, counts, first rows, and what to fix. Keeps few rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.base.errors import DataError
from pipeline.base.key_numbers import Tally
from pipeline.formats.detect import (
    PUBLIC_SETS,
    JudgedRow,
    Reading,
    Render,
    Unusable,
    parse_prompt,
    read_judged,
    render_plain,
)
from pipeline.formats.likeness import looks_like
from pipeline.formats.read_options import JudgedSet
from pipeline.sources.hub import commit_of
from pipeline.sources.row_sources import Row, hub_dataset, located_rows, rename_columns

Located = tuple[str, Row]
PROMPTS, UNJUDGED = "prompts", "completions without a verdict"
Watch = Callable[[Iterable[Any]], Iterable[Any]]
"""Wraps rows to show progress."""

_VERDICTS = ("chosen", "rejected", "choice", "label", "winner", "preference")


@dataclass
class Reason:
    """Why rows are not used: how many, and where the first one is."""

    rows: int
    first: str


@dataclass
class Look:
    """The result of an inspection.

    Attributes:
        format: of judged rows; :data:`PROMPTS` or :data:`UNJUDGED` of rows that nobody has judged.
        complete: whether all rows were read.
        votes: judgements, each person's; of rows that count the votes of several, all of those.
        broken, left_out: by reason; there is nothing wrong with rows that are only left out.
        first: place and row of the first ones that are used.
    """

    source: str
    format: str
    columns: list[str]
    complete: bool = True
    commit: str | None = None
    rows: int = 0
    decided: int = 0
    ties: int = 0
    both_bad: int = 0
    comparisons: int = 0
    prompts: int = 0
    votes: int = 0
    people: int = 0
    broken: dict[str, Reason] = field(default_factory=dict[str, Reason])
    left_out: dict[str, Reason] = field(default_factory=dict[str, Reason])
    unused: list[str] = field(default_factory=list[str])
    warnings: list[str] = field(default_factory=list[str])
    first: list[tuple[str, JudgedRow | str]] = field(default_factory=list[Any])
    config: list[str] = field(default_factory=list[str])

    @property
    def judged(self) -> bool:
        return self.format not in (PROMPTS, UNJUDGED)

    @property
    def name(self) -> str:
        return f"{self.source}@{self.commit[:10]}" if self.commit else self.source

    def sentence(self) -> str:
        """The short form, in one line."""
        rows = "rows" if self.rows != 1 else "row"
        seen = f"{self.rows:,} {rows}" if self.complete else f"the first {self.rows:,} {rows}"
        found = [f"{self.name}: {seen} read as {self.format}", f"{self.prompts:,} prompts"]
        if self.judged:
            counts = {"decided": self.decided, "ties": self.ties, "both bad": self.both_bad, "people": self.people}
            found = [
                found[0],
                f"{self.comparisons:,} comparisons",
                *(f"{n:,} {k}" for k, n in counts.items() if n),
            ]
        bad = sum(reason.rows for reason in self.broken.values())
        found += [f"{bad:,} cannot be used"] if bad else []
        found += [f"columns not used: {', '.join(self.unused)}"] if self.unused else []
        return "; ".join([found[0], ", ".join(found[1:])])


def look(
    options: JudgedSet,
    where: str,
    *,
    most: int | None = None,
    examples: int = 3,
    render: Render = render_plain,
    watch: Watch = iter,
) -> Look:
    """Inspect all rows, or the first ``most``.

    Args:
        examples: rows to keep as they are read.
    Raises:
        DataError: nothing to read, a file that is broken, a format that cannot be told.
    """
    try:
        format, first, _, located = options.rows(where)
    except DataError as refused:
        return _look_unjudged(options, where, refused, most, examples, render, watch)
    inspected = _begin(options, str(format), first)
    rows = _Counted(watch(located), inspected, most if most is not None else options.limit)
    how = options.reading(render, options.dataset)
    comparisons, prompts, people = Tally(), Tally(), set[str]()
    for place, one in read_judged(rows, format, how):
        if isinstance(one, Unusable):
            _refuse(inspected, one, place)
            continue
        if len(inspected.first) < examples:
            inspected.first.append((place, one))
        _count(inspected, one)
        a, b = (one.chosen, one.rejected) if one.chosen <= one.rejected else (one.rejected, one.chosen)
        comparisons.add((one.prompt, a, b))
        prompts.add(one.prompt)
        if one.annotator is not None:
            people.add(one.annotator)
    inspected.comparisons, inspected.prompts, inspected.people = (
        comparisons.distinct(),
        prompts.distinct(),
        len(people),
    )
    _end(inspected, options, how)
    return inspected


def look_at_head(options: JudgedSet, where: str, render: Render = render_plain, rows: int = 1000) -> str:
    """The short inspection that a stage prints before it reads a source, of its first rows.

    Columns that are not used are said by whoever reads, once all rows are known.
    """
    found = look(options, where, most=rows, examples=0, render=render)
    found.unused = []
    return found.sentence()


class _Counted:
    """Rows, of which it counts those that were read and notices whether there were more."""

    def __init__(self, rows: Iterable[Located], found: Look, most: int | None) -> None:
        self._rows, self._found, self._most = iter(rows), found, most

    def __iter__(self) -> Iterator[Located]:
        for row in itertools.islice(self._rows, self._most):
            self._found.rows += 1
            yield row
        self._found.complete = self._most is None or next(self._rows, None) is None


def _begin(options: JudgedSet, format: str, first: Row) -> Look:
    dataset = hub_dataset(options.dataset)
    commit = commit_of(dataset, options.revision) if dataset is not None else None
    return Look(options.dataset, format, list(first), commit=commit)


def _count(found: Look, one: JudgedRow) -> None:
    found.decided += not one.tie
    found.ties += one.tie and not one.both_bad
    found.both_bad += one.both_bad
    found.votes += sum(one.votes.values()) or 1


def _refuse(found: Look, one: Unusable, place: str) -> None:
    reasons = found.broken if one.broken else found.left_out
    if one.reason in reasons:
        reasons[one.reason].rows += 1
    else:
        reasons[one.reason] = Reason(1, place)


def _end(found: Look, options: JudgedSet, how: Reading) -> None:
    found.unused = sorted(how.notices.unused)
    found.warnings += [line for line in how.notices.lines() if not line.startswith("columns not used")]
    bad = sum(reason.rows for reason in found.broken.values())
    if not (found.decided or found.ties or found.both_bad):
        found.warnings.append("no row can be used")
    elif bad * 2 > found.rows:
        found.warnings.append(f"{bad:,} of {found.rows:,} rows cannot be used: is {found.format} their format?")
    if found.prompts == 1:
        found.warnings.append(
            "all rows share one prompt: texts are held out instead (collect.split_by: completion)"
        )
    if found.ties > found.decided:
        found.warnings.append("more ties than decisions")
    found.config = _replay_lines(found, options, skip=bool(bad) and found.format not in PUBLIC_SETS)


def _replay_lines(found: Look, options: JudgedSet, skip: bool) -> list[str]:
    given = _given(options)
    lines = ["collect:", "  annotator: replay", *(["  split_by: completion"] if found.prompts == 1 else [])]
    lines += ["  annotator_args:", *(f"    {key}: {_yaml(value)}" for key, value in given.items())]
    return lines + (["    on_bad_row: skip"] if skip else [])


def _given(options: JudgedSet) -> Mapping[str, object]:
    """The options that are not as they are by default."""
    plain = JudgedSet(options.dataset)
    given = {k: v for k, v in vars(options).items() if v != getattr(plain, k, None)}
    return {"dataset": options.dataset} | given


def _yaml(value: object) -> str:
    import yaml

    return (
        yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**9)
        .strip()
        .removesuffix("\n...")
    )


def _look_unjudged(
    options: JudgedSet,
    where: str,
    refused: DataError,
    most: int | None,
    examples: int,
    render: Render,
    watch: Watch,
) -> Look:
    """Rows of prompts, or of completions to be labelled; ``refused`` where they are neither.

    Raises:
        DataError: ``refused``.
    """
    if options.format != "auto":
        raise refused
    located = located_rows(
        options.dataset, split=options.split, subset=options.subset, revision=options.revision, where=where
    )
    start, first = next(located)
    given: dict[str, Any] = dict(options.columns)
    columns: dict[str, str] = {ours: theirs for ours, theirs in given.items() if isinstance(theirs, str)}
    prompt = columns.get("prompt") or ("prompt" if "prompt" in first else "text" if "text" in first else None)
    renamed = rename_columns(first, columns)
    if prompt not in first or any(name in renamed for name in _VERDICTS):
        raise refused
    completions = {"completions", "completion", "completion_a", "completion_b"} & set(renamed)
    found = _begin(options, UNJUDGED if completions else PROMPTS, first)
    prompts = Tally()
    for place, row in _Counted(watch(itertools.chain([(start, first)], located)), found, most or options.limit):
        one = parse_prompt(row.get(prompt), render)
        if isinstance(one, Unusable):
            _refuse(found, one, place)
            continue
        prompts.add(one)
        if len(found.first) < examples:
            found.first.append((place, one))
    found.prompts = prompts.distinct()
    found.warnings += [hint] if (hint := looks_like(renamed)) else []
    found.unused = sorted(set(found.columns) - {prompt, *completions, *columns.values()})
    found.config = _unjudged_lines(found, options, str(prompt))
    return found


def _unjudged_lines(found: Look, options: JudgedSet, prompt: str) -> list[str]:
    if found.format == UNJUDGED:
        own = {k: v for k, v in _given(options).items() if k in ("dataset", "columns")}
        return ["collect:", "  annotator: human", "label:", *(f"  {k}: {_yaml(v)}" for k, v in own.items())]
    args = {k: v for k, v in _given(options).items() if k in ("dataset", "split", "subset", "revision", "limit")}
    task, column = ("continuation", "text_column") if prompt == "text" else ("prompts", "prompt_column")
    args |= {column: prompt} if prompt not in ("text", "prompt") else {}
    return [f"task: {task}", "task_args:", *(f"  {k}: {_yaml(v)}" for k, v in args.items())]
