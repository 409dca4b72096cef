"""Rows that name the better and the worse one: TRL's formats (text, implicit prompt, messages) and HH-RLHF."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

from pipeline.formats.cells import is_message
from pipeline.formats.choices import in_order, known_side
from pipeline.formats.judged import (
    JudgedRow,
    Refused,
    Row,
    Unclear,
    absent,
    check_texts,
    counted_votes,
    number,
    text,
    yes,
)
from pipeline.formats.messages import (
    HH_TURN,
    Message,
    bot,
    common_start,
    is_conversation,
    last_answers,
    messages,
    turns_of,
    user,
)
from pipeline.formats.reading import Reading, annotator, margin_of, plain, prompt_as_given, without_repeat

_ASSISTANT = "\n\nAssistant:"
_SPEAKER = re.compile(r"\s*(Human|Assistant):")

SCORES = (
    *(("score_chosen", "score_rejected"), ("chosen_score", "rejected_score")),
    *(("chosen-rating", "rejected-rating"), ("chosen_rating", "rejected_rating")),
    ("chosen_avg_rating", "rejected_avg_rating"),
)
"""Columns in which sets say how good the two sides were; equal ones are a tie."""

_TEXTS = frozenset(("prompt", "chosen", "rejected"))


def trl(row: Row, how: Reading) -> list[JudgedRow]:
    """``prompt``, ``chosen``, ``rejected``."""
    prompt, chosen, rejected = (plain(row.get(name), name, how) for name in ("prompt", "chosen", "rejected"))
    if not how.lists_are_texts:
        check_no_names(row, chosen, rejected)
    if prompt.strip() and chosen.strip() and rejected.strip():
        chosen, rejected = without_repeat(prompt, (chosen, rejected), how)
    return [_row(row, how, prompt_as_given(prompt, how), chosen, rejected)]


def check_no_names(row: Row, chosen: str, rejected: str) -> None:
    """Check that ``chosen`` and ``rejected`` do not merely say in which columns the texts are.

    Raises:
        Unclear: they do: ``response_a`` and ``response_b``, or ``A`` and ``B`` beside two such columns.
    """
    if len(chosen) > 100 or len(rejected) > 100:
        return
    others = [name for name in row if name not in _TEXTS]
    if not others:
        return
    two = [name for name in (chosen.strip(), rejected.strip()) if name in others]
    if len(two) < 2 and {known_side(chosen), known_side(rejected)} == {"a", "b"}:
        pairs = (list(pair) for pair in itertools.combinations(others, 2) if in_order(*pair) is not None)
        two = next((pair for pair in pairs if all(isinstance(row[name], str) for name in pair)), two)
    if len(two) == 2:
        a, b = two if in_order(*two) is not False else two[::-1]
        raise Unclear(
            f'chosen is "{chosen}" and rejected "{rejected}": names of what is in the columns "{a}" and "{b}".',
            f"Map these:  columns: {{completion_a: {a}, completion_b: {b}, choice: chosen}}  "
            "(or say  format: trl  where they are the answers).",
        )


def trl_implicit(row: Row, how: Reading) -> list[JudgedRow]:
    """``chosen`` and ``rejected``, both of which begin with the prompt."""
    sides = (plain(row.get(name), name, how) for name in ("chosen", "rejected"))
    return [_row(row, how, *_implicit(*sides))]


def conversational(row: Row, how: Reading) -> list[JudgedRow]:
    """``chosen`` and ``rejected``, messages or texts: the answer after ``prompt``, or each the whole conversation.

    A prompt that stands before whole conversations must be what they begin with; its system turn may be missing
    there.
    """
    given = row.get("prompt")
    turns: list[Message] | None = None
    if given != [] and not absent(given):
        turns = messages(given, "prompt") if is_conversation(given, "prompt") else None
        if turns is None:
            said = plain(given, "prompt", how)
            turns = turns_of(said) or user(said)
    sides = _side(row, "chosen"), _side(row, "rejected")
    return [paired(row, how, turns, sides, whole=not is_conversation(given))]


def sharegpt(row: Row, how: Reading) -> list[JudgedRow]:
    """``conversations`` and, of each side, the next turn, all of them ``{"from": ..., "value": ...}``."""
    turns = messages(row.get("conversations"), "conversations")
    return [paired(row, how, turns, (_side(row, "chosen"), _side(row, "rejected")))]


def paired(
    row: Row,
    how: Reading,
    prompt: list[Message] | None,
    sides: tuple[Sequence[Message], Sequence[Message]],
    *,
    names: tuple[str, str] = ("chosen", "rejected"),
    whole: bool = False,
) -> JudgedRow:
    """The row of two answers after ``prompt``, or of two conversations that begin with it.

    Args:
        whole: the prompt was a text, which may be any one turn of conversations.
    """
    starts = [bool(side) and side[0]["role"] == "assistant" for side in sides]
    if prompt is None and all(starts):
        raise Refused("no prompt")
    if prompt is None or not (all(starts) or any(starts) or not all(sides)):
        common = common_start(*sides)
        rest = sides[0][common:], sides[1][common:]
        shared = list(sides[0][:common])
        if prompt is not None and shared and all(rest):
            shared = _agreed(prompt, shared, how, whole)
        prompt, sides = shared, rest
    written, completions = last_answers(prompt, sides, how.render, names)
    return _row(row, how, written, *completions)


def _side(row: Row, name: str) -> list[Message]:
    if name not in row:
        raise Refused(f"no {name}")
    value = row[name]
    if is_conversation(value, name) or is_message(value):
        return messages(value, name) if value != [] else []
    return bot(text(value, name))


def _agreed(prompt: list[Message], shared: list[Message], how: Reading, whole: bool) -> list[Message]:
    """The shared start of two conversations with the system turn of ``prompt``. Raises Refused: they disagree."""
    system, body = _system_apart(prompt)
    their_system, their_body = _system_apart(shared)
    n = len(body)
    same = body in (their_body[:n], their_body[len(their_body) - n :])
    if whole and not same and n == 1:
        texts = [turn["content"].strip() for turn in shared]
        same = body[0]["content"].strip() in (*texts, "\n\n".join(texts))
    if not same or (system and their_system and system != their_system):
        raise Refused("the prompt disagrees with what chosen and rejected begin with")
    if system and not their_system:
        how.notices.add("the prompt's system turn, missing in chosen and rejected, was put before them")
        return system + shared
    return shared


def _system_apart(turns: list[Message]) -> tuple[list[Message], list[Message]]:
    n = 1 if turns and turns[0]["role"] == "system" else 0
    return turns[:n], turns[n:]


def hh(row: Row, how: Reading) -> list[JudgedRow]:
    """Everything up to the last ``Assistant:`` is the prompt; it must be the same on both sides.

    About the set: Bai et al. 2022 (arXiv:2204.05862). Some of its rows have empty turns, some part earlier than
    at the last answer; neither is a choice between two answers to one prompt.
    """
    chosen, rejected = text(row.get("chosen"), "chosen"), text(row.get("rejected"), "rejected")
    prompts: list[str] = []
    for side in (chosen, rejected):
        turns = HH_TURN.split(side.strip())
        if len(turns) < 3 or turns[0].strip() or turns[1] != "Human":
            raise Refused("does not start with a Human turn")
        if turns[-2] != "Assistant":
            raise Refused("does not end with an Assistant turn")
        if any(not turn.strip() for turn in turns[2:-1:2]):
            raise Refused("empty turn")
        prompts.append(side[: side.rindex(_ASSISTANT) + len(_ASSISTANT)])
    if prompts[0] != prompts[1]:
        raise Refused("prompts differ")
    cut = len(prompts[0])
    if any(_SPEAKER.match(side[cut:]) for side in (chosen, rejected)):
        how.notices.add("an answer begins with a speaker's name")
    return [_row(row, how, prompts[0], chosen[cut:], rejected[cut:])]


def _row(row: Row, how: Reading, prompt: str, chosen: str, rejected: str) -> JudgedRow:
    check_texts(prompt, chosen, rejected)
    if row.keys() <= _TEXTS:
        return JudgedRow(prompt, chosen, rejected)
    meta: dict[str, Any] = {k: v for k, v in row.items() if k.startswith("votes_") and v is not None}
    bad = yes(row.get("both_bad"), "both_bad")
    tie = yes(row.get("tie"), "tie") or bad
    margin = margin_of(row, how)
    scores, even = _scores(row, tie)
    margin = None if even else margin
    votes = counted_votes(row, "both_bad" if bad else "tie" if tie or even else "chosen")
    # Who counted the votes of others is none of those who voted.
    who = None if votes else annotator(row, how)
    return JudgedRow(prompt, chosen, rejected, tie or even, margin, meta, bad, who, scores, votes=votes)


def _scores(row: Row, tie: bool) -> tuple[tuple[float, float] | None, bool]:
    """The scores of both sides, where there are columns of :data:`SCORES`, and whether they are equal.

    Raises:
        Refused: the chosen one has less, and the row does not call it a tie.
    """
    kept: tuple[float, float] | None = None
    even = False
    for names in SCORES:
        if names[0] not in row or names[1] not in row:
            continue
        good, bad = (number(row[name], name) for name in names)
        if good is None or bad is None:
            continue
        if good < bad and not tie:
            raise Refused(f"{names[0]} is lower than {names[1]}")
        even = even or good == bad
        kept = kept or (good, bad)
    return kept, even


def _implicit(chosen: str, rejected: str) -> tuple[str, str, str]:
    """The common start, cut so that no completion begins inside a word.

    As in TRL's ``extract_prompt`` a blank at the cut goes to the completions (GPT-2's tokens start with it).
    TRL cuts inside words: "was good" / "was great" share "was g".
    """
    end = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False)))
    after = [side[end] for side in (chosen, rejected) if end < len(side)]
    if any(c.isalnum() for c in after):
        while end and chosen[end - 1].isalnum():
            end -= 1
    if after and end and chosen[end - 1] == " ":
        end -= 1
    if not chosen[:end].strip() and chosen.strip() and rejected.strip():
        raise Refused("no common prompt")
    return chosen[:end], chosen[end:], rejected[end:]
