"""Split a prompt that is a conversation into turns, for display only: a model gets the prompt itself."""

from __future__ import annotations

import re

Turn = tuple[str, str]
"""(role, text); the role is user, assistant, system or tool, or empty for a text that is not a conversation."""

# HH-RLHF (Bai et al. 2022, arXiv:2204.05862), and this project's render_plain. A turn starts a paragraph.
_WRITTEN = (
    re.compile(r"(?:\A\s*|\n\n)(Human|Assistant): ?"),
    re.compile(r"(?:\A\s*|\n\n)(User|Assistant|System|Tool): ?"),
)
# (what starts a turn, what ends its role, what ends its text): ChatML, and Llama 3.
_MARKED = (("<|im_start|>", "\n", "<|im_end|>"), ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"))
_ROLE = re.compile(r"[a-z_]{1,20}")
_NAMES = {"human": "user"}


def turns(prompt: str) -> list[Turn]:
    """The turns of a prompt in the format of HH-RLHF, render_plain, ChatML or Llama 3.

    An empty assistant turn at the end, where the completion goes, is left out. Any other text is one turn without
    a role, unchanged.
    """
    parses = [_marked(prompt, *marks) for marks in _MARKED] + [_written(prompt, marker) for marker in _WRITTEN]
    parsed = next(filter(None, parses), [("", prompt)])
    role, text = parsed[-1]
    return parsed[:-1] if len(parsed) > 1 and role == "assistant" and not text.strip() else parsed


def shown_prompt(prompt: str, system: bool = False) -> str:
    """A prompt as a reader wants it: of a conversation the turns without a template's marks.

    A single turn of a user is its text alone; any other text stays as it is.

    Args:
        system: keep system turns, for a reader who judges the answer.
    """
    shown = [(role, text.strip()) for role, text in turns(prompt) if system or role != "system"]
    if not shown or not shown[0][0]:
        return prompt
    return shown[0][1] if len(shown) == 1 else "\n\n".join(f"{role}: {text}" for role, text in shown)


def _written(prompt: str, marker: re.Pattern[str]) -> list[Turn]:
    first = marker.match(prompt)
    if not first or first[1] == "Assistant":
        return []
    pieces = marker.split(prompt)[1:]
    roles = pieces[::2]
    # Plain texts also start with "User: ".
    return _named(roles, pieces[1::2]) if "Assistant" in roles else []


def _marked(prompt: str, start: str, role_end: str, text_end: str) -> list[Turn]:
    before, *pieces = prompt.split(start)
    if before.strip() not in ("", "<|begin_of_text|>"):
        return []
    roles: list[str] = []
    texts: list[str] = []
    for piece in pieces:
        role, ended, rest = piece.partition(role_end)
        text, _, after = rest.partition(text_end)
        if not ended or not _ROLE.fullmatch(role) or after.strip():
            return []
        roles.append(role)
        texts.append(text.removeprefix("\n\n") if role_end != "\n" else text)
    return _named(roles, texts)


def _named(roles: list[str], texts: list[str]) -> list[Turn]:
    return [(_NAMES.get(role.lower(), role.lower()), text) for role, text in zip(roles, texts, strict=True)]
