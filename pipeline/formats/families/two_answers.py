"""Public sets of two answers to a prompt and a verdict: the Arena's 55k battles, SafeRLHF, AlpacaFarm, WebGPT,
summaries. Their prompts are turns of a conversation, also where they are stored as text.
"""

from __future__ import annotations

from typing import Any, cast

from pipeline.base.records import Choice
from pipeline.formats.cells import listed, parsed
from pipeline.formats.judged import (
    JudgedRow,
    Refused,
    Row,
    Unusable,
    judged,
    needed_number,
    number,
    person,
    text,
    yes,
    zero_or_one,
)
from pipeline.formats.messages import Message, conversation, parted, user
from pipeline.formats.reading import Reading, two_answers

Found = list[JudgedRow | Unusable]


def arena_55k(row: Row, how: Reading) -> Found:
    """``prompt``, ``response_a`` and ``response_b``, lists of turns (or their JSON), and three columns of 0 and 1.

    The set of the Kaggle competition "LMSYS - Chatbot Arena Human Preference Predictions" (2024). Only what parts
    at the last answer is a choice between two answers to one prompt.
    """
    names = ("response_a", "response_b")
    a, b = (_turns(row, name) for name in names)
    prompt, completions = parted(a, b, how.render, names)
    won = {name: yes(row.get(f"winner_{name}"), f"winner_{name}") for name in ("model_a", "model_b", "tie")}
    if sum(won.values()) != 1:
        raise Refused("not exactly one of winner_model_a, winner_model_b, winner_tie is 1")
    choice: Choice = "a" if won["model_a"] else "b" if won["model_b"] else "tie"
    return [judged(prompt, completions, choice, names)]


def safe_rlhf(row: Row, how: Reading) -> Found:
    """``prompt``, ``response_0``, ``response_1`` and ``better_response_id``, 0 or 1: which is more helpful.

    ``columns: {choice: safer_response_id}`` reads which is safer. Dai et al. 2023 (arXiv:2310.12773); columns of
    PKU-Alignment/PKU-SafeRLHF.
    """
    name = "choice" if "choice" in row else "better_response_id"
    better = zero_or_one(row, name, how.columns.get(name, name))
    return _two(row, "prompt", ("response_0", "response_1"), "b" if better else "a", how)


def alpacafarm(row: Row, how: Reading) -> Found:
    """``instruction`` and ``input``, ``output_1``, ``output_2`` and ``preference``: 1 or 2; 0 and 1.5 are ties.

    Dubois et al. 2023 (arXiv:2305.14387). AlpacaEval's graded preferences (between 1 and 2) are the nearer side.
    """
    preference = needed_number(row, "preference")
    if preference != 0 and not 1 <= preference <= 2:
        raise Refused("preference is not 1 to 2")
    choice: Choice = "tie" if preference in (0, 1.5) else "a" if preference < 1.5 else "b"
    asked = text(row.get("instruction"), "instruction")
    more = text(row.get("input") or "", "input")
    turns = user(f"{asked}\n\n{more}" if more.strip() else asked)
    names = ("output_1", "output_2")
    prompt, completions = two_answers(turns, row, names, how)
    return [judged(prompt, completions, choice, names)]


def webgpt(row: Row, how: Reading) -> Found:
    """``question``, ``answer_0``, ``answer_1`` and two scores of -1 to 1 that sum to 0; 0 is a tie.

    Nakano et al. 2021 (arXiv:2112.09332); card of openai/webgpt_comparisons. What the answers quote is not read.
    """
    asked = parsed(row.get("question"), "question")
    question = asked.get("full_text") if isinstance(asked, dict) else row.get("question")
    first, second = (number(row.get(name), name) for name in ("score_0", "score_1"))
    if first is None or second is None:
        raise Refused("no score_0 or no score_1")
    choice: Choice = "tie" if first == second else "a" if first > second else "b"
    names, scores = ("answer_0", "answer_1"), (first, second)
    return _two({**row, "question": question}, "question", names, choice, how, scores=scores)


def summaries(row: Row, how: Reading) -> Found:
    """``info`` with a post (or an article), two ``summaries`` with ``text``, and ``choice``: 0 or 1.

    The config "comparisons" of openai/summarize_from_feedback, Stiennon et al. 2020 (arXiv:2009.01325). The prompt
    is written as in their paper: subreddit, title, post, ``TL;DR:``. ``worker`` is who chose.
    """
    info, two = parsed(row.get("info"), "info"), listed(row.get("summaries"), "summaries")
    if not isinstance(info, dict):
        raise Refused("info is no object")
    if two is None or len(two) != 2:
        raise Refused("summaries is not two")
    side: Choice = "b" if zero_or_one(row, "choice") else "a"
    texts = [text(cast("dict[str, Any]", s).get("text") if isinstance(s, dict) else s, "a summary") for s in two]
    # Theirs begin with a blank; so does the text that follows a colon.
    a, b = (s if not s or s[0].isspace() else f" {s}" for s in texts)
    who = person(row.get("worker"), how.salt)
    return [judged(_post(info), (a, b), side, ("the first summary", "the second summary"), annotator=who)]


def _post(info: dict[str, Any]) -> str:
    article = info.get("article")
    if isinstance(article, str) and article.strip():
        return f"Article: {article}\n\nTL;DR:"
    heads = (("SUBREDDIT: r/", "subreddit"), ("TITLE: ", "title"))
    parts = [f"{head}{info[key]}" for head, key in heads if isinstance(info.get(key), str) and info[key].strip()]
    post = text(info.get("post"), "info.post")
    if not post.strip():
        raise Refused("empty prompt")
    return "\n\n".join([*parts, f"POST: {post}", "TL;DR:"])


def _two(row: Row, prompt: str, names: tuple[str, str], choice: Choice, how: Reading, **known: Any) -> Found:
    written, completions = two_answers(conversation(row.get(prompt), prompt), row, names, how)
    return [judged(written, completions, choice, names, **known)]


def _turns(row: Row, name: str) -> list[Message]:
    """Questions of ``prompt`` and answers of ``name`` by turns."""
    asked, answers = listed(row.get("prompt"), "prompt"), listed(row.get(name), name)
    if asked is None or answers is None:
        raise Refused(f"{'prompt' if asked is None else name} is not a list of turns")
    if len(asked) != len(answers):
        raise Refused(f"{name} has another number of turns than prompt")
    turns: list[Message] = []
    for question, answer in zip(asked, answers, strict=True):
        turns += user(text(question, "prompt"))
        turns += [{"role": "assistant", "content": text("" if answer is None else answer, name)}]
    return turns
