"""Count personal data in rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pipeline.texts.personal_data.find import TYPES, find

STATS = "personal_data_replaced"
"""Key of a manifest's stats: what placeholders stand for, by type."""
ALL = "all"
"""Among limits: of the sum over all types."""


def count(rows: Iterable[Mapping[str, Any]], besides: Collection[str] = ()) -> Counter[str]:
    """The finds in every text of the rows, by type; columns ``besides`` apart."""
    counts = Counter[str]()
    for row in rows:
        for column, value in row.items():
            if isinstance(value, str) and column not in besides:
                counts.update(one.type for one in find(value))
    return counts


def in_words(counts: Mapping[str, int]) -> str:
    """``3 email, 1 phone``, or that there is nothing."""
    listed = [f"{counts[type]:,} {type}" for type in TYPES if counts.get(type)]
    return ", ".join(listed) or "nothing personal of a known form"


def over(counts: Mapping[str, int], limits: Mapping[str, int]) -> list[str]:
    """The limits that are exceeded: ``3 email (at most 0)``."""
    numbers = {**counts, ALL: sum(counts.values())}
    return [f"{numbers[t]:,} {t} (at most {limit:,})" for t, limit in limits.items() if numbers.get(t, 0) > limit]
