"""Read the formats of other trainers, vendors and tools: OpenAI, ms-swift, LLaMA-Factory, Prodigy, and binarised
sets that name their columns in their own way.
"""

from __future__ import annotations

from typing import Any

from pipeline.base.json_values import dict_of
from pipeline.formats.cells import holds_texts, listed, parsed
from pipeline.formats.families.trl_and_hh import paired
from pipeline.formats.judged import JudgedRow, Refused, Row, Unusable, absent, person, text
from pipeline.formats.messages import Message, bot, is_conversation, messages, user
from pipeline.formats.reading import Reading, as_given, ranked


def openai_preference(row: Row, how: Reading) -> list[JudgedRow]:
    """``input`` with ``messages``, ``preferred_output`` and ``non_preferred_output``, each a message.

    OpenAI's files for preference fine-tuning (direct preference optimisation). Calls of tools cannot be kept.
    """
    given = parsed(row.get("input"), "input")
    if not isinstance(given, dict):
        raise Refused("input is no object with messages")
    if given.get("tools"):
        raise Refused("input with tools: only text can be kept")
    turns = messages(given.get("messages"), "input.messages")
    names = ("preferred_output", "non_preferred_output")
    sides = messages(row.get(names[0]), names[0]), messages(row.get(names[1]), names[1])
    return [paired(row, how, turns, sides, names=names)]


def swift(row: Row, how: Reading) -> list[JudgedRow]:
    """``messages`` that end in the better answer and ``rejected_response``, or ``rejected_messages``.

    ms-swift 3 (its documentation, "Custom dataset"). ``rejected_response`` may be a list of several.
    """
    turns = messages(row.get("messages"), "messages")
    if turns[-1]["role"] != "assistant":
        raise Refused("messages does not end with an answer of the assistant")
    for name in ("images", "videos", "audios", "objects", "tools"):
        if row.get(name):
            raise Refused(f"{name}: only text can be kept")
    names = ("messages", "rejected_response")
    worse: Any = row.get(names[1])
    texts = listed(worse, names[1])
    found: list[JudgedRow] = []
    for one in texts if holds_texts(texts) and texts else [worse]:
        said = messages(one, names[1]) if is_conversation(one) else bot(text(one, names[1]))
        if said[0]["role"] == "assistant":
            found.append(paired(row, how, turns[:-1], (turns[-1:], said), names=names))
        else:
            found.append(paired(row, how, None, (turns, said), names=names))
    return found


def instructed(row: Row, how: Reading) -> list[JudgedRow]:
    """``chosen`` and ``rejected`` after ``question``, or ``instruction`` and ``input``, and ``system``.

    Intel/orca_dpo_pairs and its descendants, and LLaMA-Factory's preference files in the Alpaca layout, of which
    the instruction and the input make one turn.
    """
    if row.get("history"):
        raise Refused("history: earlier turns beside an instruction are not read; bring conversations")
    names = ("question",) if "question" in row else ("instruction", "input")
    parts = [text(row[name], name) for name in names if not absent(row.get(name))]
    if not parts:
        raise Refused(f"no {names[0]}")
    turns: list[Message] = user("\n\n".join(part for part in parts if part.strip()))
    if not absent(row.get("system")) and text(row["system"], "system").strip():
        turns = [{"role": "system", "content": row["system"]}, *turns]
    sides = [
        messages(row.get(n), n) if is_conversation(row.get(n)) else bot(text(row.get(n), n))
        for n in ("chosen", "rejected")
    ]
    return [paired(row, how, turns, (sides[0], sides[1]))]


def prodigy(row: Row, how: Reading) -> list[JudgedRow | Unusable]:
    """``text`` (or ``prompt``), ``options`` with ``id`` and ``text``, ``accept`` with one id, ``answer``.

    Prodigy's interface "choice", as its database exports it. Each option that was not accepted is worse; rejected
    and ignored tasks are no answers.
    """
    if row.get("answer") not in (None, "accept"):
        raise Refused(f"the task was {'ignored' if row['answer'] == 'ignore' else 'rejected'}", broken=False)
    accepted, options = listed(row.get("accept"), "accept"), listed(row.get("options"), "options")
    if accepted is None or options is None:
        raise Refused(f"{'accept' if accepted is None else 'options'} is not a list")
    if not accepted:
        raise Refused("nobody has answered", broken=False)
    texts: dict[str, Any] = {}
    for option in options:
        one = dict_of(option)
        if one.get("id") is None or str(one["id"]) in texts:
            raise Refused("an option without an id of its own")
        texts[str(one["id"])] = one.get("text")
    good = {str(a) for a in accepted}
    if not good <= set(texts):
        raise Refused("accept names no option")
    if len(texts) < 2:
        raise Refused("fewer than two options")
    given = row.get("prompt") if "prompt" in row else row.get("text")
    prompt, said = as_given(given, [(f"option {n}", t) for n, t in texts.items()], how)
    scored = [(one, float(n in good)) for n, one in zip(texts, said, strict=True)]
    who = person(row.get("_annotator_id") or row.get("_session_id"), how.salt)
    pairs = ranked(prompt, scored, how, annotator=who)
    # Of options on the same side nothing was said.
    decided = [p for p in pairs if not (isinstance(p, JudgedRow) and p.tie)]
    return decided or [Unusable("all options were accepted", broken=False)]
