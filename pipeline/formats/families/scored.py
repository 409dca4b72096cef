"""Public sets of several answers to a prompt with scores or ranks, and of one scored answer a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pipeline.formats.cells import listed
from pipeline.formats.families.chat_comparisons import marked_turns
from pipeline.formats.families.unpaired import Opinion, opinion
from pipeline.formats.judged import JudgedRow, Refused, Row, Unusable, needed_number, number, text
from pipeline.formats.messages import Message, answered, conversation, is_conversation, objects
from pipeline.formats.reading import Reading, plain, prompt_as_given, ranked, without_repeat

Found = list[JudgedRow | Unusable]


def ultrafeedback(row: Row, how: Reading) -> Found:
    """``instruction`` and ``completions``, each with ``response`` and ``overall_score``.

    Cui et al. 2023 (arXiv:2310.01377). Scores stay with the vote; a margin is not made of them.
    """

    def score(completion: Row) -> float:
        overall, fine = needed_number(completion, "overall_score"), completion.get("fine-grained_score")
        if overall == 10 and isinstance(fine, (int, float)) and fine <= 2:
            raise Refused("overall_score 10 beside a fine-grained_score of 2 or less: an error of the set")
        return overall

    turns = conversation(row.get("instruction"), "instruction")
    completions = objects(row.get("completions"), "completions", "completions")
    return _ranked(turns, completions, "response", score, "completions", how, keep_scores=True)


def nectar(row: Row, how: Reading) -> Found:
    """``prompt`` as HH-RLHF writes conversations and ``answers``, each with ``answer`` and ``rank``, best 1.

    Zhu et al. 2023, berkeley-nest/Nectar.
    """
    turns = conversation(row.get("prompt"))
    answers = objects(row.get("answers"), "answers", "answers")
    return _ranked(turns, answers, "answer", lambda answer: -needed_number(answer, "rank"), "answers", how)


def _ranked(
    turns: Sequence[Message],
    answers: Iterable[Row],
    name: str,
    score: Callable[[Row], float],
    kind: str,
    how: Reading,
    keep_scores: bool = False,
) -> Found:
    """The pairs of ``answers``, whose texts are under ``name``, by ``score``, and the answers that are refused."""
    scored: list[tuple[str, float]] = []
    prompt, bad = "", list[JudgedRow | Unusable]()
    for answer in answers:
        try:
            value = score(answer)
            prompt, completion = answered(turns, text(answer.get(name), name), name, how.render)
            if not completion.strip():
                raise Refused(f"empty {name}")
            scored.append((completion, value))
        except Refused as refused:
            bad.append(refused.unusable)
    if len(scored) < 2:
        bad.append(Unusable(f"fewer than two {kind}"))
    return [*bad, *ranked(prompt, scored, how, keep_scores)]


def responses_scores(row: Row, how: Reading) -> Found:
    """``prompt``, ``responses`` and as many ``scores``, higher better. Texts stay as they stand."""
    responses, scores = listed(row.get("responses"), "responses"), listed(row.get("scores"), "scores")
    if responses is None or scores is None:
        raise Refused(f"{'responses' if responses is None else 'scores'} is not a list")
    if len(responses) != len(scores):
        raise Refused("responses and scores are not equally many")
    if len(responses) < 2:
        raise Refused("fewer than two responses")
    asked = row.get("prompt")
    if is_conversation(asked):
        turns = conversation(asked)
        written = [
            answered(turns, text(response, "a response"), "a response", how.render) for response in responses
        ]
        prompt, completions = written[0][0], [completion for _, completion in written]
    else:
        texts = [text(response, "a response") for response in responses]
        completions = without_repeat(plain(asked, "prompt", how), texts, how)
        prompt = prompt_as_given(asked, how)
    scored: list[tuple[str, float]] = []
    bad = list[JudgedRow | Unusable]()
    for completion, score in zip(completions, scores, strict=True):
        try:
            value = number(score, "a score")
            if value is None or not completion.strip():
                raise Refused("no score" if value is None else "empty response")
            scored.append((completion, value))
        except Refused as refused:
            bad.append(refused.unusable)
    if not prompt.strip():
        raise Refused("empty prompt")
    return [*bad, *ranked(prompt, scored, how, keep_scores=True)]


def helpsteer_rated(row: Row, how: Reading) -> Opinion:
    """``prompt``, ``response`` and ``helpfulness`` of 0 to 4: HelpSteer's and HelpSteer2's main files.

    One answer a row; those of one prompt are compared by helpfulness, the other four ratings are not read. Wang et
    al. 2023 (arXiv:2311.09528), 2024 (arXiv:2406.08673).
    """
    score = needed_number(row, "helpfulness")
    asked: Any = row.get("prompt")
    turns = marked_turns(asked) or conversation(asked)
    prompt, completion = answered(turns, text(row.get("response"), "response"), "response", how.render)
    return opinion(prompt, completion, score, None, "helpfulness")
