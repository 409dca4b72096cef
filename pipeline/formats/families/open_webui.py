"""Open WebUI's export of feedback: thumbs on answers of a chat, each with the chat it was given in.

As open-webui 0.12.4 writes it (``models/feedbacks.py``, and ``feedbackHandler`` of ``ResponseMessage.svelte``):
``data`` has the rating, 1 or -1, as number or text; ``meta`` names chat and message; ``snapshot`` has the chat and
its whole tree of messages, branches included. A user who changes or explains a rating writes the record anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.base.json_values import dict_of
from pipeline.formats.families.unpaired import THUMBS, Opinion, opinion, paired
from pipeline.formats.judged import JudgedRow, Refused, Row, Unusable, absent, judged, number, person, text
from pipeline.formats.messages import Message, answered
from pipeline.formats.reading import Reading

_LONGEST = 200
_ROLES = ("user", "assistant", "system")
_DETAILS = re.compile(r"<details\b[^<>]*\btype=\"([a-z_]+)\"[^<>]*>.*?</details>\s*", re.DOTALL)
"""What the page folds away in an answer: reasoning, calls of tools, code that was run."""


@dataclass(frozen=True)
class Thumb:
    """The last rating that one person gave one message.

    Attributes:
        key: person, chat and message.
        time: of its last change, in seconds.
        messages: those of the chat by id.
        system: the chat's own system prompt; empty where it has none.
    """

    place: str
    key: tuple[str, str, str]
    time: float
    liked: bool
    messages: Mapping[str, dict[str, Any]]
    system: str


def read_all(rows: Iterable[tuple[str, Row]], how: Reading) -> Iterator[tuple[str, JudgedRow | Unusable]]:
    """Likes against dislikes of one prompt; and each against the answers beside it that the person did not rate.

    The second is what the tool's own leaderboard counts: a like is a win over the siblings, a dislike a loss. Two
    siblings with the same rating are no pair. All records are held in memory.
    """
    thumbs: dict[tuple[str, str, str], Thumb] = {}
    for place, row in rows:
        try:
            thumb = _thumb(place, row)
        except Refused as refused:
            yield place, refused.unusable
            continue
        earlier = thumbs.get(thumb.key)
        if earlier is not None:
            how.notices.add("a person's earlier rating of the same answer was left out")
        if earlier is None or thumb.time >= earlier.time:
            thumbs[thumb.key] = thumb
    opinions: list[tuple[str, Opinion]] = []
    prompts: set[str] = set()
    for thumb in thumbs.values():
        try:
            turns = _turns(thumb)
            rated = _opinion(thumb, turns, how)
        except Refused as refused:
            yield thumb.place, refused.unusable
            continue
        opinions.append((thumb.place, rated))
        for pair in _beside(thumb, turns, rated, thumbs, how):
            if isinstance(pair, JudgedRow):
                prompts.add(pair.prompt)
            yield thumb.place, pair
    yield from paired(opinions, how, prompts)


def _thumb(place: str, row: Row) -> Thumb:
    if row.get("type") != "rating":
        raise Refused("a record that is no rating", broken=False)
    data, meta = dict_of(row.get("data")), dict_of(row.get("meta"))
    rating = number(data.get("rating"), "data.rating")
    if rating is None:
        raise Refused("a comment without a rating", broken=False)
    if rating not in (1, -1):
        raise Refused("data.rating is neither 1 nor -1", detail=f"it is {rating:g}")
    chat = dict_of(dict_of(row.get("snapshot")).get("chat"))
    if not chat:
        raise Refused("a rating without its chat (snapshot)", broken=False)
    inner = dict_of(chat.get("chat")) or chat
    messages = {str(k): dict_of(v) for k, v in dict_of(dict_of(inner.get("history")).get("messages")).items()}
    message = str(meta.get("message_id") or "")
    if message not in messages:
        raise Refused("a rating of a message that its chat does not hold", broken=False)
    who = "" if absent(row.get("user_id")) else str(row["user_id"])
    where = str(meta.get("chat_id") or chat.get("id") or place)
    time = number(row.get("updated_at"), "updated_at") or 0.0
    system = dict_of(inner.get("params")).get("system") or inner.get("system") or ""
    return Thumb(place, (who, where, message), time, rating == 1, messages, text(system, "the system prompt"))


def _turns(thumb: Thumb) -> list[Message]:
    """The conversation up to the answer that was rated, along its branch of the tree."""
    answer = thumb.messages[thumb.key[2]]
    if answer.get("role") != "assistant":
        raise Refused("a rating of a message that is no answer")
    turns: list[Message] = []
    parent = answer.get("parentId")
    while not absent(parent):
        message = thumb.messages.get(str(parent))
        if message is None:
            raise Refused("a message whose parent is not in its chat", broken=False)
        if message.get("files"):
            raise Refused("a conversation with files, which the text does not hold", broken=False)
        turns.append(_turn(message))
        if len(turns) > _LONGEST:
            raise Refused(f"a conversation of more than {_LONGEST} turns")
        parent = message.get("parentId")
    if thumb.system.strip():
        turns.append({"role": "system", "content": thumb.system})
    return turns[::-1]


def _turn(message: Mapping[str, Any]) -> Message:
    role = message.get("role")
    if role not in _ROLES:
        raise Refused("a message whose role is none of system, user, assistant")
    said = text(message.get("content"), "content")
    return {"role": str(role), "content": _DETAILS.sub("", said) if role == "assistant" else said}


def _answer(message: Mapping[str, Any], how: Reading) -> str:
    """The text that the person saw. Raises Refused: it is not known, or more than text."""
    if message.get("error") or message.get("done") is False:
        raise Refused("an answer that was not finished", broken=False)
    said = text(message.get("content"), "content")
    before = message.get("originalContent")
    if before is not None and before != said:
        # An edit in place and an outlet filter leave the same mark, and the rating may be older than an edit.
        raise Refused("an answer that was changed after it was written: which text was rated is not known", False)
    kinds = set(_DETAILS.findall(said))
    if kinds - {"reasoning"} or message.get("files"):
        raise Refused("an answer with tools, code or files, which the text does not hold", broken=False)
    if kinds:
        how.notices.add("the reasoning before an answer was left out")
    if message.get("sources"):
        how.notices.add("an answer cites sources that the prompt does not hold")
    return _DETAILS.sub("", said)


def _opinion(thumb: Thumb, turns: list[Message], how: Reading) -> Opinion:
    answer = _answer(thumb.messages[thumb.key[2]], how)
    prompt, completion = answered(turns, answer, "content", how.render)
    who = person(thumb.key[0], how.salt)
    return opinion(prompt, completion, float(thumb.liked), who, THUMBS)


def _beside(
    thumb: Thumb,
    turns: list[Message],
    rated: Opinion,
    thumbs: Mapping[tuple[str, str, str], Thumb],
    how: Reading,
) -> Iterator[JudgedRow | Unusable]:
    """The rated answer against each other answer to the same message that this person did not rate."""
    who, chat, message = thumb.key
    parent = thumb.messages[message].get("parentId")
    for sibling, other in thumb.messages.items():
        if sibling == message or other.get("parentId") != parent or other.get("role") != "assistant":
            continue
        if (who, chat, sibling) in thumbs:
            continue
        try:
            _, completion = answered(turns, _answer(other, how), "content", how.render)
            sides = (rated.completion, completion)
            yield judged(rated.prompt, sides, "a" if thumb.liked else "b", annotator=rated.who)
        except Refused as refused:
            yield Unusable(refused.unusable.reason, broken=False)
