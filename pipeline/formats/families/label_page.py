"""Read the export of our label page: one row for each answer, in any of its modes."""

from __future__ import annotations

import json
from typing import Any, cast

from pipeline.formats.families.unpaired import THUMBS, Opinion, opinion
from pipeline.formats.judged import JudgedRow, Refused, Row, Unusable, is_person, judged, text
from pipeline.formats.reading import Reading, known_side, ranked

_SCORES = {"thumbs": {"like": 1.0, "dislike": 0.0}, "rating": {str(i): float(i) for i in range(1, 6)}}
_FORMULA = ("'=", "'+", "'-", "'@", "'\t", "'\r")


def answer(row: Row, how: Reading) -> Opinion | list[JudgedRow | Unusable]:
    """``mode``, ``prompt``, ``completions``, ``choice``, ``annotator``; a note, tags and the strength are left.

    Answers to items whose answer was known, and repeats, are tests of people and no preferences.
    """
    if row.get("gold"):
        raise Refused("the answer was known: a test", broken=False)
    if row.get("round") not in (None, "", "0", 0):
        raise Refused("asked a second time: a test", broken=False)
    prompt, completions = _texts(row)
    mode, choice = str(row.get("mode")), text(row.get("choice"), "choice")
    who = row["annotator"] if is_person(row.get("annotator")) else None
    if mode in ("thumbs", "rating") and len(completions) == 1:
        if choice not in _SCORES[mode]:
            raise Refused("unknown choice")
        # One person's 3 may be another's 4.
        kind = f"rating by {who}" if mode == "rating" else THUMBS
        return opinion(prompt, completions[0], _SCORES[mode][choice], who, kind)
    if mode == "ranking":
        ranks = _ranks(choice, len(completions))
        return ranked(
            prompt,
            [(completion, -rank) for completion, rank in zip(completions, ranks, strict=True)],
            how,
            annotator=who,
        )
    side = known_side(choice)
    if mode != "pairwise" or len(completions) != 2 or side is None:
        raise Refused("unknown choice")
    a, b = completions
    return [judged(prompt, (a, b), side, annotator=who)]


def _texts(row: Row) -> tuple[str, list[str]]:
    prompt, listed = text(row.get("prompt"), "prompt"), row.get("completions")
    if isinstance(listed, str):  # from CSV, where a text that a spreadsheet would run has an apostrophe before it
        prompt = prompt[1:] if prompt.startswith(_FORMULA) else prompt
        try:
            listed = json.loads(listed)
        except ValueError:
            raise Refused("completions is not JSON") from None
    if not isinstance(listed, list) or not listed:
        raise Refused("no completions")
    return prompt, [text(completion, "a completion") for completion in cast("list[Any]", listed)]


def _ranks(choice: str, n: int) -> list[int]:
    """``2>0=1`` as the rank of each of ``n`` completions, best 0."""
    try:
        ranks = {int(i): rank for rank, equal in enumerate(choice.split(">")) for i in equal.split("=")}
    except ValueError:
        ranks = {}
    if sorted(ranks) != list(range(n)):
        raise Refused("unknown choice")
    return [ranks[i] for i in range(n)]
