"""Conversations: lists of messages, and the texts they become and are read back from."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, cast

from pipeline.base.json_values import dict_of
from pipeline.formats.cells import holds_texts, is_message, listed, no_list, parsed
from pipeline.formats.judged import Refused, absent, text

Message = dict[str, str]
"""``{"role": ..., "content": ...}``"""

Render = Callable[[Sequence[Message], str], tuple[str, str]]
"""(messages of the prompt, the answer) -> (prompt, completion) as the texts a model reads."""

HH_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")
_END = "\n\nAssistant:"
_PLAIN_TURN = re.compile(r"(?:^|\n\n)(System|User|Assistant): ")
_ROLES = {"Human": "user", "Assistant": "assistant"}
_SAME_ROLE = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "bot", "model", "chatgpt", "chatbot", "ai"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
"""Ours for the roles of ShareGPT, OpenAssistant, Gemini and OpenAI's newer API."""

_MORE_THAN_TEXT = (
    *("tool_calls", "function_call", "tool_call_id", "reasoning_content", "reasoning", "thinking", "refusal"),
    *("image", "images", "audio", "audios", "video", "videos", "files"),
)
"""Keys of a message that are part of what was said, and cannot be kept in a text."""


def render_plain(prompt: Sequence[Message], answer: str) -> tuple[str, str]:
    """Messages as text for a model without a chat template: ``User: ...``, a blank line, ``Assistant:``.

    The completion starts with the blank that follows the colon, as GPT-2's tokens do.
    """
    turns = [f"{message['role'].capitalize()}: {message['content']}" for message in prompt]
    blank = " " if answer and not answer[0].isspace() else ""
    return "\n\n".join([*turns, "Assistant:"]), blank + answer


def turns_of(prompt: str) -> list[Message] | None:
    """The messages that :func:`render_plain` or HH-RLHF writes as this prompt; None where it is another text."""
    if not prompt.endswith(_END):
        return None
    parts = _PLAIN_TURN.split(prompt.removesuffix(_END))
    if len(parts) > 2 and not parts[0]:
        return [{"role": r.lower(), "content": c} for r, c in zip(parts[1::2], parts[2::2], strict=True)]
    parts = HH_TURN.split(prompt.strip().removesuffix(_END))
    if len(parts) > 2 and not parts[0].strip() and parts[1] == "Human":
        contents = [c.removeprefix(" ") for c in parts[2::2]]
        return [{"role": _ROLES[r], "content": c} for r, c in zip(parts[1::2], contents, strict=True)]
    return None


def user(said: str) -> list[Message]:
    """A conversation of one turn."""
    return [{"role": "user", "content": said}]


def bot(said: str) -> list[Message]:
    """An answer; the blank that :func:`render_plain` puts before it is taken away."""
    return [{"role": "assistant", "content": said[1:] if re.match(r" \S", said) else said}]


def is_conversation(value: object, name: str = "a cell") -> bool:
    """Whether a cell holds messages. A CSV cannot hold a list; it holds one as text.

    Raises:
        Refused: it holds a list as text that cannot be read back.
    """
    if isinstance(value, list):
        return True
    contents = parsed(value, name)
    return is_message(contents) or (isinstance(contents, list) and any(is_message(item) for item in contents))


def objects(value: object, name: str, kind: str) -> list[dict[str, Any]]:
    """A list of objects, also one written as text. Any other item becomes an empty object. Raises Refused."""
    items = listed(value, name)
    if items is None:
        if isinstance(value, str):
            raise Refused(f"{name} is not JSON")
        raise Refused(f"{name} is not a list of {kind}" if value is not None else f"no {name}")
    if not items:
        raise Refused(f"empty {name}")
    return [dict_of(v) for v in items]


def messages(value: object, name: str) -> list[Message]:
    """The messages in a cell, or the only one. Raises Refused."""
    contents = parsed(value, name)
    if isinstance(contents, dict) and is_message(contents):
        return [_message(contents, name)]
    if holds_texts(contents):
        raise Refused(f"{name} is a list of texts, not of messages: a message without role and text")
    return [_message(item, name) for item in objects(value, name, "messages")]


