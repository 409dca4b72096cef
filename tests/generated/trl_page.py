"""Write the tables of docs/trl.md from tests marked ``differs(group, statement)`` and ``agrees(statement)``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.markdown import replace_between

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "trl.md"
GROUPS = ("steps", "settings", "tokens", "missing", "cost")
AGREES = "agrees"


@dataclass(frozen=True)
class Proof:
    """A statement about TRL and this package, and the test that proves it."""

    group: str
    statement: str
    test: str
    source: str


def proofs() -> list[Proof]:
    """The marked tests, in the order of their files."""
    return [proof for path in sorted((ROOT / "tests").rglob("test_*.py")) for proof in proofs_of(path)]


def proofs_of(path: Path) -> Iterator[Proof]:
    """The marked tests of one file."""
    text = path.read_text(encoding="utf-8")
    if "mark.differs" not in text and "mark.agrees" not in text:
        return
    for node in ast.parse(text).body:
        if not isinstance(node, ast.FunctionDef):
            continue
        for call in (d for d in node.decorator_list if isinstance(d, ast.Call)):
            mark = ast.unparse(call.func)
            if mark in ("pytest.mark.differs", "pytest.mark.agrees"):
                said = [str(ast.literal_eval(arg)) for arg in call.args]
                group = said[0] if mark == "pytest.mark.differs" else AGREES
                test = f"{path.relative_to(ROOT).as_posix()}::{node.name}"
                yield Proof(group, said[-1], test, ast.unparse(node))


def page(text: str) -> str:
    """docs/trl.md with its tables as the tests have them.

    Raises:
        DataError: a table's markers are missing or doubled.
    """
    marked = proofs()
    for group in (*GROUPS, AGREES):
        text = replace_between(text, group, table([p for p in marked if p.group == group]), "docs/trl.md")
    return text


def table(marked: list[Proof]) -> str:
    """A row for each statement."""
    rows = [f"| {proof.statement} | `{proof.test}` |" for proof in marked]
    return "\n".join(["| | proved by |", "|---|---|", *rows])


def write() -> None:
    """Write the tables into docs/trl.md."""
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
