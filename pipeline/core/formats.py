"""From somebody's row to a judged comparison: TRL (standard, conversational) and HH-RLHF.

Unpaired rows and N-way ratings are left out on purpose: they are not one choice between two completions.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from pipeline.core.errors import DataError
from pipeline.core.records import Choice, Comparison, bucket, canonical_json
from pipeline.core.rows import require_columns

Format = Literal["auto", "trl", "trl_implicit", "conversational", "hh"]
Message = dict[str, str]
"""``{"role": ..., "content": ...}``"""

Render = Callable[[Sequence[Message], str], tuple[str, str]]
"""(messages of the prompt, the answer) -> (prompt, completion) as the texts a model reads."""

COLUMNS = ("prompt", "chosen", "rejected", "tie", "margin", "votes_chosen", "votes_rejected")
"""The names that ``columns: {ours: theirs}`` may map."""

_ASSISTANT = "\n\nAssistant:"
_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")
_YES = {"true": True, "yes": True, "1": True, "1.0": True, "false": False, "no": False, "0": False, "0.0": False}


@dataclass(frozen=True)
class JudgedRow:
    """A usable row. ``chosen`` and ``rejected`` are merely the first and the second one where ``tie`` is set."""

    prompt: str
    chosen: str
    rejected: str
    tie: bool = False
    margin: float | None = None
    meta: dict[str, Any] = field(default_factory=dict[str, Any], compare=False)

    def comparison(self, seed: int) -> tuple[Comparison, Choice]:
        """Blind: which completion is A depends on the two texts and ``seed``, never on which was chosen.

        The same two completions give the same comparison whoever won, so contradicting votes meet in one id.
        """
        first, second = sorted((self.chosen, self.rejected))
        if bucket(canonical_json([self.prompt, first, second]), salt=f"side:{seed}") < 0.5:
            first, second = second, first
        choice: Choice = "tie" if self.tie else "a" if first == self.chosen else "b"
        return Comparison(self.prompt, first, second, self.meta), choice


@dataclass(frozen=True)
class Unusable:
    """A row that is no judged comparison, with the reason it is counted under."""

    reason: str


class _RefusedError(Exception):
    pass


def render_plain(prompt: Sequence[Message], answer: str) -> tuple[str, str]:
    """Messages as text for a model without a chat template: ``User: ...``, a blank line, ``Assistant:``.

    The completion starts with the blank that follows the colon, as GPT-2's tokens do.
    """
    turns = [f"{message['role'].capitalize()}: {message['content']}" for message in prompt]
    blank = " " if answer and not answer[0].isspace() else ""
    return "\n\n".join([*turns, "Assistant:"]), blank + answer


def detect_format(row: Mapping[str, Any], place: str, told: Format = "auto") -> Format:
    """The format of a set, from its first row (whose columns have our names already), unless the user ``told`` it.

    Raises:
        DataError: a column that the format needs is missing, or strings come without a prompt.
    """
    needed = ("prompt", "chosen", "rejected") if told == "trl" else ("chosen", "rejected")
    require_columns(dict(row), needed, place)
    if told != "auto":
        return told
    if all(_is_conversation(row[name]) for name in ("chosen", "rejected")):
        return "conversational"
    if "prompt" in row:
        return "trl"
    if all(isinstance(row[name], str) and "\n\nHuman:" in row[name] for name in ("chosen", "rejected")):
        return "hh"
    there = ", ".join(row)
    raise DataError(
        place,
        f'no column "prompt"; the columns are: {there}.',
        "Map it (columns: {prompt: question}), or say  format: trl_implicit  "
        "to take what chosen and rejected both start with.",
    )


def parse_row(
    row: Mapping[str, Any], format: Format, place: str, render: Render = render_plain
) -> JudgedRow | Unusable:
    """One row, checked.

    Args:
        row: its columns under our names (:func:`pipeline.core.rows.rename_columns`).
        format: see :func:`detect_format`; ``auto`` detects anew for this row.
        render: turns messages into text; pass one that uses a tokenizer's chat template.
    Raises:
        DataError: only for ``auto``, when the format cannot be told.
    """
    if format == "auto":
        format = detect_format(row, place)
    try:
        for name in ("chosen", "rejected"):
            if name not in row:
                raise _RefusedError(f"no {name}")
        if format == "conversational":
            prompt, chosen, rejected = _conversational(row, render)
        elif format == "hh":
            prompt, chosen, rejected = _hh(_text(row, "chosen"), _text(row, "rejected"))
        elif format == "trl_implicit":
            prompt, chosen, rejected = _implicit(_text(row, "chosen"), _text(row, "rejected"))
        else:
            prompt, chosen, rejected = (_text(row, name) for name in ("prompt", "chosen", "rejected"))
        _check_texts(prompt, chosen, rejected)
        meta = {k: v for k, v in row.items() if k.startswith("votes_") and v is not None}
        return JudgedRow(prompt, chosen, rejected, _tie(row.get("tie")), _margin(row.get("margin")), meta)
    except _RefusedError as refused:
        return Unusable(str(refused))


def parse_prompt(value: Any, render: Render = render_plain) -> str | Unusable:
    """The prompt in a prompt column: a text as it is, or messages rendered."""
    try:
        prompt = render(_messages(value, "prompt"), "")[0] if _is_conversation(value) else value
        prompt = _text({"prompt": prompt}, "prompt")
        return prompt if prompt.strip() else Unusable("empty prompt")
    except _RefusedError as refused:
        return Unusable(str(refused))


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise _RefusedError(f"{name} is not text" if value is not None else f"no {name}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _RefusedError(f"{name} is not valid Unicode") from None  # half a surrogate pair
    return value


def _check_texts(prompt: str, chosen: str, rejected: str) -> None:
    if not (prompt.strip() or chosen.strip() or rejected.strip()):
        raise _RefusedError("empty prompt and completions")
    for name, text in (("prompt", prompt), ("chosen", chosen), ("rejected", rejected)):
        if not text.strip():
            raise _RefusedError(f"empty {name}")
    if chosen.strip() == rejected.strip():
        raise _RefusedError("chosen equals rejected")


def _tie(value: Any) -> bool:
    if value is None or value == "" or value != value:  # NaN is how pandas writes a missing bool
        return False
    known = _YES.get(str(value).strip().lower())
    if known is None:
        raise _RefusedError("tie is not true or false")
    return known


def _margin(value: Any) -> float | None:
    if value is None or value == "" or value != value:
        return None
    try:
        margin = float(value)
    except (TypeError, ValueError):
        margin = math.nan
    if not math.isfinite(margin):
        raise _RefusedError("margin is not a number")
    return margin


def _implicit(chosen: str, rejected: str) -> tuple[str, str, str]:
    """The common start, cut so that no completion begins inside a word.

    As in TRL's ``extract_prompt`` a blank at the cut goes to the completions (GPT-2's tokens start with it).
    TRL cuts inside words: "was good" / "was great" share "was g".
    """
    end = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False)))
    after = [text[end] for text in (chosen, rejected) if end < len(text)]
    if any(c.isalnum() for c in after):
        while end and chosen[end - 1].isalnum():
            end -= 1
    if after and end and chosen[end - 1] == " ":
        end -= 1
    if not chosen[:end].strip() and chosen.strip() and rejected.strip():
        raise _RefusedError("no common prompt")
    return chosen[:end], chosen[end:], rejected[end:]


def _hh(chosen: str, rejected: str) -> tuple[str, str, str]:
    """Everything up to the last ``Assistant:`` is the prompt; it must be the same on both sides.

    About the set: Bai et al. 2022 (arXiv:2204.05862). Some of its rows have empty turns, some part earlier than
    at the last answer; neither is a choice between two answers to one prompt.
    """
    prompts: list[str] = []
    for text in (chosen, rejected):
        turns = _TURN.split(text.strip())
        if len(turns) < 3 or turns[0].strip() or turns[1] != "Human":
            raise _RefusedError("does not start with a Human turn")
        if turns[-2] != "Assistant":
            raise _RefusedError("does not end with an Assistant turn")
        if any(not said.strip() for said in turns[2:-1:2]):
            raise _RefusedError("empty turn")
        prompts.append(text[: text.rindex(_ASSISTANT) + len(_ASSISTANT)])
    if prompts[0] != prompts[1]:
        raise _RefusedError("prompts differ")
    cut = len(prompts[0])
    return prompts[0], chosen[cut:], rejected[cut:]


def _conversational(row: Mapping[str, Any], render: Render) -> tuple[str, str, str]:
    chosen, rejected = (_messages(row[name], name) for name in ("chosen", "rejected"))
    given = row.get("prompt")
    if given is not None and chosen[0]["role"] == rejected[0]["role"] == "assistant":
        prompt = _messages(given, "prompt") if _is_conversation(given) else _user(_text(row, "prompt"))
    else:  # each side is the whole conversation
        common = 0
        while common < min(len(chosen), len(rejected)) and chosen[common] == rejected[common]:
            common += 1
        prompt, chosen, rejected = chosen[:common], chosen[common:], rejected[common:]
    if not chosen and not rejected:
        raise _RefusedError("chosen equals rejected")
    if any(not message["content"].strip() for message in prompt):
        raise _RefusedError("empty turn" if len(prompt) > 1 else "empty prompt")
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if not side:
            raise _RefusedError(f"empty {name}")
        if side[0]["role"] != "assistant" or not prompt:
            raise _RefusedError("prompts differ")
        if len(side) > 1:
            raise _RefusedError("several turns after the prompt")
        if not side[0]["content"].strip():
            raise _RefusedError(f"empty {name}")
    text, good = render(prompt, chosen[0]["content"])
    _, bad = render(prompt, rejected[0]["content"])
    checked = {"prompt": text, "chosen": good, "rejected": bad}
    return _text(checked, "prompt"), _text(checked, "chosen"), _text(checked, "rejected")


def _user(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]


def _is_conversation(value: Any) -> bool:
    # A CSV cannot hold a list; it holds the JSON of one.
    return isinstance(value, list) or (isinstance(value, str) and value.startswith('[{"'))


def _messages(value: Any, name: str) -> list[Message]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            raise _RefusedError(f"{name} is not JSON") from None
    if not isinstance(value, list):
        raise _RefusedError(f"{name} is not a list of messages" if value is not None else f"no {name}")
    if not value:
        raise _RefusedError(f"empty {name}")
    return [_message(item) for item in cast("list[Any]", value)]


def _message(item: Any) -> Message:
    message = cast("dict[str, Any]", item) if isinstance(item, dict) else {}
    role, content = message.get("role"), message.get("content")
    if isinstance(content, list):  # [{"type": "text", "text": ...}]: several parts, of which only text is read
        parts = [cast("dict[str, Any]", part).get("text") for part in cast("list[Any]", content)]
        content = "".join(map(str, parts)) if all(isinstance(part, str) for part in parts) else None
    if not isinstance(role, str) or not isinstance(content, str):
        raise _RefusedError("a message without role and text")
    return {"role": role, "content": content}