def _message(message: dict[str, Any], name: str) -> Message:
    role = message["role"] if "role" in message else message.get("from")
    content = message["content"] if "content" in message else message.get("value")
    for key in _MORE_THAN_TEXT if len(message) > 2 else ():
        if not absent(message.get(key)) and message[key] not in ([], {}):
            raise Refused(f"{name}: a message with {key}: only text can be kept")
    if isinstance(content, list):
        content = _parts(cast("list[Any]", content), name)
    if not isinstance(role, str):
        raise Refused("a message without role and text")
    if content is None:
        raise Refused(f"a message without content in {name}")
    if not isinstance(content, str):
        raise Refused("a message without role and text")
    ours = _SAME_ROLE.get(role) or _SAME_ROLE.get(role.lower())
    if ours is None:
        raise Refused(f'{name}: a turn of the role "{role[:24]}", which is none of system, user, assistant')
    return {"role": ours, "content": content}


def _parts(parts: list[Any], name: str) -> str:
    """The text of ``[{"type": "text", "text": ...}, ...]``. Raises Refused where a part is none."""
    texts: list[str] = []
    for part in parts:
        kind: Any = cast("dict[str, Any]", part).get("type", "text") if isinstance(part, dict) else None
        if isinstance(kind, str) and kind not in ("text", "input_text", "output_text"):
            raise Refused(f'{name}: a message with a part of type "{kind[:24]}": only text can be kept')
        words: Any = cast("dict[str, Any]", part).get("text") if isinstance(part, dict) else None
        if not isinstance(words, str):
            raise Refused("a message without role and text")
        texts.append(words)
    return "".join(texts)


def conversation(prompt: object, name: str = "prompt") -> list[Message]:
    """The turns of a prompt that is one: messages, a text they were written out as, or a user's only turn.

    Raises:
        Refused: it is neither messages nor text.
    """
    if is_conversation(prompt, name):
        return messages(prompt, name)
    written = text(prompt, name)
    no_list(written, name)
    return turns_of(written.rstrip()) or user(written)  # some end in "Assistant: "


def check_turns(prompt: Sequence[Message]) -> None:
    """Raises Refused where a turn is blank."""
    if any(not message["content"].strip() for message in prompt):
        raise Refused("empty turn" if len(prompt) > 1 else "empty prompt")


def answered(prompt: Sequence[Message], answer: str, name: str, render: Render) -> tuple[str, str]:
    """Prompt and completion as texts. An answer of blanks stays one, so that it is refused as empty."""
    check_turns(prompt)
    if prompt and prompt[-1]["role"] == "assistant":
        raise Refused("the prompt ends with an answer of the assistant")
    written, completion = render(prompt, text(answer, name))
    return text(written, "prompt"), text(completion, name)


def common_start(a: Sequence[Message], b: Sequence[Message]) -> int:
    """How many messages two conversations share before they part."""
    common = 0
    while common < min(len(a), len(b)) and a[common] == b[common]:
        common += 1
    return common


def parted(
    a: Sequence[Message], b: Sequence[Message], render: Render, names: tuple[str, str]
) -> tuple[str, tuple[str, str]]:
    """:func:`last_answers` of two conversations after all that they share."""
    common = common_start(a, b)
    return last_answers(a[:common], (a[common:], b[common:]), render, names)


def last_answers(
    prompt: Sequence[Message],
    sides: tuple[Sequence[Message], Sequence[Message]],
    render: Render,
    names: tuple[str, str] = ("chosen", "rejected"),
) -> tuple[str, tuple[str, str]]:
    """Prompt and completions of two conversations that share ``prompt``, each side being one answer.

    Raises:
        Refused: they part earlier than at the last answer, or somebody says nothing.
    """
    if not sides[0] and not sides[1]:
        raise Refused(f"{names[0]} equals {names[1]}")
    check_turns(prompt)
    for name, side in zip(names, sides, strict=True):
        if not side:
            raise Refused(f"empty {name}")
        other = sides[1] if side is sides[0] else sides[0]
        if len(side) == 1 and side[0]["role"] != "assistant" and other and other[0]["role"] == "assistant":
            raise Refused(f"{name} is a turn of the {side[0]['role']}, not an answer of the assistant")
        if side[0]["role"] != "assistant" or not prompt:
            raise Refused("prompts differ")
        if len(side) > 1:
            raise Refused("several turns after the prompt")
        if not side[0]["content"].strip():
            raise Refused(f"empty {name}")
    (written, first), (_, second) = (
        answered(prompt, side[0]["content"], name, render) for name, side in zip(names, sides, strict=True)
    )
    return written, (first, second)
