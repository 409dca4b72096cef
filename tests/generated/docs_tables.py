"""The tables in docs/ between ``<!-- keys of SECTION: a b c -->``, or ``<!-- keys in verl -->``, and their end."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.stages.handoff import verl_keys
from pipeline.workflow.key_table import keys_of

DOCS = Path(__file__).parents[2] / "docs"
VERL = re.compile(r"(<!-- keys in verl -->\n).*?(<!-- end of keys -->)", re.DOTALL)
BLOCK = re.compile(r"(<!-- keys of (.+?): (.+?) -->\n).*?(<!-- end of keys -->)", re.DOTALL)


def with_tables(text: str) -> str:
    """A document with its tables of keys as the code has them."""
    text = VERL.sub(lambda m: f"{m[1]}{verl_keys.key_table()}\n{m[2]}", text)
    return BLOCK.sub(lambda m: m[1] + table(m[2], m[3].split()) + m[4], text)


def table(place: str, names: list[str]) -> str:
    """Rows of key, default and what it is for."""
    keys = {key.name: key for key in keys_of(place)}
    defaults = {name: f"`{key.default}`" if key.default else "required" for name, key in keys.items()}
    rows = [(f"`{name}`", defaults[name], keys[name].help.replace("|", "\\|")) for name in names]
    return "\n".join(["| key | default | |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def write() -> None:
    """Write the tables into every document that has some."""
    for path in sorted(DOCS.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if (made := with_tables(text)) != text:
            path.write_text(made, encoding="utf-8")
