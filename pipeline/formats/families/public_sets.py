"""Public sets of comparisons between answers of chat models: Arena, UltraFeedback, SHP, HelpSteer, RewardBench.

Their prompts are turns of a conversation, also where they are stored as text.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

from pipeline.base.records import Choice
from pipeline.formats.cells import holds_texts, listed
from pipeline.formats.judged import JudgedRow, Refused, Row, Unusable, absent, judged, number, person, text
from pipeline.formats.messages import (
    Message,
    answered,
    common_start,
    conversation,
    is_conversation,
    last_answers,
    messages,
    objects,
)
from pipeline.formats.reading import Reading, ranked, side

_TURN_MARK = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")


def arena(row: Row, how: Reading) -> list[JudgedRow | Unusable]:
    """``conversation_a`` and ``conversation_b`` (lists of messages, or their JSON), ``winner``, ``judge``
    (``judge_hash`` in the set of 100,000).

    Most conversations of several turns part at the first answer; they are no choice between two answers to one
    prompt. About the set: Zheng et al. 2023 (arXiv:2306.05685).
    """
    names = ("conversation_a", "conversation_b")
    a, b = messages(row.get(names[0]), names[0]), messages(row.get(names[1]), names[1])
    common = common_start(a, b)
    prompt, completions = last_answers(a[:common], (a[common:], b[common:]), how.render, names)
    choice = side(row.get("winner"), "winner", how, names)
    who = row.get("judge_hash") if absent(row.get("judge")) else row["judge"]
    return [judged(prompt, completions, choice, names, annotator=person(who, how.salt))]


def ultrafeedback(row: Row, how: Reading) -> list[JudgedRow | Unusable]:
    """``instruction`` and ``completions``, each with ``response`` and ``overall_score``.

    Cui et al. 2023 (arXiv:2310.01377). Scores stay with the vote; a margin is not made of them.
    """
    turns = conversation(row.get("instruction"), "instruction")
    scored: list[tuple[str, float]] = []
    prompt, bad = "", list[JudgedRow | Unusable]()
    for completion in objects(row.get("completions"), "completions", "completions"):
        try:
            score = number(completion.get("overall_score"), "overall_score")
            if score is None:
                raise Refused("no overall_score")
            fine = completion.get("fine-grained_score")
            if score == 10 and isinstance(fine, (int, float)) and fine <= 2:
                raise Refused("overall_score 10 beside a fine-grained_score of 2 or less: an error of the set")
            prompt, said = answered(turns, text(completion.get("response"), "response"), "response", how.render)
            if not said.strip():
                raise Refused("empty response")
            scored.append((said, score))
        except Refused as refused:
            bad.append(refused.unusable)
    if len(scored) < 2:
        bad.append(Unusable("fewer than two completions"))
    return [*bad, *ranked(prompt, scored, how, keep_scores=True)]


def shp(row: Row, how: Reading) -> list[JudgedRow | Unusable]:
    """``history``, ``human_ref_A``, ``human_ref_B``, ``labels`` (1: A is better), scores and their ratio.

    About the set and the filter: Ethayarajh et al. 2022 (arXiv:2110.08420).
    """
    if how.min_score_ratio is not None:
        ratio = number(row.get("score_ratio"), "score_ratio")
        if ratio is None:
            raise Refused("no score_ratio")
        if ratio < how.min_score_ratio:
            raise Refused(f"score_ratio below {how.min_score_ratio:g}", broken=False)
    label = number(row.get("labels"), "labels")
    if label not in (0, 1):
        raise Refused("labels is not 0 or 1" if label is not None else "no labels")
    turns = conversation(row.get("history"), "history")
    names = ("human_ref_A", "human_ref_B")
    (prompt, a), (_, b) = (answered(turns, text(row.get(n), n), n, how.render) for n in names)
    scores = number(row.get("score_A"), "score_A"), number(row.get("score_B"), "score_B")
    first, second = scores
    known: dict[str, Any] = {}
    if first is not None and second is not None:
        if (first - second) * (label - 0.5) < 0:
            raise Refused("labels contradicts score_A and score_B")
        known = {"scores": scores}
    return [judged(prompt, (a, b), "a" if label == 1 else "b", names, **known)]


def helpsteer(row: Row, how: Reading) -> list[JudgedRow | Unusable]:
    """``context`` (or ``prompt``), ``response1``, ``response2`` and ``overall_preference`` of -3 to 3.

    Below 0 the first is better; 0 is a tie; how far from 0 is the margin. HelpSteer2 writes ``response_1``,
    ``response_2`` and ``preference_strength``. Wang et al. 2024 (arXiv:2410.01257), 2025 (arXiv:2505.11475).
    """
    row = helpsteer_names(row)
    strength = number(row.get("overall_preference"), "overall_preference")
    if strength is None:
        raise Refused("no overall_preference")
    if abs(strength) > 3:
        raise Refused("overall_preference is not -3 to 3")
    given = row["context"] if row.get("context") is not None else row.get("prompt")
    turns = marked_turns(given) or conversation(given)
    names = ("response1", "response2")
    (prompt, a), (_, b) = (answered(turns, text(row.get(n), n), n, how.render) for n in names)
    choice: Choice = "a" if strength < 0 else "b" if strength > 0 else "tie"
    return [judged(prompt, (a, b), choice, names, margin=abs(strength))]


def helpsteer_names(row: Row) -> dict[str, Any]:
    """A row under the names of HelpSteer3."""
    names = {"response_1": "response1", "response_2": "response2", "preference_strength": "overall_preference"}
    return {names.get(k, k): v for k, v in row.items()}


def rewardbench(row: Row, how: Reading) -> list[JudgedRow | Unusable]:
    """``prompt``, ``chosen``, ``rejected``; of RewardBench 2 lists: each chosen one beats each rejected one.

    Lambert et al. 2024 (arXiv:2403.13787), Malik et al. 2025 (arXiv:2506.01937). ``subset`` and ``id`` are for
    whoever measures a reward model.
    """
    turns = conversation(row.get("prompt"))
    sides = (_several(row.get("chosen"), "chosen"), _several(row.get("rejected"), "rejected"))
    found: list[JudgedRow | Unusable] = []
    for good, bad in itertools.product(*sides):
        try:
            (prompt, a), (_, b) = (
                answered(turns, text(said, name), name, how.render)
                for said, name in ((good, "chosen"), (bad, "rejected"))
            )
            found.append(judged(prompt, (a, b), "a", ("chosen", "rejected")))
        except Refused as refused:
            found.append(refused.unusable)
    return found or [Unusable("no chosen or no rejected")]


def is_rewardbench(row: Row) -> bool:
    """Whether a row with these columns can be of nothing else."""
    own = {"chosen_model", "rejected_model"} <= set(row) or "num_correct" in row
    if not (own and {"prompt", "chosen", "rejected", "subset"} <= set(row)):
        return False
    try:
        sides = (_several(row["chosen"], "chosen"), _several(row["rejected"], "rejected"))
    except Refused:
        return False
    return all(isinstance(said, str) and not is_conversation(said) for side in sides for said in side)


def _several(value: Any, name: str) -> list[Any]:
    several = listed(value, name)
    return several if several is not None and (isinstance(value, list) or holds_texts(several)) else [value]


def marked_turns(prompt: Any) -> list[Message] | None:
    """The turns of HelpSteer2's prompts of several turns, which are one text with marks."""
    if not isinstance(prompt, str) or not _TURN_MARK.search(prompt):
        return None
    first, *rest = _TURN_MARK.split(prompt)
    turns = zip(["User", *rest[::2]], [first, *rest[1::2]], strict=True)
    return [{"role": role.lower(), "content": said} for role, said in turns]
