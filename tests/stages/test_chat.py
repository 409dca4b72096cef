"""Talking to a finished run: its models' answers, votes as a dataset, training on it, forgetting who spoke."""

from __future__ import annotations

import contextlib
import io
import queue
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import __main__ as command
from pipeline.base.errors import ConfigError, DataError, ModelError, PipelineError, StoreError
from pipeline.chat import project, votes
from pipeline.chat.engine import Engine
from pipeline.chat.questions import Update
from pipeline.chat.served import Settings, find_served
from pipeline.chat.web.serve import withdraw
from pipeline.modeling.roles import language_model
from pipeline.scoring.reward_adapter import RewardRole
from pipeline.store.store import Store, Version
from tests.helpers.refusals import refusal
from tests.helpers.scripted_chat import agreed, exchange, opinion
from tests.helpers.traces import holding
from tests.stages.conftest import Project

COUNT = 16
"""Subjects of each person: enough that some are held out."""


@pytest.fixture
def store(finished: Project, tmp_path: Path) -> Store:
    """The versions of the finished run, and room for a log."""
    root = tmp_path / "data"
    root.mkdir()
    for home in (finished.root / "data").glob("mini-*"):
        (root / home.name).symlink_to(home)
    return Store(root)


@pytest.fixture(scope="module")
def engine(finished: Project) -> Iterator[Engine]:
    store = finished.store
    made = Engine.load(store, find_served(store, "mini-policy"), Settings(1.0, 12, seed=0))
    yield made
    made.close()


ANSWERED = ("--seed", "1")
"""A seed whose first answers are not empty: of sixty questions this small model leaves two or three unanswered."""


