"""Collect and count what the owner of the rows should know about how they were read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from pipeline.formats.judged import Row

_SYSTEM = frozenset(("system", "system_prompt", "system_message"))


@dataclass
class Notices:
    """Collected while rows are read; one for each source that is read."""

    counts: Counter[str] = field(default_factory=Counter[str])
    told: dict[str, None] = field(default_factory=dict[str, None])
    unused: dict[str, None] = field(default_factory=dict[str, None])
    read_too: set[str] = field(default_factory=set[str])
    """Columns that whoever reads the rows uses beside the format."""
    _seen: set[tuple[str, ...]] = field(default_factory=set[tuple[str, ...]], repr=False)

    def tell(self, line: str) -> None:
        """Keep a line about how the rows are read, once."""
        self.told.setdefault(line)

    def add(self, what: str) -> None:
        """Count one more row under ``what``."""
        self.counts[what] += 1

    def looked_at(self, row: Row) -> bool:
        """Whether a row with just these columns was there before."""
        return tuple(row) in self._seen

    def columns(self, row: Row, used: Collection[str]) -> None:
        """Keep the names of a row's unused columns."""
        if self.looked_at(row):
            return
        self._seen.add(tuple(row))
        for name in row:
            if name not in used and name not in self.read_too:
                self.unused.setdefault(name)

    def lines(self) -> list[str]:
        """One line each, sentences without a full stop; the columns first, what was done to rows last."""
        lines = [f"columns not used: {', '.join(sorted(self.unused))}"] if self.unused else []
        system = sorted(_SYSTEM & set(self.unused))
        if system:
            lines[0] += f" (columns: {{system: {system[0]}}} puts it before the prompt)"
        return (
            lines
            + list(self.told)
            + [f"{what}: {n:,} row{'s' if n > 1 else ''}" for what, n in sorted(self.counts.items())]
        )
