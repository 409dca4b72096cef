"""A loop takes up what people say in `make chat` and `make try`: in the next round, and a kill loses none."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from pipeline import __main__ as command
from pipeline.base.errors import ConfigError
from pipeline.base.records import digest
from pipeline.chat import project, votes
from pipeline.labelling.log.new_event import Answerer
from pipeline.stages.rounds.chat_votes import take_up
from pipeline.store.store import Version
from pipeline.workflow.rounds import Loop
from tests.helpers.dying import Died
from tests.helpers.scripted_chat import BASE, agreed, exchange, opinion
from tests.helpers.traces import holding
from tests.stages.test_loop import Rounds, rounds  # noqa: F401

Said = tuple[str, bool]
"""A message, and whether the policy's answer to it was helpful."""


def says(made: Rounds, name: str, *said: Said) -> str:
    """Somebody talks to the newest policy and says of each of its answers whether it helped; returns their id."""
    policy = made.store.resolve("mini-policy")
    answerers = (BASE, Answerer(role="policy", ref=policy.ref, id=policy.id))
    with closing(project.open_log(made.store, "mini")) as log:
        who = agreed(log, name)
        for text, helpful in said:
            of = exchange(who, text, answerers=answerers)
            key = digest([name, text, helpful])[:32]
            thumb = {"place": 1, "choice": "like" if helpful else "dislike"}
            votes.record(log, who, opinion(log, of, "thumb", f"thumb-{key}", **thumb))
            votes.record(log, who, opinion(log, of, "better", f"better-{key}", choice="b"))
    return who


def rows(version: Version, config: str = "default") -> list[dict[str, Any]]:
    splits = [split for split in ("train", "test") if version.has_split(split, config)]
    return [row for split in splits for row in version.iter_rows(split, config)]


def prompts(version: Version, config: str) -> set[str]:
    return {row["prompt"] for row in rows(version, config) if row["prompt"].startswith("user: ")}


def preferences(made: Rounds, reward: int) -> Version:
    """What a reward model has learnt from."""
    return made.store.resolve(made.parents(f"mini-reward@v{reward}")["preferences"])


