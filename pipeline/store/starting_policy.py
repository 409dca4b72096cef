"""The sentence shown with a published policy of which PPO kept no update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SENTENCE = "This is the starting policy: no update was kept."


def is_starting(stats: Mapping[str, Any]) -> bool:
    """Whether a policy is that of before the first update, by the stats of its manifest."""
    return stats.get("kept") == 0
