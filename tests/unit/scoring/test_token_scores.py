"""The score after every token."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.base.errors import ConfigError, ModelError
from pipeline.scoring import token_scores as subject
from pipeline.scoring.followable_models import FollowableAdapter, FollowableClassifier
from pipeline.scoring.foreign_reward_models import AdapterScorer
from pipeline.scoring.pair_sets import score_unit
from pipeline.scoring.reward_adapter import Position, RewardRole, Scoring
from pipeline.scoring.scorer import Samples
from pipeline.scoring.token_scores import token_scores
from tests.conftest import tiny_gpt2, tiny_tokenizer, with_lora
from tests.helpers.refusals import refusal
from tests.unit.scoring.test_foreign_reward_models import foreign_tokenizer, load, plain, save_classifier

PROMPT, COMPLETION = "w5 w6 w7", "w10 w11 w12 w13 w14"


def adapter(position: Position) -> AdapterScorer:
    tokenizer = tiny_tokenizer(pad_is_eos=position == "last")
    model = with_lora(tiny_gpt2(), "reward")
    head = torch.linspace(-1, 1, 32)[None]
    return AdapterScorer(RewardRole(model, head, Scoring(position, 0.25, 2.0, 512), 51, "reward"), tokenizer)


def cut_texts(scorer: Any, ends: range) -> list[float]:
    """The scorer's own scores of the texts cut by hand."""
    words = COMPLETION.split()
    texts = [" ".join(words[:end]) for end in ends]
    samples = Samples([[0]] * len(texts), [[0]] * len(texts), scorer.tokenizer, [PROMPT] * len(texts))
    samples.__dict__["completions"] = texts
    return scorer(samples).tolist()


# Mutations caught: the prompt's last token not scored, positions shifted by one, no normalisation, the end token
# left out, and for "eos" the head read inside the text.
@pytest.mark.parametrize("position", ["last", "eos"])
def test_each_score_is_that_of_the_text_cut_there(position: Position):
    scorer = adapter(position)
    course = token_scores(scorer, PROMPT, COMPLETION)
    expected = cut_texts(scorer, range(6))
    assert [course.before, *course.scores] == pytest.approx(expected, abs=1e-5)
    assert len({round(score, 3) for score in expected}) == 6
    model = FollowableAdapter(scorer)
    at_once = subject._in_one_forward(model, model.ids(PROMPT, COMPLETION))
    assert at_once is not None
    assert at_once.tolist() == pytest.approx(expected, abs=1e-5)
    assert course.score == course.scores[-1]
    assert sum(course.changes) == pytest.approx(course.score - course.before)
    assert "".join(course.pieces).split() == COMPLETION.split()


@pytest.mark.parametrize("kind", ["gpt2", "llama", "distilbert"])
def test_classifiers(kind: str, tmp_path: Path):
    """Of one that reads left to right by one forward, of another text by text: both are scores of cut texts."""
    scorer = load(save_classifier(tmp_path, kind))
    course = token_scores(scorer, PROMPT, " " + COMPLETION)
    words = COMPLETION.split()
    texts = [" ".join([PROMPT, *words[:end]]) for end in range(6)]
    expected = scorer.classifier.logits(scorer.classifier.encode(texts))[:, 0].tolist()
    assert [course.before, *course.scores] == pytest.approx(expected, abs=1e-4)
    model = FollowableClassifier(scorer)
    at_once = subject._in_one_forward(model, model.ids(PROMPT, COMPLETION))
    assert (at_once is None) == (kind == "distilbert")


def test_a_conversation_ends_as_its_template_ends_it(tmp_path: Path):
    template = "{% for m in messages %}w47 {{ m['content'] }} w46 {% endfor %}"
    tokenizer = foreign_tokenizer(chat_template=template)
    scorer = load(save_classifier(tmp_path, "llama", tokenizer))
    course = token_scores(scorer, [{"role": "user", "content": "w5"}], "w10 w11")
    texts = ["w47 w5 w46 w47 w46", "w47 w5 w46 w47 w10 w46", "w47 w5 w46 w47 w10 w11 w46"]
    # Mutation caught: the template's end left out of cut texts.
    expected = scorer.classifier.logits(scorer.classifier.encode(texts, special=False))[:, 0].tolist()
    assert [course.before, *course.scores] == pytest.approx(expected, abs=1e-4)
    # The end of a chat is several tokens: each cut text has its own.
    model = FollowableClassifier(scorer)
    text = model.ids([{"role": "user", "content": "w5"}], "w10 w11")
    at_once = subject._in_one_forward(model, replace(text, end=[*text.end, 5, 6]))
    assert at_once is not None
    assert at_once.tolist() == pytest.approx(
        model.scores([[*text.cut(n), 5, 6] for n in range(3)]).tolist(), abs=1e-4
    )
    assert [piece.strip() for piece in course.pieces] == ["w10", "w11"]


# Mutations caught: the end token left out, prompt and completion tokenised as one text, a raw logit.
def test_a_merged_reward_model_scores_as_its_adapter(tmp_path: Path):
    path = save_classifier(tmp_path, "gpt2")
    Scoring("eos", 0.25, 2.0, 512).save(path)
    scorer = load(path)
    tokenizer = scorer.classifier.tokenizer
    prompt, completion = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (PROMPT, COMPLETION))
    rows = [[*prompt, *completion[:end], 0] for end in range(6)]
    expected = ((plain(path, rows)[:, 0] - 0.25) / 2).tolist()
    course = token_scores(scorer, PROMPT, COMPLETION)
    assert [course.before, *course.scores] == pytest.approx(expected, abs=1e-4)
    samples = Samples([[0]], [[0]], tokenizer, [PROMPT])
    samples.__dict__["completions"] = [COMPLETION]
    assert scorer(samples).tolist() == pytest.approx(expected[-1:], abs=1e-4)
    assert score_unit(scorer) == 2.0


def test_nothing_and_too_much(tmp_path: Path):
    empty = token_scores(adapter("eos"), PROMPT, "")
    assert (empty.pieces, empty.scores, empty.score) == ([], [], empty.before)
    assert "has 81 tokens, the model reads 64" in refusal(
        ModelError, token_scores, adapter("last"), "w1 " * 40, "w2 " * 41
    )
    assert "has no score after each token" in refusal(ConfigError, token_scores, lambda samples: None, "a", "b")


def test_long_completions_are_cut_in_fewer_places(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(subject, "MOST_CUTS", 2)
    monkeypatch.setattr(subject, "_in_one_forward", lambda model, text: None)
    scorer = adapter("eos")
    course = token_scores(scorer, PROMPT, COMPLETION)
    assert [piece.split() for piece in course.pieces] == [["w10", "w11"], ["w12", "w13", "w14"]]
    expected = cut_texts(scorer, range(6))
    assert [course.before, *course.scores] == pytest.approx([expected[0], expected[2], expected[5]], abs=1e-5)


def test_a_character_of_several_tokens_is_one_piece():
    class Bytes:
        pad_token_id = eos_token_id = None

        def decode(self, ids: list[int], **_: Any) -> str:
            return bytes(ids).decode("utf-8", errors="replace")

    text = "é日 a"
    ends, pieces = subject._pieces(Bytes(), list(text.encode()), 99)  # type: ignore[arg-type]
    assert pieces == ["é", "日", " ", "a"]
    assert ends == [2, 5, 6, 7]
    # Cut in the middle of a character, as a length limit does.
    assert "".join(subject._pieces(Bytes(), list("aé".encode())[:2], 99)[1]) == "a\ufffd"  # type: ignore[arg-type]