# Mutations caught: the newest votes of all, whatever a round was made from; votes counted as earlier rows, which
# the new reward model is not measured on and loop.data=last leaves out; single votes not carried.
def test_votes_on_the_last_policy_are_in_the_next_round(
    rounds: Rounds,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert rounds.run(rounds=1) == 0
    ada = says(rounds, "Ada", ("cats", True), ("dogs", False))
    assert rounds.run("--check", rounds=2) == 3
    assert len(rounds.store.versions("mini-preferences")) == 1  # a check writes nothing
    assert rounds.run(rounds=2) == 0
    assert "takes up 4 votes of make chat and make try: mini-preferences@v000002" in capsys.readouterr().out
    taken, learnt = rounds.store.resolve("mini-preferences@v2"), preferences(rounds, 2)
    assert rounds.parents(taken.ref) == {"previous": "mini-preferences@v1", "policy": "mini-policy@v1"}
    assert rounds.parents(learnt.ref)["previous"] == "mini-preferences@v2"
    assert rounds.parents("mini-reward@v2")["earlier"] == "mini-preferences@v1"
    first, second = rows(rounds.store.resolve("mini-preferences@v1")), rows(learnt)
    assert [r["id"] for r in second[: len(first)]] == [r["id"] for r in first]
    assert prompts(learnt, "default") == {"user: cats", "user: dogs"}
    assert {r["annotator"] for r in second if r["prompt"].startswith("user: ")} == {ada}
    assert {r["annotator"] for r in rows(taken, "votes")} == {ada}
    assert {r["prompt"]: r["label"] for r in rows(taken, "unpaired")} == {"user: cats": True, "user: dogs": False}
    assert taken.ref in {
        node.ref for node in rounds.store.lineage(rounds.store.resolve("mini-policy")).ancestors()
    }
    assert [r["labels"] for r in rounds.record().manifest.stats["rounds"]] == [80, 84]
    # Nothing more to do, and no votes, no version.
    before = rounds.ids()
    assert rounds.run(rounds=2) == 0
    assert rounds.ids() == before


def test_votes_that_arrive_while_a_round_trains_are_for_the_next(rounds: Rounds) -> None:  # noqa: F811
    assert rounds.run(rounds=1) == 0
    says(rounds, "Ada", ("cats", True))
    rounds.stages.while_it_trains, rounds.stages.die = lambda: says(rounds, "Ben", ("birds", True)), "ppo 2"
    with pytest.raises(Died):
        rounds.run(rounds=2)
    says(rounds, "Ben", ("fish", False))
    rounds.stages.while_it_trains, rounds.stages.die = dict, None
    assert rounds.run(rounds=2) == 0
    assert prompts(preferences(rounds, 2), "default") == {"user: cats"}
    before = rounds.ids()
    assert rounds.run(rounds=2) == 0
    assert rounds.ids() == before
    assert rounds.run(rounds=3) == 0
    everything = {"user: cats", "user: birds", "user: fish"}
    assert prompts(preferences(rounds, 3), "default") == everything
    assert [r["labels"] for r in rounds.record().manifest.stats["rounds"]] == [80, 82, 84]
    # Rows of the second round stand before those of the third, each once.
    ids = [row["id"] for row in rows(preferences(rounds, 3))]
    assert len(ids) == len(set(ids))


# Killed after the votes are published, or before: they are in the round, with those that came in between.
@pytest.mark.parametrize("published", [True, False])
def test_a_kill_loses_no_vote(
    rounds: Rounds,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    published: bool,
) -> None:
    assert rounds.run(rounds=1) == 0
    says(rounds, "Ada", ("cats", True))
    with monkeypatch.context() as patched:
        if published:
            rounds.stages.die = "collect 2"
        else:
            patched.setattr("pipeline.stages.rounds.chat_votes.write", die)
        with pytest.raises(Died):
            rounds.run(rounds=2)
    rounds.stages.die = None
    assert len(rounds.store.versions("mini-preferences")) == 1 + published
    assert rounds.run("--check", rounds=2) == 3
    says(rounds, "Ada", ("dogs", True), ("cats", False))  # and a change of mind
    assert rounds.run(rounds=2) == 0
    learnt = preferences(rounds, 2)
    assert prompts(learnt, "default") == {"user: cats", "user: dogs"}
    taken = rounds.store.resolve(rounds.parents(learnt.ref)["previous"])
    assert {r["prompt"]: r["label"] for r in rows(taken, "unpaired")} == {"user: cats": False, "user: dogs": True}
    assert [r["labels"] for r in rounds.record().manifest.stats["rounds"]] == [80, 84]


def die(*_: Any, **__: Any) -> None:
    raise Died


def test_who_is_forgotten_leaves_the_rounds(rounds: Rounds) -> None:  # noqa: F811
    assert rounds.run(rounds=1) == 0
    ada = says(rounds, "Ada", ("her secret", True), ("weather", True))
    says(rounds, "Ben", ("weather", True), ("birds", True))
    assert rounds.run(rounds=2) == 0
    assert holding(rounds.root / "data", "her secret")
    assert command.main(["data", "forget", "Ada", "--yes", "--root", str(rounds.root / "data")]) == 0
    for words in ("her secret", ada):
        assert holding(rounds.root / "data", words) == []
    learnt = rounds.store.resolve("mini-preferences")
    assert prompts(learnt, "default") == {"user: weather", "user: birds"}
    assert len(rows(learnt)) == 4 + 4 + 2
    # What was collected stands; only the models that have learnt from her are made again.
    rounds.stages.calls.clear()
    rounds.stages.gold[4], rounds.stages.kl[4] = 0.7, 7.0
    assert rounds.run(rounds=2) == 0
    assert [c for c in rounds.stages.calls if "report" not in c] == ["reward 3", "ppo 3", "evaluate 4"]
    assert preferences(rounds, 3).ref == learnt.ref
    says(rounds, "Cleo", ("trees", False))
    assert rounds.run(rounds=3) == 0
    assert prompts(preferences(rounds, 4), "default") == {"user: weather", "user: birds", "user: trees"}


def test_votes_can_be_left_out(rounds: Rounds) -> None:  # noqa: F811
    assert rounds.run(rounds=1) == 0
    says(rounds, "Ada", ("cats", True))
    assert rounds.run("loop.chat=false", rounds=2) == 0
    assert prompts(preferences(rounds, 2), "default") == set()


def test_what_people_typed_is_not_left_unscrubbed_in_silence(rounds: Rounds) -> None:  # noqa: F811
    assert rounds.run(rounds=1) == 0
    says(rounds, "Ada", ("I am Ada Lee, call 555 0100", True))
    round = Loop(str(rounds.config), []).first()
    scrubbing = Loop(str(rounds.config), ["collect.annotator=human", "collect.scrub=true"])
    with pytest.raises(ConfigError, match=r"does not reach what people typed in make try.*loop.chat=false"):
        take_up(scrubbing, round, round.version("collect", "preferences"))
    assert len(rounds.store.versions("mini-preferences")) == 1
