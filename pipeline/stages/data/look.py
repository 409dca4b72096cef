"""``python -m pipeline data look SOURCE``: print how rows would be read, before anything is trained on them."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pipeline.base.cli import as_called
from pipeline.base.errors import ConfigError
from pipeline.base.json_values import JsonObject
from pipeline.base.terminal_text import columns, cut, escape_for_terminal, put, put_json
from pipeline.formats.detect import JudgedRow, Render, render_plain
from pipeline.formats.inspection import Look, Reason, look
from pipeline.formats.read_options import JudgedSet
from pipeline.workflow.key_checks.unknown_and_mistyped import parse_options

WHERE = "command line"
WIDTH = 80
LINES = 3
_INDENT = 12
_EXAMPLE = "--columns prompt=question, or --columns '{prompt: question}'"


def main(argv: list[str] | None = None) -> int:
    """Look and print; 0.

    Raises:
        PipelineError: see :func:`pipeline.base.cli.run_cli`.
    """
    args = _parser().parse_args(argv)
    options = parse_options(JudgedSet, _options(args), WHERE, prefix="--")
    seen = look(options, WHERE, examples=args.rows, render=_render(options.chat_template), watch=_watched)
    if args.json:
        put_json(as_json(seen))
    else:
        put("\n".join(as_lines(seen)))
    return 0


def as_json(seen: Look) -> Mapping[str, object]:
    """Everything, for scripts; each of the first rows with its place."""
    first = [
        {"place": place, **({"prompt": row} if isinstance(row, str) else dataclasses.asdict(row))}
        for place, row in seen.first
    ]
    return dataclasses.asdict(seen) | {"first": first}


def as_lines(seen: Look) -> list[str]:
    """Lines of at most 80 columns, with control characters escaped."""
    lines = [_line("source", seen.name), _line("format", seen.format), *_counts(seen)]
    lines += _wrapped("columns", ", ".join(seen.columns))
    lines += _wrapped("not used", ", ".join(seen.unused)) if seen.unused else []
    for title, reasons in (("cannot be used", seen.broken), ("left out", seen.left_out)):
        lines += _reasons(title, reasons)
    for warning in seen.warnings:
        lines += _wrapped("warning", warning)
    for place, row in seen.first:
        lines += ["", *_row(place, row)]
    return [*lines, "", "write in the config:", *(f"  {escape_for_terminal(line)}" for line in seen.config)]


def _counts(seen: Look) -> list[str]:
    counts = {"rows": seen.rows, "prompts": seen.prompts}
    if seen.judged:
        counts |= {"comparisons": seen.comparisons, "decided": seen.decided, "ties": seen.ties}
        counts |= {"both bad": seen.both_bad} if seen.both_bad else {}
        counts |= {"votes": seen.votes, "people": seen.people}
    lines = [_line(name, f"{n:,}") for name, n in counts.items()]
    lines[0] += "" if seen.complete else " (the first ones; there are more)"
    return lines


def _reasons(title: str, reasons: dict[str, Reason]) -> list[str]:
    if not reasons:
        return []
    lines = [f"{title}:"]
    for text, reason in sorted(reasons.items(), key=lambda item: -item[1].rows):
        lines += _wrapped(f"{reason.rows:>10,}", f"{text}; first at {reason.first}")
    return lines


def _row(place: str, row: JudgedRow | str) -> list[str]:
    lines = [cut(escape_for_terminal(place), WIDTH, end=True)]
    if isinstance(row, str):
        return lines + _wrapped("prompt", row)
    names = ("A", "B") if row.tie else ("chosen", "rejected")
    for name, text in zip(("prompt", *names), (row.prompt, row.chosen, row.rejected), strict=True):
        lines += _wrapped(name, text)
    verdict = "both bad" if row.both_bad else "tie" if row.tie else "chosen is better"
    details = {"margin": row.margin, "scores": row.scores, "by": row.annotator}
    more = [f"{name} {value}" for name, value in details.items() if value is not None]
    return lines + _wrapped("verdict", ", ".join([verdict, *more]))


def _line(name: str, text: str) -> str:
    return f"{name:<{_INDENT}}" + cut(escape_for_terminal(text), WIDTH - _INDENT, end=name == "source")


def _wrapped(name: str, text: str) -> list[str]:
    """``text`` in up to three lines beside its name; longer text is cut, with an ellipsis."""
    shown, width, parts = escape_for_terminal(text[: WIDTH * LINES * 4]), WIDTH - _INDENT, list[str]()
    while shown and len(parts) < LINES - 1 and columns(shown) > width:
        part = cut(shown, width + 1).removesuffix("…")
        blank = part.rfind(" ", width // 2)
        part = part[: blank + 1] if blank > 0 else part
        parts.append(part)
        shown = shown[len(part) :]
    parts.append(cut(shown + "…" * (len(text) > WIDTH * LINES * 4), width))
    return [f"{name if i == 0 else '':<{_INDENT}}{part.rstrip()}" for i, part in enumerate(parts)]


def _render(chat_template: str | None) -> Render:
    if chat_template is None:
        return render_plain  # without torch, which takes seconds to load
    from pipeline.modeling.tokens import template_render

    return template_render(chat_template)


def _watched(rows: Iterable[Any]) -> Iterator[Any]:
    from tqdm import tqdm

    return iter(tqdm(rows, desc="reading", unit=" rows", unit_scale=True, disable=None, file=sys.stderr))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=as_called("pipeline data look"),
        description="Print how rows would be read: format, counts, the first rows, what cannot be used and why, "
        "and the lines to write in a config. All rows are read; nothing is trained or written.",
    )
    parser.add_argument("source", help="a file, a directory, a Hub id, or a URL of files (s3://)")
    parser.add_argument("--rows", type=int, default=3, metavar="N", help="show so many (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="everything, as JSON")
    for name, hint in _hints().items():
        values = [v for v in typing.get_args(hint) if isinstance(v, str)]
        mapping = _kind(hint) is dict
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            dest=f"set_{name}",
            action="append" if mapping else "store",
            metavar="OURS=THEIRS" if mapping else None if values else name.upper(),
            choices=values if typing.get_origin(hint) is typing.Literal else None,
            help='as in a config; repeatable, or as "{ours: theirs}"' if mapping else "as in a config",
        )
    return parser


def _hints() -> dict[str, object]:
    """The options of a set and their types: the command line takes the same ones as a config."""
    hints = typing.get_type_hints(JudgedSet)
    return {f.name: hints[f.name] for f in dataclasses.fields(JudgedSet) if f.name != "dataset"}


def _kind(hint: object) -> Any:
    kinds = [typing.get_origin(h) or h for h in (hint, *typing.get_args(hint))]
    return dict if kinds[0] is dict or dict in kinds[1:] else kinds[0]


def _options(args: argparse.Namespace) -> JsonObject:
    options: JsonObject = {"dataset": args.source}
    for name, hint in _hints().items():
        value = getattr(args, f"set_{name}")
        is_text = hint is str or str in typing.get_args(hint) or typing.get_origin(hint) is typing.Literal
        if isinstance(value, list):
            options[name] = _mapping(name, value)
        elif value is not None:
            options[name] = value if is_text else _yaml(name, value)
    return options


def _mapping(name: str, values: list[str]) -> JsonObject:
    mapping: JsonObject = {}
    for text in values:
        ours, sign, theirs = text.partition("=")
        value = (
            _yaml(name, text) if text.lstrip().startswith("{") else {ours: _yaml(name, theirs)} if sign else None
        )
        if not isinstance(value, dict):
            raise ConfigError(WHERE, f"--{name} {text!r} is not ours=theirs.", f"Such as: {_EXAMPLE}")
        mapping |= value
    return mapping


def _yaml(name: str, text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as err:
        raise ConfigError(WHERE, f"--{name} {text!r} is not YAML.", f"Such as: {_EXAMPLE}") from err
