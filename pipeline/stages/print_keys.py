"""keys: print the keys of a config: "keys ppo" prints a section, "keys ppo.kl_coef" one key."""

from __future__ import annotations

import argparse
import textwrap

from pipeline.base.cli import as_called
from pipeline.base.terminal_text import put
from pipeline.workflow.key_table import SHARED, Key, find, in_yaml, places

WIDTH = 100


def main(argv: list[str] | None = None) -> int:
    """Print keys.

    Raises:
        ConfigError: there is no such section or key.
    """
    parser = argparse.ArgumentParser(prog=as_called("pipeline keys"), description=__doc__)
    parser.add_argument(
        "name", nargs="*", help="a section, a key, or such as 'task_args of reviews'; without it, all sections"
    )
    name = " ".join(parser.parse_args(argv).name)
    put("\n".join(line for key in find(name or SHARED) for line in lines(key)))
    if not name:
        put("\nsections, and the keys below them: python -m pipeline keys NAME\n")
        for place, about in places().items():
            if place != SHARED:
                put(f"  {place:<36}  {about}")
    return 0


def lines(key: Key) -> list[str]:
    """A key as lines: name, type and default, then its purpose, or what to use instead."""
    default = f" = {key.default}" if key.default else ", to be given"
    text = key.help
    if key.idle is not None:
        values = ", ".join(in_yaml(v) for v in key.allowed if v not in (None, ""))
        text = f"{f'Refused, but for {values}.' if values else 'Refused.'} {key.idle.mend}"
    return [*wrapped(f"{key.name}: {key.type}{default}", ""), *wrapped(text, "    ")]


def wrapped(text: str, indent: str) -> list[str]:
    """``text`` as lines of a terminal, indented from the second on."""
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent="    ", break_on_hyphens=False)
