"""The ``report`` section."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class ReportSection:
    """Its keys."""

    samples: int = field(default=4, metadata={"help": "Completions shown of each kind: gains, losses, random."})
