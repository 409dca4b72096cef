"""Public sets of comparisons between answers of chat models: Arena, SHP, HelpSteer, RewardBench.

Their prompts are turns of a conversation, also where they are stored as text.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

from pipeline.base.records import Choice
from pipeline.formats.cells import holds_texts, listed
from pipeline.formats.judged import (
    JudgedRow,
    Refused,
    Row,
    Unusable,
    absent,
    judged,
    needed_number,
    number,
    person,
    zero_or_one,
)
from pipeline.formats.messages import Message, conversation, is_conversation, messages, parted
from pipeline.formats.reading import Reading, side, two_answers

_TURN_MARK = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")


def arena(row: Row, how: Reading) -> list[JudgedRow | Unusable]:
    """``conversation_a`` and ``conversation_b`` (lists of messages, or their JSON), ``winner``, ``judge``
    (``judge_hash`` in the set of 100,000).

    Most conversations of several turns part at the first answer; they are no choice between two answers to one
    prompt. About the set: Zheng et al. 2023 (arXiv:2306.05685).
    """
    names = ("conversation_a", "conversation_b")
    a, b = (messages(row.get(name), name) for name in names)
    prompt, completions = parted(a, b, how.render, names)
    choice = side(row.get("winner"), "winner", how, names)
    who = row.get("judge_hash") if absent(row.get("judge")) else row["judge"]
    return [judged(prompt, completions, choice, names, annotator=person(who, how.salt))]


def shp(row: Row, how: Reading) -> list[JudgedRow | Unusable]:
    """``history``, ``human_ref_A``, ``human_ref_B``, ``labels`` (1: A is better), scores and their ratio.

    About the set and the filter: Ethayarajh et al. 2022 (arXiv:2110.08420).
    """
    if how.min_score_ratio is not None and needed_number(row, "score_ratio") < how.min_score_ratio:
        raise Refused(f"score_ratio below {how.min_score_ratio:g}", broken=False)
    choice: Choice = "a" if zero_or_one(row, "labels") else "b"
    names = ("human_ref_A", "human_ref_B")
    prompt, completions = two_answers(conversation(row.get("history"), "history"), row, names, how)
    a, b = (number(row.get(name), name) for name in ("score_A", "score_B"))
    if a is None or b is None:
        return [judged(prompt, completions, choice, names)]
    if (a < b and choice == "a") or (b < a and choice == "b"):
        raise Refused("labels contradicts score_A and score_B")
    return [judged(prompt, completions, choice, names, scores=(a, b))]


def helpsteer(row: Row, how: Reading) -> list[JudgedRow | Unusable]:
    """``context`` (or ``prompt``), ``response1``, ``response2`` and ``overall_preference`` of -3 to 3.

    Below 0 the first is better; 0 is a tie; how far from 0 is the margin. HelpSteer2 writes ``response_1``,
    ``response_2`` and ``preference_strength``. Wang et al. 2024 (arXiv:2410.01257), 2025 (arXiv:2505.11475).
    """
    strength = needed_number(row, "overall_preference")
    if abs(strength) > 3:
        raise Refused("overall_preference is not -3 to 3")
    context = row["context"] if row.get("context") is not None else row.get("prompt")
    turns = marked_turns(context) or conversation(context)
    names = ("response1", "response2")
    prompt, completions = two_answers(turns, row, names, how)
    choice: Choice = "a" if strength < 0 else "b" if strength > 0 else "tie"
    return [judged(prompt, completions, choice, names, margin=abs(strength))]


def rewardbench(row: Row, how: Reading) -> list[JudgedRow | Unusable]:
    """``prompt``, ``chosen``, ``rejected``; of RewardBench 2 lists: each chosen one beats each rejected one.

    Lambert et al. 2024 (arXiv:2403.13787), Malik et al. 2025 (arXiv:2506.01937). ``subset`` and ``id`` are for
    whoever measures a reward model.
    """
    turns = conversation(row.get("prompt"))
    names = ("chosen", "rejected")
    sides = (_several(row.get(name), name) for name in names)
    pairs: list[JudgedRow | Unusable] = []
    for good, bad in itertools.product(*sides):
        try:
            prompt, completions = two_answers(turns, {"chosen": good, "rejected": bad}, names, how)
            pairs.append(judged(prompt, completions, "a", names))
        except Refused as refused:
            pairs.append(refused.unusable)
    return pairs or [Unusable("no chosen or no rejected")]


def is_rewardbench(row: Row) -> bool:
    """Whether a row with these columns can be of nothing else."""
    own = {"chosen_model", "rejected_model"} <= set(row) or "num_correct" in row
    if not (own and {"prompt", "chosen", "rejected", "subset"} <= set(row)):
        return False
    try:
        sides = (_several(row["chosen"], "chosen"), _several(row["rejected"], "rejected"))
    except Refused:
        return False
    return all(isinstance(answer, str) and not is_conversation(answer) for side in sides for answer in side)


def _several(value: object, name: str) -> list[Any]:
    several = listed(value, name)
    return several if several is not None and (isinstance(value, list) or holds_texts(several)) else [value]


def marked_turns(prompt: object) -> list[Message] | None:
    """The turns of HelpSteer2's prompts of several turns, which are one text with marks."""
    if not isinstance(prompt, str) or not _TURN_MARK.search(prompt):
        return None
    first, *rest = _TURN_MARK.split(prompt)
    turns = zip(["User", *rest[::2]], [first, *rest[1::2]], strict=True)
    return [{"role": role.lower(), "content": content} for role, content in turns]
