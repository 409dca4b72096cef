"""OpenAssistant's conversations: trees whose answers are ranked among their siblings, nested or as a flat list.

Köpf et al. 2023 (arXiv:2304.07327); ``*.trees.jsonl`` and ``*.messages.jsonl`` of OpenAssistant/oasst1 and oasst2.
Rank 0 is the best. Messages that were deleted or are spam by review are no answers and no prompts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from pipeline.formats.cells import parsed
from pipeline.formats.judged import JudgedRow, Refused, Row, Unusable, absent, number, text
from pipeline.formats.messages import Message, answered
from pipeline.formats.reading import Reading, ranked

Found = list[JudgedRow | Unusable]
_ROLES = {"prompter": "user", "assistant": "assistant"}
_DEEPEST = 200


def tree(row: Row, how: Reading) -> Found:
    """``prompt`` with ``text``, ``role`` and ``replies``, which have the same: every set of ranked answers."""
    root = parsed(row.get("prompt"), "prompt")
    if not isinstance(root, dict):
        raise Refused("prompt is no message with replies")
    pairs: Found = []
    _descend(root, [], how, pairs)
    return pairs or [Unusable("no two ranked answers to one prompt", broken=False)]


def flat(rows: Iterable[tuple[str, Row]], how: Reading) -> Iterator[tuple[str, JudgedRow | Unusable]]:
    """One message a row, ``parent_id`` naming the one it answers.

    All are held in memory: a parent may stand after its answer.
    """
    there: dict[str, tuple[str, Row]] = {}
    answers: dict[str, list[Row]] = {}
    for place, row in rows:
        if absent(row.get("message_id")):
            yield place, Unusable("no message_id")
            continue
        there[str(row["message_id"])] = (place, row)
        if not absent(row.get("parent_id")) and row.get("role") == "assistant" and not _withdrawn(row):
            answers.setdefault(str(row["parent_id"]), []).append(row)
    for parent, given in answers.items():
        if len(given) < 2:
            continue
        place = there[parent][0] if parent in there else there[str(given[0]["message_id"])][0]
        try:
            turns = _path(parent, there)
            yield from ((place, one) for one in _ranked(turns, given, how))
        except Refused as refused:
            yield place, refused.unusable


def _path(message: str, there: Mapping[str, tuple[str, Row]]) -> list[Message]:
    turns: list[Message] = []
    while True:
        if message not in there:
            raise Refused("a message whose parent is not in the file")
        row = there[message][1]
        if _withdrawn(row):
            raise Refused("an answer to a deleted message", broken=False)
        turns.append(_turn(row))
        if len(turns) > _DEEPEST:
            raise Refused(f"a conversation of more than {_DEEPEST} turns")
        if absent(row.get("parent_id")):
            return turns[::-1]
        message = str(row["parent_id"])


def _descend(node: dict[str, Any], before: Sequence[Message], how: Reading, found: Found) -> None:
    if len(before) > _DEEPEST:
        found.append(Unusable(f"a conversation of more than {_DEEPEST} turns"))
        return
    if _withdrawn(node):
        return
    try:
        turns = [*before, _turn(node)]
    except Refused as refused:
        found.append(refused.unusable)
        return
    below = cast("list[Any]", node.get("replies") or [])
    replies = [cast("dict[str, Any]", r) for r in below if isinstance(r, dict)]
    ours = [r for r in replies if r.get("role") == "assistant" and not _withdrawn(r)]
    if len(ours) > 1:
        try:
            found += _ranked(turns, ours, how)
        except Refused as refused:
            found.append(refused.unusable)
    for reply in replies:
        _descend(reply, turns, how, found)


def _turn(row: Row) -> Message:
    role = row.get("role")
    if role not in _ROLES:
        raise Refused("a message whose role is neither prompter nor assistant")
    return {"role": _ROLES[role], "content": text(row.get("text"), "text")}


def _ranked(turns: Sequence[Message], given: Sequence[Row], how: Reading) -> Found:
    scored: list[tuple[str, float]] = []
    prompt = ""
    for row in given:
        rank = number(row.get("rank"), "rank")
        if rank is None:
            continue
        prompt, completion = answered(turns, text(row.get("text"), "text"), "text", how.render)
        scored.append((completion, -rank))
    return ranked(prompt, scored, how) if len(scored) > 1 else []


def _withdrawn(row: Row) -> bool:
    return bool(row.get("deleted")) or row.get("review_result") is False
