"""Answering: the same tokens as the pipeline samples, several questions by turns, and questions that end early."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest
import torch
from peft import LoraConfig

from pipeline.base.errors import DataError, ModelError
from pipeline.chat import engine as module
from pipeline.chat import explanations
from pipeline.chat.engine import Engine
from pipeline.chat.questions import Update
from pipeline.chat.served import Settings
from pipeline.modeling.decoding.drawing import uniforms
from pipeline.modeling.decoding.generation import generate
from pipeline.modeling.roles import Role, active_adapter
from pipeline.modeling.tokens import decode
from pipeline.scoring.attribution import Attribution, attribute
from pipeline.scoring.foreign_reward_models import AdapterScorer
from pipeline.scoring.reward_adapter import RewardRole, Scoring
from pipeline.scoring.token_scores import TokenScores, token_scores
from tests.conftest import tiny_gpt2, tiny_llama, tiny_tokenizer, with_lora
from tests.helpers.refusals import refusal

TOKENS = 12
SAY = [{"role": "user", "content": "w5 w6 w7"}]


class Lengths:
    """A scorer: the number of tokens."""

    def __call__(self, samples: Any) -> torch.Tensor:
        return torch.tensor([float(len(ids)) for ids in samples.completion_ids])


@pytest.fixture(scope="module", params=[tiny_gpt2, tiny_llama], ids=["gpt2", "llama"])
def model(request: pytest.FixtureRequest) -> Any:
    return with_lora(request.param(), noise=0.5)


@pytest.fixture
def engine(model: Any) -> Iterator[Engine]:
    made = Engine((Role(model), Role(model, "policy")), tiny_tokenizer(), Settings(1.0, TOKENS, seed=3), Lengths())
    yield made
    made.close()


class Heard:
    """Collects what is told of one question."""

    def __init__(self) -> None:
        self.updates: queue.SimpleQueue[Update] = queue.SimpleQueue()
        self.all: list[Update] = []

    def __call__(self, update: Update) -> None:
        self.updates.put(update)

    def until_over(self) -> dict[int, Update]:
        while not self.all or self.all[-1].kind not in ("over", "failed"):
            self.all.append(self.updates.get(timeout=20))
        assert self.all[-1].kind == "over", self.all[-1]
        return {u.side: u for u in self.all if u.kind == "done"}


def sampled(model: Any, adapter: str | None, side: int, seed: int, prompt: list[int]) -> list[int]:
    noise = uniforms(2, TOKENS, torch.Generator().manual_seed(seed))[side : side + 1]
    with active_adapter(model, adapter):
        return generate(model, [prompt], max_new_tokens=TOKENS, eos_id=51, noise=noise).rows()[0]


# Catches: the policy's adapter active for the base; a position that is off by one; a cache that is shared.
def test_streams_are_what_the_pipeline_samples(model: Any, engine: Engine) -> None:
    several = [Heard() for _ in range(4)]
    prompts = ["w5 w6 w7", "w8", "w1 w2 w3 w4 w9 w10", "w11 w12"]
    for heard, prompt in zip(several, prompts, strict=True):
        engine.ask(prompt, [{"role": "user", "content": prompt}], heard)
    # All first: the model cannot be used here while the engine's thread uses it.
    ended = [heard.until_over() for heard in several]
    for n, (heard, done, prompt) in enumerate(zip(several, ended, prompts, strict=True)):
        ids = [int(word[1:]) for word in prompt.split()]
        for side, adapter in enumerate((None, "policy")):
            expected = sampled(model, adapter, side, 3 + n, ids)
            assert done[side].text == decode(engine.tokenizer, expected)
            assert (done[side].number, done[side].ended) == (len(expected), expected[-1] == 51)
            assert done[side].score == len(expected)
            texts = [u.text for u in heard.all if u.kind == "text" and u.side == side]
            assert all(after.startswith(before) for before, after in itertools.pairwise(texts))


# A policy trained without LoRA: a batch of each model.
def test_two_whole_models() -> None:
    base, policy = tiny_gpt2(), tiny_gpt2(seed=5)
    engine = Engine((Role(base), Role(policy)), tiny_tokenizer(), Settings(1.0, TOKENS, seed=3))
    several = [Heard(), Heard()]
    for heard in several:
        engine.ask("Ada", SAY, heard)
    for n, done in enumerate([heard.until_over() for heard in several]):
        for side, model in enumerate((base, policy)):
            assert done[side].text == decode(engine.tokenizer, sampled(model, None, side, 3 + n, [5, 6, 7]))
            assert done[side].score is None
    engine.close()


def test_base_and_policy_are_one_model(engine: Engine) -> None:
    base, policy = engine.roles
    assert base.model is policy.model


def test_questions_are_answered_by_turns(engine: Engine) -> None:
    order: list[str] = []
    both_asked = threading.Event()

    def heard(name: str, whole: Heard) -> Any:
        def tell(update: Update) -> None:
            both_asked.wait(60)  # else the first answer may be over before the second question is asked
            if update.kind == "text":
                order.append(name)
            whole(update)

        return tell

    one, two = Heard(), Heard()
    engine.ask("Ada", SAY, heard("Ada", one), seed=5)
    engine.ask("Ben", SAY, heard("Ben", two), seed=6)
    both_asked.set()
    one.until_over()
    two.until_over()
    assert order.index("Ben") < len(order) - 1 - order[::-1].index("Ada")


def test_those_beyond_the_limit_wait_one_of_each_person_first(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 1)
    ended: list[str] = []
    gate = threading.Event()
    inside = threading.Event()

    def first(update: Update) -> None:
        inside.set()
        gate.wait(20)
        if update.kind == "over":
            ended.append("Ada 1")

    def name(text: str, heard: Heard) -> Any:
        return lambda update: (ended.append(text) if update.kind == "over" else None, heard(update))

    engine.ask("Ada", SAY, first)
    inside.wait(20)
    waiting = [Heard() for _ in range(3)]
    engine.ask("Ada", SAY, name("Ada 2", waiting[0]))
    engine.ask("Ada", SAY, name("Ada 3", waiting[1]))
    engine.ask("Ben", SAY, name("Ben", waiting[2]))
    gate.set()
    for heard in waiting:
        heard.until_over()
    assert ended == ["Ada 1", "Ben", "Ada 2", "Ada 3"]


def test_one_person_cannot_queue_without_end(engine: Engine) -> None:
    gate = threading.Event()
    for _ in range(module.WAITING_EACH):
        engine.ask("Ada", SAY, lambda update: gate.wait(20))
    try:
        assert "4 of yours" in refusal(DataError, engine.ask, "Ada", SAY, print)
    finally:
        gate.set()


# Catches: a stopped question that goes on to its end, and holds a place.
def test_a_question_that_is_stopped_costs_no_more_tokens(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    step = module.Batch.step
    monkeypatch.setattr(module.Batch, "step", lambda self: (drawn.append(len(self.rows)), step(self)))
    gate, begun = threading.Event(), threading.Event()

    def tell(update: Update) -> None:
        begun.set()
        gate.wait(20)

    question = engine.ask("Ada", SAY, tell)
    begun.wait(20)
    engine.stop(question)
    gate.set()
    after = Heard()
    engine.ask("Ben", SAY, after)
    done = after.until_over()
    assert engine._active == []
    # The first of each token comes with the prompt.
    assert sum(drawn) == sum(update.number - 1 for update in done.values())


def test_a_failing_model_fails_the_questions_in_progress_and_no_later_one(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(self: Any) -> None:
        raise RuntimeError("a secret of the asker")

    with monkeypatch.context() as patched:
        patched.setattr(module.Batch, "step", broken)
        heard = Heard()
        engine.ask("Ada", SAY, heard)
        while (update := heard.updates.get(timeout=20)).kind == "text":
            pass
        assert (update.kind, update.text) == ("failed", "The models failed; see the server's terminal.")
    assert capsys.readouterr().out == "[chat] a question failed: RuntimeError\n"
    after = Heard()
    engine.ask("Ada", SAY, after)
    after.until_over()


def test_a_conversation_that_does_not_fit_is_refused(engine: Engine) -> None:
    long = [{"role": "user", "content": "w1 " * 60}]
    assert "has 60 tokens; this base reads 52 and then" in refusal(DataError, engine.ask, "A", long, print)


def test_answers_longer_than_the_base_are_refused(model: Any) -> None:
    engine = Engine((Role(model), Role(model, "policy")), tiny_tokenizer(), Settings(1.0, 64))
    assert "64 positions" in refusal(ModelError, engine.ask, "Ada", SAY, print)


def test_closing_ends_what_is_in_progress(model: Any) -> None:
    engine = Engine((Role(model), Role(model, "policy")), tiny_tokenizer(), Settings(1.0, TOKENS))
    gate, told = threading.Event(), list[Update]()
    begun = threading.Event()

    def tell(update: Update) -> None:
        told.append(update)
        begun.set()
        gate.wait(20)

    engine.ask("Ada", SAY, tell)
    begun.wait(20)
    threading.Timer(0.05, gate.set).start()
    engine.close()
    assert told[-1].kind in ("failed", "over")
    assert "stopping" in refusal(DataError, engine.ask, "Ada", SAY, print)


# -------------------- explanations


@pytest.fixture
def scored(model: Any) -> Iterator[Engine]:
    """An engine whose reward adapter is a role of the same model."""
    if "reward" not in model.peft_config:
        model.add_adapter("reward", LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    head = torch.linspace(-1, 1, model.config.hidden_size)[None]
    role = RewardRole(model, head, Scoring("eos", 0.25, 2.0, 512), 51, "reward")
    made = Engine((Role(model), Role(model, "policy")), tiny_tokenizer(), Settings(1.0, TOKENS, seed=3), role)
    yield made
    made.close()


def score_of(engine: Engine, prompt: str, completion: str) -> float:
    assert engine.followed is not None
    return token_scores(engine.followed, prompt, completion).score


# Mutations caught: the policy's adapter active; the completion's sampled tokens in place of its text's.
def test_an_explanation_is_what_token_scores_says_and_ends_on_the_score(scored: Engine) -> None:
    heard = Heard()
    scored.ask("Ada", SAY, heard)
    for side, update in heard.until_over().items():
        assert update.score is not None
        result = scored.explain("Ada", "w5 w6 w7", update.text, update.score).result.result(20)
        expected = token_scores(
            AdapterScorer(cast("RewardRole", scored.scorer), scored.tokenizer), "w5 w6 w7", update.text
        )
        assert result == expected, side
        assert result.score == pytest.approx(update.score, abs=1e-3)
        assert len(expected.pieces) > 1


# Mutations caught: explained before or after all answers, not between their rounds; two of one person at a time; a
# model left under the reward's adapter.
def test_answers_go_on_while_a_score_is_explained(scored: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    heard, score = Heard(), score_of(scored, "w5", "w8 w9")
    refused: list[str] = []

    def slow(scorer: Any, prompt: str, completion: str, go_on: Any) -> TokenScores:
        with active_adapter(scored.roles[0].model, "reward"):
            scored.ask("Ada", SAY, heard, seed=3)
            refused.append(refusal(DataError, scored.explain, "Ada", "w5", "w8", 0.0))
            while not heard.all or heard.all[-1].kind != "over":
                go_on()
                heard.all += [heard.updates.get() for _ in range(heard.updates.qsize())]
        return token_scores(scorer, prompt, completion)

    monkeypatch.setattr(explanations, "token_scores", slow)
    result = scored.explain("Ada", "w5", "w8 w9", score).result.result(20)
    assert result.score == score
    assert "another one is being explained to you" in refused[0]
    done = heard.until_over()
    for side, adapter in enumerate((None, "policy")):
        expected = sampled(scored.roles[0].model, adapter, side, 3, [5, 6, 7])
        assert done[side].text == decode(scored.tokenizer, expected)


def test_answers_go_on_while_a_score_is_divided(scored: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("captum")
    score, heard = score_of(scored, "w5 w6", "w8 w9 w10"), Heard()
    expected = attribute(AdapterScorer(cast("RewardRole", scored.scorer), scored.tokenizer), "w5 w6", "w8 w9 w10")
    asked, divided_first = threading.Event(), list[bool]()

    def divide(*args: Any) -> Attribution:
        asked.wait(60)  # else it may be done before the question is asked
        return attribute(*args)

    def tell(update: Update) -> None:
        if update.kind == "over":
            divided_first.append(explanation.result.done())
        heard(update)

    monkeypatch.setattr(explanations, "attribute", divide)
    explanation = scored.explain("Ben", "w5 w6", "w8 w9 w10", score, attribution=True)
    scored.ask("Ada", SAY, tell, seed=3)
    asked.set()
    done = heard.until_over()
    assert divided_first == [False]
    result = explanation.result.result(60)
    for side, adapter in enumerate((None, "policy")):
        ids = sampled(scored.roles[0].model, adapter, side, 3, [5, 6, 7])
        assert done[side].text == decode(scored.tokenizer, ids)
    assert isinstance(result, Attribution)
    for part in ("prompt", "completion"):
        values = [value for _, value in getattr(expected, part)]
        assert [value for _, value in getattr(result, part)] == pytest.approx(values, abs=1e-4)


def test_an_explanation_that_fails_or_is_stopped_ends_alone(
    scored: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    score = score_of(scored, "w5", "w8 w9")
    other = scored.explain("Ada", "w5", "w8 w9", score + 1)
    assert "here, and" in str(other.result.exception(20))
    gate = threading.Event()
    with monkeypatch.context() as patched:

        def broken(*_: Any) -> Any:
            gate.wait(20)
            raise RuntimeError("a secret of the asker")

        patched.setattr(explanations, "token_scores", broken)
        first, second = scored.explain("Ada", "w5", "w8", 0.0), scored.explain("Ben", "w5", "w8", 0.0)
        second.stop()
        third = scored.explain("Ben", "w5", "w8 w9", score)  # not the second of Ben's: that one is stopped
        gate.set()
        assert "see the server's terminal" in str(first.result.exception(20))
        assert "stopped it" in str(second.result.exception(20))
        assert "see the server's terminal" in str(third.result.exception(20))
    assert "secret" not in capsys.readouterr().out
    assert scored.explain("Ada", "w5", "w8 w9", score).result.result(20).score == score


def test_what_cannot_be_explained_is_refused(
    scored: Engine, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "cannot be explained" in refusal(DataError, engine.explain, "Ada", "w5", "w8", 0.0)
    monkeypatch.setattr(module, "MOST_TOKENS", 4)
    assert "has 5 tokens; up to 4" in refusal(DataError, scored.explain, "Ada", "w5 w6 w7", "w8 w9", 0.0)
    scored.attributes = False
    assert "captum" in refusal(DataError, scored.explain, "Ada", "w5", "w8", 0.0, True)
    scored.close()
    assert "stopping" in refusal(DataError, scored.explain, "Ada", "w5", "w8", 0.0)