def talk(store: Store, typed: str, monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    return command.main(["chat", "mini-policy@v1", "--root", str(store.root), *ANSWERED, *args])


def answered(engine: Engine, text: str) -> dict[int, Update]:
    updates: queue.SimpleQueue[Update] = queue.SimpleQueue()
    engine.ask("me", [{"role": "user", "content": text}], updates.put)
    done: dict[int, Update] = {}
    while (update := updates.get(timeout=30)).kind != "over":
        assert update.kind != "failed", update.text
        if update.kind == "done":
            done[update.side] = update
    return done


# Mutations caught: a second copy of the base for the reward model; a score under the policy's adapter.
def test_base_policy_and_reward_model_share_one_model(engine: Engine) -> None:
    base, policy = engine.roles
    assert isinstance(engine.scorer, RewardRole)
    assert base.model is policy.model is engine.scorer.model
    assert set(policy.model.peft_config) == {"policy", "reward"}
    assert len({id(language_model(role.model)) for role in engine.roles}) == 1


def test_scores_are_those_that_ppo_would_give(engine: Engine) -> None:
    prompt = "The lamp was"
    done = answered(engine, prompt)
    assert isinstance(engine.scorer, RewardRole)
    ids = engine.prompting.ids(prompt)
    for update in done.values():
        stored = engine.tokenizer(update.text, add_special_tokens=False)["input_ids"]
        assert update.score == pytest.approx(float(engine.scorer.score([ids], [stored])[0]), abs=1e-3)


def test_what_a_policy_is_served_with_comes_from_its_manifest(store: Store) -> None:
    served = find_served(store, "mini")
    assert (served.policy.ref, served.project) == ("mini-policy@v000001", "mini")
    assert served.base_answerer.ref == "mini-base@v000001"
    assert (served.temperature, served.completion_tokens) == (1.0, 12)
    assert served.reward == store.resolve("mini-reward").path


@pytest.mark.parametrize(
    ("args", "kind", "words"),
    [
        (["chat", "mini-policy@v9"], StoreError, "no such version"),
        (["try", "nothing"], StoreError, 'there is no "nothing"'),
        (["chat", "mini-reward@v1"], ModelError, "is a reward model, not a policy. There is: mini-policy"),
        (["try", "mini-base"], ModelError, "is a base model, not a policy"),
        (["try", "mini-preferences"], ModelError, "is a version of preferences, not a policy"),
        (["chat", "mini", "--temperature", "-1"], ConfigError, "--temperature -1 should be 0 to 10"),
        (["chat", "mini", "--max-tokens", "0"], ConfigError, "--max-tokens 0 should be above 0"),
        (["try", "mini", "--port", "99999"], ConfigError, "port = 99999"),
        (["try", "mini", "--people", "me", "me"], ConfigError, "a name occurs twice"),
        (["try", "mini", "--public-url", "x"], ConfigError, "public_url"),
        (["chat", "mini", "--reader", "x"], StoreError, "has no policy of their own. Train them: make readers"),
        (["chat", "mini", "--publish"], ConfigError, "nobody has voted"),
    ],
)
def test_what_cannot_be_talked_to_is_one_line(
    store: Store, args: list[str], kind: type[PipelineError], words: str
) -> None:
    assert words in refusal(kind, command.main, [*args, "--root", str(store.root)])
    assert not (store.root / "mini-chat-labels").exists()


def test_a_conversation_in_the_terminal(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = [
        "y", "/why 1", "The lamp was", "/why 2", "/why 3", "/2", "/like 2", "/dislike 1", "/edit 1", "bright.", "",
        "/1", "/tie x", "/like 3", "/nonsense", "", "word " * 400, "/go 2", "/turns on",
        "/go 2", "And it", "/1", "/undo", "/undo", "/quit",
    ]  # fmt: skip
    assert talk(store, "\n".join(said) + "\n", monkeypatch) == 0
    out = capsys.readouterr().out
    assert "This base has no chat template" in out.replace("\n", " ")
    assert "/like: which one? Write /like 1 or /like 2." in out
    assert "/why: there is no answer yet." in out
    assert "/why: which one? Write /why 1 or /why 2." in out
    assert "It is not why the text got its score" in " ".join(out.split())
    assert "/nonsense: is no command." in out
    assert "tokens; this base reads" in out.replace("\n", " ")
    assert "Each message stands alone: /turns on" in " ".join(out.partition("/nonsense")[2].split())
    assert "The next message goes on from answer 2." in out
    assert out.count("Taken back.") == 1
    assert "undo: there is no vote to take back.\n" in out, "no page to reload"
    assert "To make a dataset of the votes: make chat RUN=mini-policy@v1 PUBLISH=1 ARGS=" in out
    assert out.count("1 base\n") == 2
    with contextlib.closing(project.open_log(store, "mini")) as log:
        # /1 replaced /2, and "/tie x" is a choice too.
        assert [vote.choice for vote in log.answers.votes()] == ["like", "dislike", "tie"]
        (edit,) = log.answers.edits()
        assert edit.payload["text"].strip() == "bright."
        assert edit.payload["source"]["answerers"][0]["ref"] == "mini-base@v000001"
    # Who does not agree is not answered.
    assert talk(store, "n\n", monkeypatch, "--as", "Ben") == 0


def test_blind_in_the_terminal(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert talk(store, "y\nThe lamp was\n/1\n/quit\n", monkeypatch, "--blind") == 0
    out = capsys.readouterr().out
    before, _, after = out.partition("Saved.")
    assert "base\n" not in before.partition("/help.")[2]
    assert "score" not in before
    assert "mini-base@v000001" in after
    assert "1 was mini-" in after


def people_vote(store: Store, names: tuple[str, ...] = ("Ada", "Ben"), count: int = COUNT) -> dict[str, str]:
    """Everybody talks about subjects of their own, and both about one; returns their ids."""
    served = find_served(store, "mini")
    with contextlib.closing(project.open_log(store, "mini")) as log:
        ids = {name: agreed(log, name) for name in names}
        for name, who in ids.items():
            for n in range(count):
                shared = n == 0
                subject = "the weather" if shared else f"{name}'s secret {n}"
                of = exchange(who, subject, answerers=served.answerers)
                key = f"{name}-vote-{n:04d}"
                votes.record(log, who, opinion(log, of, "better", key, choice="b"))
                votes.record(log, who, opinion(log, of, "thumb", f"{key}-t", place=1, choice="like"))
            votes.record(log, who, opinion(log, of, "edit", f"{key}-e", place=0, text=f" {name} wrote this."))
    return ids


def publish(store: Store) -> Version:
    assert command.main(["try", "mini-policy@v1", "--publish", "--root", str(store.root)]) == 0
    return store.resolve("mini-chat")


def prompts(version: Version, config: str = "default") -> set[str]:
    columns = [row["prompt"] for split in ("train", "test") for row in version.iter_rows(split, config)]
    return set(columns)


def test_votes_become_a_version_with_its_lineage(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    people_vote(store)
    made = publish(store)
    out = capsys.readouterr().out
    assert "[chat] wrote mini-chat@v000001:" in out
    assert f"{2 * COUNT} choices: {2 * COUNT} for the policy" in out
    assert 'ARGS="collect.inputs={previous: mini-chat@v000001}"' in out
    assert [(p.ref, p.role) for p in made.manifest.parents] == [("mini-policy@v000001", "policy")]
    assert all(made.splits[split] for split in ("train", "test"))
    assert {"votes/train", "unpaired/train", "edits/train", "outcomes/train"} <= set(made.splits)
    # Nothing new, no new version.
    assert publish(store).ref == made.ref
    again = capsys.readouterr().out
    assert "[chat] up to date, nobody has voted since: mini-chat@v000001" in again
    assert "wrote" not in again


# The rows are as any other preferences: a reward model trains on them.
def test_a_reward_model_trains_on_the_votes(finished: Project, store: Store, tmp_path: Path) -> None:
    people_vote(store)
    made = publish(store)
    for name in ("mini-reward", "mini-policy"):  # of this run's own
        (store.root / name).unlink()
    mine = Project(tmp_path)
    mine.write()
    assert mine.run("reward", f"reward.inputs={{preferences: {made.ref}}}") == 0
    reward = store.resolve("mini-reward")
    assert (made.ref, "preferences") in [(p.ref, p.role) for p in reward.manifest.parents]


@pytest.mark.slow
def test_collect_puts_the_votes_before_its_own_rows(store: Store, tmp_path: Path) -> None:
    people_vote(store)
    made = publish(store)
    for name in ("mini-preferences", "mini-prompts", "mini-comparisons"):
        (store.root / name).unlink()
    mine = Project(tmp_path)
    mine.write(collect={"comparisons": 20})
    assert mine.run("collect", f"collect.inputs={{previous: {made.ref}}}") == 0
    both = store.resolve("mini-preferences")
    ids = [row["id"] for row in both.iter_rows("train")]
    own = [row["id"] for row in made.iter_rows("train")]
    assert ids[: len(own)] == own
    assert len(ids) > len(own)


# Mutation caught: items that only the erased person typed left in the log, or in the version's items.
def test_forgetting_somebody_erases_what_they_typed(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    ids = people_vote(store)
    made = publish(store)
    assert any("Ada's secret" in prompt for prompt in prompts(made, "items"))
    assert command.main(["data", "forget", "Ada", "--yes", "--root", str(store.root)]) == 0
    assert "mini-chat@v000001 -> mini-chat@v000002" in capsys.readouterr().out
    after = store.resolve("mini-chat")
    for config in ("default", "items", "unpaired"):
        left = prompts(after, config)
        assert not [prompt for prompt in left if "Ada's secret" in prompt]
        assert "user: the weather" in left  # Ben typed it too
        assert any("Ben's secret" in prompt for prompt in left)
    assert after.manifest.stats["items"] == 2 * COUNT + 1  # a pair and a thumb each, and an edited answer
    with contextlib.closing(project.open_log(store, "mini")) as log:
        assert not [item for item in log.batches.items() if "Ada's secret" in item.prompt]
        assert {vote.annotator for vote in log.answers.votes()} == {ids["Ben"]}
    for words in ("Ada's secret", "Ada wrote this", ids["Ada"]):
        assert holding(store.root / "mini-chat-labels", words) == []
        assert holding(store.root / "mini-chat", words) == []
    # And the log goes on.
    people_vote(store, ("Cleo",), 2)
    assert publish(store).number > after.number


def test_a_withdrawn_link_opens_nothing(store: Store) -> None:
    with contextlib.closing(project.open_log(store, "mini")) as log:
        token = log.people.add("Ada").token
        withdraw(log, ["Ada"])
        assert log.people.by_token(token) is None
        assert "There is: Ada." in refusal(ConfigError, withdraw, log, ["Ben"])


def test_without_a_vote_there_is_nothing_to_publish(store: Store) -> None:
    with contextlib.closing(project.open_log(store, "mini")) as log:
        assert "no vote to train on" in refusal(DataError, project.publish, store, "mini", log)
