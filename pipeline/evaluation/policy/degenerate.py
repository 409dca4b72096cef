"""Rules that find degenerate completions from the text alone, for any task."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from pipeline.results.policy import DegenerateRate
from pipeline.statistics.bootstrap import wilson

# A piece of text, at most 100 characters long, three or more times in a row, with the same blanks and marks
# between. Characters and not words, so that it also sees scripts without spaces and "aaaaaaaa". The last round
# stands apart: at a text's end nothing follows it.
LOOP = re.compile(r"((.{1,100}?)\W{0,3}?)\1+\2", re.DOTALL)
SHORTEST_LOOP = 12
"""Characters: "ha ha ha" and "..." are English."""


def degenerate(completion: str, ended: bool) -> str | None:
    """The rule that makes this completion degenerate, or None.

    ``empty``: nothing but white space. ``no words``: not one letter or digit. ``loop``: something repeated three
    or more times in a row is over half of it. ``ends in a loop``: its last words are a piece of 12 characters or
    more for at least the third time. ``cut in a loop``: the length limit cut it while it was repeating something
    for at least the third time.

    Args:
        ended: the model stopped by itself.
    """
    text = " ".join(completion.lower().split())
    if not text:
        return "empty"
    if not any(c.isalnum() for c in text):
        return "no words"
    for match in LOOP.finditer(text):
        size = match.end() - match.start()
        if size < SHORTEST_LOOP:
            continue
        if size > len(text) / 2:
            return "loop"
        unit, piece, rest = match[1], match[2], text[match.end() :]
        # The last round may be cut itself.
        if (unit[len(piece) :] + piece).startswith(rest):
            if not ended:
                return "cut in a loop"
            if len(piece) >= SHORTEST_LOOP:
                return "ends in a loop"
    return None


def degenerate_rate(
    completions: Sequence[str], ended: Sequence[bool], per_prompt: int = 1, level: float = 0.95
) -> DegenerateRate:
    """Share of degenerate completions with Wilson's interval over prompts, and how many each rule took.

    Args:
        per_prompt: completions per prompt, which stand together.
    """
    kinds = [degenerate(text, bool(end)) for text, end in zip(completions, ended, strict=True)]
    broken = Counter(kind for kind in kinds if kind is not None)
    share = wilson(broken.total() / per_prompt, len(kinds) // per_prompt, level)
    return DegenerateRate(**vars(share), kinds=dict(broken))
