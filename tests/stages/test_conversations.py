"""Conversations through every stage: one template, only the last reply trained, votes one by one."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from pipeline.chat.asking import Talk
from pipeline.chat.engine import Engine
from pipeline.chat.project import open_log
from pipeline.chat.served import Settings, find_served
from pipeline.chat.web.server import TryServer
from pipeline.labelling.conversation import turns
from pipeline.labelling.settings import LabelSection
from pipeline.modeling.loading import load_tokenizer
from pipeline.modeling.tokens import encode_prompts
from pipeline.stages.rounds import loop
from pipeline.trainers.ppo import trainer as ppo_trainer
from tests.stages.conftest import Project
from tests.stages.test_loop import in_this_process
from tests.unit.chat.web.test_server import Asker, sealed

TASK = {"conversations": 120, "corpus_size": 200, "completion_tokens": 12}
VOTES = {"like_above": -0.1, "temperature": 0.1, "flip": 0.2}
"""Of a simulated user who likes much of what a base that has learnt nothing writes."""


@pytest.fixture(scope="module")
def talked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, list[Any]]:
    """A finished run, with the batches that PPO has trained on."""
    made, rollouts = Project(tmp_path_factory.mktemp("talked")), list[Any]()
    made.write(
        task="chat",
        task_args=TASK,
        sft={"n_positions": 224, "vocab_size": 700},
        collect={"comparisons": 40, "annotator_args": VOTES},
        reward={"loss": "pointwise"},
        evaluate={"other_history": True, "best_of": 0, "prompts": 8},
    )
    collect_rollout = ppo_trainer.collect_rollout

    def kept(*args: Any, **options: Any) -> Any:
        rollouts.append(collect_rollout(*args, **options))
        return rollouts[-1]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ppo_trainer, "collect_rollout", kept)
        for stage in ("sft", "collect", "reward", "ppo", "evaluate"):
            assert made.run(stage) == 0
    return made, rollouts


# Mutations caught: the oracle's choices without its votes; a vote for each comparison that a completion is in.
@pytest.mark.thorough
def test_each_reply_has_a_vote(talked: tuple[Project, list[Any]]) -> None:
    made, _ = talked
    preferences = made.latest("preferences")
    pairs, single = preferences.rows("train"), preferences.rows("train", "unpaired")
    assert len({(r["prompt"], r["completion"]) for r in single}) == len(single) > len(pairs)
    likes = {(r["prompt"], r["completion"]): r["label"] for r in single}
    assert all(likes[p["prompt"], p["chosen"]] and not likes[p["prompt"], p["rejected"]] for p in pairs)
    stats = preferences.manifest.stats
    assert stats["single_votes"] == len(single) + len(preferences.rows("test", "unpaired"))
    assert made.latest("reward").manifest.stats["completions"] == len(single)


# Mutations caught: a prompt of the last turn alone; completions that begin at the first end of a turn.
@pytest.mark.thorough
def test_only_the_last_reply_is_trained(talked: tuple[Project, list[Any]]) -> None:
    made, rollouts = talked
    tokenizer = load_tokenizer(str(made.latest("base").path))
    train = {row["prompt"] for row in made.latest("prompts").iter_rows("train")}
    assert rollouts
    for rollout in rollouts:
        rows = zip(rollout.input_ids, rollout.prompt_lengths, rollout.completion_ids, rollout.lengths, strict=True)
        for ids, start, completion, length in rows:
            prompt = tokenizer.decode(ids[:start])
            assert prompt in train
            assert (ids[:start] == tokenizer.eos_token_id).sum() == len(turns(prompt)) > 1
            assert torch.equal(ids[start : start + length], completion[:length])
            assert tokenizer.eos_token_id not in completion[: length - 1]


@pytest.mark.thorough
def test_training_evaluation_and_chat_write_a_conversation_alike(talked: tuple[Project, list[Any]]) -> None:
    made, _ = talked
    base = load_tokenizer(str(made.latest("base").path))
    prompt = made.latest("prompts").rows("test")[0]["prompt"]
    messages = [{"role": role, "content": text} for role, text in turns(prompt)]
    engine = Engine.load(made.store, find_served(made.store, "mini"), Settings(1.0, 12, seed=0))
    try:
        assert engine.prompting.has_template
        assert engine.prompting.text(messages) == prompt
        ids = engine.prompting.ids(prompt)
    finally:
        engine.close()
    assert ids == encode_prompts(base, [prompt])[0]
    assert ids == base.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    reply = {"role": "assistant", "content": "I see."}
    whole = base.apply_chat_template([*messages, reply])["input_ids"]
    assert whole[: len(ids)] == ids  # as the corpus was written
    assert AutoTokenizer.from_pretrained(made.latest("policy").path).chat_template == base.chat_template


@pytest.mark.thorough
def test_the_evaluation_says_what_the_history_brings(talked: tuple[Project, list[Any]]) -> None:
    made, _ = talked
    measured = made.latest("evaluation").manifest.stats["other_history"]
    assert measured["gain"]["policy"]["n"] == 8
    assert made.run("report") == 0
    page = (made.latest("report").path / "report.html").read_text()
    assert "Gold score that the history brings" in page
    assert "<dt>assistant</dt>" in page


def talk_and_vote(made: Project, said: list[str]) -> str:
    """Ada talks with the newest policy, over HTTP, and presses like or dislike on each of its replies."""
    served = find_served(made.store, "mini")
    engine = Engine.load(made.store, served, Settings(1.0, 12, seed=0))
    with closing(open_log(made.store, "mini")) as log, closing(engine):
        who = log.people.add("Ada").id
        with TryServer(log, LabelSection(port=0), Talk(engine, served)) as page:
            asker, messages = Asker(dict(page.links())["Ada"]), list[dict[str, str]]()
            asker.agree()
            for number, text in enumerate(said):
                messages.append({"role": "user", "content": text})
                connection, answer = asker.begin(messages)
                with closing(connection):
                    lines = [json.loads(line) for line in answer.read().splitlines()]
                (done,) = [line for line in lines if line["kind"] == "done" and line["place"] == 1]
                assert done["text"].strip()
                asker.post("thumb", place=1, choice=("like", "dislike")[number % 2], **sealed(lines))
                messages.append({"role": "assistant", "content": done["text"]})
    return who


# The whole circle: people talk over HTTP to what a round has made, and the next round learns from their votes.
@pytest.mark.thorough
def test_votes_of_a_conversation_are_in_the_next_round(
    talked: tuple[Project, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = talked
    in_this_process(monkeypatch)
    monkeypatch.setattr("pipeline.reporting.figures.rounds.draw_rounds", lambda _: None)
    said = ["My name is Ada.", "My city is Rome.", "What is my name?", "What is my city?"]
    who = talk_and_vote(made, said)
    assert loop.main(["--config", str(made.config), "--rounds", "2"]) == 0
    learnt = made.store.resolve(
        next(p.ref for p in made.latest("reward").manifest.parents if p.role == "preferences")
    )
    rows = [row for split in ("train", "test") for row in learnt.iter_rows(split, "unpaired")]
    hers = [row for row in rows if row["annotator"] == who]
    assert [row["label"] for row in hers] == [True, False, True, False]
    assert [[text for role, text in turns(row["prompt"]) if role == "user"] for row in hers] == [
        said[: n + 1] for n in range(len(said))
    ]
    # Beside these are the votes of both rounds.
    assert len(rows) > len(hers) + 100
    assert made.latest("loop").manifest.stats["rounds"][1]["labels"] == 40 + len(said)
