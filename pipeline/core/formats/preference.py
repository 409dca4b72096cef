"""Rows that name the better and the worse one: TRL's formats (text, implicit prompt, messages) and HH-RLHF."""

from __future__ import annotations

import itertools
from typing import Any

from pipeline.core.formats.judged import (
    JudgedRow,
    Refused,
    Row,
    check_texts,
    counted_votes,
    number,
    text,
    yes,
)
from pipeline.core.formats.messages import (
    HH_TURN,
    Message,
    common_start,
    is_conversation,
    last_answers,
    messages,
    user,
)
from pipeline.core.formats.reading import Reading, annotator

_ASSISTANT = "\n\nAssistant:"


def trl(row: Row, how: Reading) -> list[JudgedRow]:
    """``prompt``, ``chosen``, ``rejected``."""
    prompt, chosen, rejected = (text(row.get(name), name) for name in ("prompt", "chosen", "rejected"))
    return [_row(row, how, prompt, chosen, rejected)]


def trl_implicit(row: Row, how: Reading) -> list[JudgedRow]:
    """``chosen`` and ``rejected``, both of which begin with the prompt."""
    return [_row(row, how, *_implicit(text(row.get("chosen"), "chosen"), text(row.get("rejected"), "rejected")))]


def conversational(row: Row, how: Reading) -> list[JudgedRow]:
    """``chosen`` and ``rejected`` as messages: the answer after ``prompt``, or each the whole conversation."""
    for name in ("chosen", "rejected"):
        if name not in row:
            raise Refused(f"no {name}")
    chosen, rejected = messages(row["chosen"], "chosen"), messages(row["rejected"], "rejected")
    given = row.get("prompt")
    prompt: list[Message]
    if given is not None and chosen[0]["role"] == rejected[0]["role"] == "assistant":
        prompt = messages(given, "prompt") if is_conversation(given) else user(text(given, "prompt"))
    else:
        common = common_start(chosen, rejected)
        prompt, chosen, rejected = chosen[:common], chosen[common:], rejected[common:]
    written, sides = last_answers(prompt, (chosen, rejected), how.render)
    return [_row(row, how, written, *sides)]


def hh(row: Row, how: Reading) -> list[JudgedRow]:
    """Everything up to the last ``Assistant:`` is the prompt; it must be the same on both sides.

    About the set: Bai et al. 2022 (arXiv:2204.05862). Some of its rows have empty turns, some part earlier than
    at the last answer; neither is a choice between two answers to one prompt.
    """
    chosen, rejected = text(row.get("chosen"), "chosen"), text(row.get("rejected"), "rejected")
    prompts: list[str] = []
    for said in (chosen, rejected):
        turns = HH_TURN.split(said.strip())
        if len(turns) < 3 or turns[0].strip() or turns[1] != "Human":
            raise Refused("does not start with a Human turn")
        if turns[-2] != "Assistant":
            raise Refused("does not end with an Assistant turn")
        if any(not turn.strip() for turn in turns[2:-1:2]):
            raise Refused("empty turn")
        prompts.append(said[: said.rindex(_ASSISTANT) + len(_ASSISTANT)])
    if prompts[0] != prompts[1]:
        raise Refused("prompts differ")
    cut = len(prompts[0])
    return [_row(row, how, prompts[0], chosen[cut:], rejected[cut:])]


def _row(row: Row, how: Reading, prompt: str, chosen: str, rejected: str) -> JudgedRow:
    check_texts(prompt, chosen, rejected)
    meta: dict[str, Any] = {k: v for k, v in row.items() if k.startswith("votes_") and v is not None}
    bad = yes(row.get("both_bad"), "both_bad")
    tie = yes(row.get("tie"), "tie") or bad
    margin = number(row.get("margin"), "margin")
    votes = counted_votes(row, "both_bad" if bad else "tie" if tie else "chosen")
    # Who counted the votes of others is none of those who voted.
    who = None if votes else annotator(row, how)
    return JudgedRow(prompt, chosen, rejected, tie, margin, meta, bad, who, votes=votes)


def _implicit(chosen: str, rejected: str) -> tuple[str, str, str]:
    """The common start, cut so that no completion begins inside a word.

    As in TRL's ``extract_prompt`` a blank at the cut goes to the completions (GPT-2's tokens start with it).
    TRL cuts inside words: "was good" / "was great" share "was g".
    """
    end = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False)))
    after = [said[end] for said in (chosen, rejected) if end < len(said)]
    if any(c.isalnum() for c in after):
        while end and chosen[end - 1].isalnum():
            end -= 1
    if after and end and chosen[end - 1] == " ":
        end -= 1
    if not chosen[:end].strip() and chosen.strip() and rejected.strip():
        raise Refused("no common prompt")
    return chosen[:end], chosen[end:], rejected[end:]
