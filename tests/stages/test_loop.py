"""A loop: rounds on the last policy's samples, continued after any end, stopped by figures or by a person."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sys
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from pipeline import __main__ as command
from pipeline.base.errors import ConfigError
from pipeline.health.facts import examine_version
from pipeline.labelling.items import order_of
from pipeline.labelling.log.log import Log
from pipeline.labelling.session.publishing import write_training_rows
from pipeline.stages.approved_inputs import with_approvals
from pipeline.stages.collect.collect import collect
from pipeline.stages.rounds import loop
from pipeline.store.checkpoints import Checkpoints
from pipeline.store.store import Store, Version
from pipeline.workflow import consecutive_stages
from pipeline.workflow.graph import graph
from pipeline.workflow.rounds import Loop
from pipeline.workflow.stage import Run
from pipeline.workflow.stage_command import do_work, stage_main
from tests.helpers.dying import Died
from tests.stages import fake_stage
from tests.stages.conftest import Project
from tests.unit.labelling.helpers import agree, new_event

PROMPTS = 30


class Stages:
    """Stands for what the stages do: all but the sampling and the training.

    Attributes:
        gold: of each policy on the held-out prompts, by its number; on the split ``select`` there is ``select``.
        kl: of each policy to the base.
        die: the stage, and the round, in whose work the process is killed.
        while_it_trains: called in the work of ``reward``.
        policy: of which each policy is a copy, where it is to be sampled from.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.gold = {1: 0.2, 2: 0.4, 3: 0.6}
        self.select = dict(self.gold)
        self.kl = {1: 2.0, 2: 4.0, 3: 6.0}
        self.calls: list[str] = []
        self.die: str | None = None
        self.while_it_trains: Callable[[], object] = dict
        self.policy: Path | None = None

    def work(self, planned: Run, fresh: bool) -> None:
        do_work(planned, self.body, fresh)

    def body(self, run: Run) -> None:
        place = f"{run.stage} {len(run.store.versions('mini-policy')) + 1}"
        self.calls.append(place)
        if place == self.die:
            raise Died
        if run.stage == "collect" and run.config.asks_people:
            collect(run)
            return
        if run.stage == "reward":
            self.while_it_trains()
        for role in graph(run.config)[run.stage].outputs:
            governance = with_approvals(run) if role in ("preferences", "policy") else {}
            with run.draft(role, governance=governance) as draft:
                (draft.path / "what").write_text(f"{role} of {sorted(i.ref for i in run.inputs.values())}")
                if role == "policy" and self.policy is not None:
                    shutil.copytree(self.policy, draft.path, dirs_exist_ok=True)
                if role == "preferences":
                    carry = run.version("previous") if "previous" in run.inputs else None
                    texts = [f"{run.config.collect.round}-{i}" for i in range(4)]
                    rows = [{"id": t, "prompt": t, "chosen": "a", "rejected": "b"} for t in texts]
                    for split, new in (("train", rows), ("test", [])):
                        write_training_rows(draft, split, new, carry)
                    labels = {"n": 4, "labels": fake_stage.entry(0.5 + 0.1 / run.config.collect.round)}
                    draft.stats.update(comparisons=run.config.collect.comparisons, agreement_with_gold=labels)
                draft.stats.update(self.stats(run, role))
                if role == "evaluation":
                    draft.write_rows("test", self.rows(run))

    def rows(self, run: Run) -> list[dict[str, Any]]:
        number = run.version("policy").number
        gold = (self.select if run.config.evaluate.split == "select" else self.gold)[number]
        return [
            {"id": str(i), "prompt": str(i), "base_gold_score": i % 5 / 50, "policy_gold_score": gold + i % 7 / 50}
            for i in range(PROMPTS)
        ]

    def stats(self, run: Run, role: str) -> dict[str, Any]:
        if role == "evaluation":
            number = run.version("policy").number
            gold = (self.select if run.config.evaluate.split == "select" else self.gold)[number]
            kl = {**fake_stage.entry(self.kl[number]), "standard_error": None}
            best = {"best_of_n": best_of_n(gold - 0.3)} if run.config.evaluate.ns else {}
            return {**fake_stage.figures(0.1, 0), "gold_score": fake_stage.change(gold, gold), "kl_k1": kl, **best}
        return {}


def best_of_n(difference: float) -> dict[str, Any]:
    """The entry of an evaluation whose policy is so much better than the best of 32 of the base, of gold .3."""
    own = fake_stage.entry(difference)
    largest = {"n": 32, "kl_bound": 2.5, "difference": own}
    line = {"policy": fake_stage.entry(0.3 + difference), "policy_kl_k1": 2.0, "d": 1.4, "n_needed": 20}
    rows = [
        {
            "n": n,
            "kl_bound": kl,
            "d": kl,
            "gold_score": fake_stage.entry(g),
            "gain": {"gold_score": fake_stage.entry(g)},
        }
        for n, kl, g in ((1, 0.0, 0.0), (32, 2.5, 0.3))
    ]
    inside = {"within": True, "best_of_n": fake_stage.entry(0.25), "difference": fake_stage.entry(0.9)}
    return {"reason": None, "rows": rows, "yardstick": {"gold_score": line | inside | {"largest": largest}}}


class Rounds:
    """A loop of the config ``mini`` over stand-ins."""

    def __init__(self, root: Path) -> None:
        self.root, self.store = root, Store(root / "data")
        self.stages = Stages(self.store)
        self.config = root / "mini.yaml"
        self.write()

    def write(self, **options: Any) -> None:
        raw = {
            "name": "mini",
            "task": "reviews",
            "data_dir": str(self.root / "data"),
            "collect": {"comparisons": 80},
        }
        self.config.write_text(yaml.safe_dump({**raw, "loop": options}))

    def run(self, *words: str, rounds: int = 3) -> int:
        return loop.main(["--config", str(self.config), "--rounds", str(rounds), *words])

    def decide(self, policy: str, *words: str) -> None:
        argv = ["approve", policy, "--by", "Ann Lee", "--root", str(self.root / "data"), *words]
        assert command.main(argv) == 0

    def parents(self, ref: str) -> dict[str, str]:
        return {p.role: f"{p.name}@v{p.version}" for p in self.store.resolve(ref).manifest.parents}

    def record(self) -> Version:
        return self.store.resolve("mini-loop")

    def ids(self) -> dict[str, list[str]]:
        """The content of every version, in order."""
        return {name: [v.id for v in self.store.versions(name)] for name in self.store.names()}


def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do each stage's work here: pytest has threads, and cannot be forked."""

    def call(_: str, work: Any, fresh: bool = False) -> int:
        work()
        return 0

    monkeypatch.setattr(consecutive_stages, "in_child", call)
    monkeypatch.setattr(consecutive_stages, "require_fork", lambda: None)


@pytest.fixture
def rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rounds:
    in_this_process(monkeypatch)
    made = Rounds(tmp_path)
    monkeypatch.setattr(consecutive_stages, "import_bodies", list)
    monkeypatch.setattr(consecutive_stages, "work", made.stages.work)
    return made


def test_each_round_is_made_from_the_last(rounds: Rounds, capsys: pytest.CaptureFixture[str]) -> None:
    assert rounds.run() == 0
    for n in (2, 3):
        collected = rounds.parents(f"mini-preferences@v{n}")
        assert collected["policy"] == f"mini-policy@v{n - 1}"
        assert collected["previous"] == f"mini-preferences@v{n - 1}"
        learnt = rounds.parents(f"mini-reward@v{n}")
        assert learnt["preferences"] == f"mini-preferences@v{n}"
        assert (learnt["earlier"], learnt["earlier_reward"]) == (
            f"mini-preferences@v{n - 1}",
            f"mini-reward@v{n - 1}",
        )
        assert rounds.parents(f"mini-loop@v{n}")["previous"] == f"mini-loop@v{n - 1}"
        assert rounds.store.resolve(f"mini-preferences@v{n}").manifest.config["collect"]["round"] == n
    # Every round is in the last policy's lineage.
    names = {node.ref for node in rounds.store.lineage(rounds.store.resolve("mini-policy")).ancestors()}
    assert {f"mini-policy@v00000{n}" for n in (1, 2)} <= names
    assert rounds.parents("mini-report")["loop"] == "mini-loop@v3"
    stats = rounds.record().manifest.stats
    assert [(r["number"], r["labels"]) for r in stats["rounds"]] == [(1, 80), (2, 80), (3, 80)]
    # Paired by prompt: each round's gold is .2 above the last, and the first is .2 above a base that is not 0.
    assert [round(r["gold_over_last"]["value"], 6) for r in stats["rounds"][1:]] == [0.2, 0.2]
    # The largest n, whatever the policy's KL is.
    assert [round(r["over_best_of"]["value"], 6) for r in stats["rounds"]] == [-0.1, 0.1, 0.3]
    assert [r["labels_gold"]["value"] for r in stats["rounds"]] == pytest.approx([0.6, 0.55, 0.5 + 0.1 / 3])
    assert {(r["best_of"], r["best_of_over_base"]["value"]) for r in stats["rounds"]} == {(32, 0.3)}
    assert {k: stats[k] for k in ("start", "reference", "data")} == {
        "start": "base",
        "reference": "base",
        "data": "all",
    }
    page = (rounds.store.resolve("mini-loop").path / "README.md").read_text()
    assert "3 (mini-policy@v000003)" in page
    assert "doctor" not in capsys.readouterr().err

    calls = len(rounds.stages.calls)
    before = rounds.ids()
    assert rounds.run() == 0
    assert "nothing to do: 3 of 3 rounds are done, mini-loop@v000003" in capsys.readouterr().out
    assert (len(rounds.stages.calls), rounds.ids()) == (calls, before)


# A longer loop goes on where the shorter one ended; a part of loop.labels is another round.
def test_rounds_and_labels(rounds: Rounds) -> None:
    assert rounds.run(rounds=1) == 0
    assert rounds.run("--check", rounds=2) == 3
    assert rounds.run(rounds=2) == 0
    assert len(rounds.store.versions("mini-policy")) == 2
    assert Loop(str(rounds.config), ["loop.labels=60"]).first().config.collect.comparisons == 20
    assert (
        Loop(str(rounds.config), ["loop.labels=60", "collect.completions=3"]).first().config.collect.comparisons
        == 6
    )
    assert rounds.run("loop.labels=[60, 20, 4]", rounds=2) == 0
    uneven = Loop(str(rounds.config), ["loop.labels=[60, 20, 4]"])
    first = uneven.first()
    assert [r.config.collect.comparisons for r in (first, uneven.after(first))] == [60, 20]
    with pytest.raises(ConfigError, match=r"labels \[60, 20\] has no number for round 3 of 3"):
        Loop(str(rounds.config), ["loop.labels=[60, 20]"])
    with pytest.raises(ConfigError, match=r"loop.labels: 4 leave fewer than two prompts to round 1"):
        Loop(str(rounds.config), ["loop.labels=[4, 20, 9]", "collect.completions=3"]).first()
    with pytest.raises(ConfigError, match=r"loop.labels: 5 in 3 rounds leave fewer than two"):
        Loop(str(rounds.config), ["loop.labels=5"]).first()


# Each stage is a command of its own then, as accelerate wants it; the record is written here.
def test_stages_are_launched(rounds: Rounds, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(words: list[str], check: bool) -> Any:
        assert words[:3] == [sys.executable, "-X", "dev"]
        stage = words[4].removeprefix("pipeline.")
        return SimpleNamespace(returncode=stage_main(stage, rounds.stages.body, words[5:]))

    monkeypatch.setattr(loop, "subprocess", SimpleNamespace(run=start))
    monkeypatch.setattr(consecutive_stages, "main", None)
    assert rounds.run("--launch", f"{sys.executable} -X dev", rounds=2) == 0
    assert rounds.run("--check", rounds=2) == 0
    assert rounds.parents("mini-loop")["previous"] == "mini-loop@v1"
    monkeypatch.setattr(loop, "subprocess", SimpleNamespace(run=lambda *_, **__: SimpleNamespace(returncode=2)))
    assert rounds.run("--launch", f"{sys.executable} -X dev", rounds=3) == 2


@pytest.mark.parametrize(
    ("choice", "ppo", "reward"),
    [
        ("loop.start=last loop.reference=last", {"start": "mini-policy@v1"}, {}),
        ("loop.start=last", {"start": "mini-policy@v1", "key": "base"}, {}),
        ("loop.reference=last", {"reference": "mini-policy@v1"}, {}),
        ("loop.data=last", {}, {"old_share": 0.0}),
        ("loop.data.old_share=0.3", {}, {"old_share": 0.3}),
    ],
)
def test_choices_are_lineage_and_settings(
    rounds: Rounds, choice: str, ppo: dict[str, Any], reward: dict[str, Any]
) -> None:
    assert rounds.run(*choice.split(), "ppo.lora_r=4", rounds=2) == 0
    policy, model = rounds.store.resolve("mini-policy@v2"), rounds.store.resolve("mini-reward@v2")
    named = {role: ref for role, ref in rounds.parents("mini-policy@v2").items() if role in ("start", "reference")}
    settings = policy.manifest.config["ppo"]
    assert named == {k: v for k, v in ppo.items() if k != "key"}
    assert settings.get("reference") == ppo.get("key")
    assert settings["seed"] == 1  # other prompts first, another draw
    assert ("lora_r" in settings) == ("start" not in ppo)  # an adapter to start from has its own
    assert (model.manifest.config.get("reward") or {}).get("old_share") == reward.get("old_share")
    chosen = rounds.record().manifest.config["loop"]
    assert all(str(chosen[word.split("=")[0].split(".")[1]]) in (word.split("=")[1], "{'old_share': 0.3}")
               for word in choice.split())  # fmt: skip


# Mutation caught: the round's arguments built anew from the newest versions, so that a kill gives round 2 a third
# set of inputs.
@pytest.mark.parametrize("place", ["collect 2", "reward 2", "ppo 2", "evaluate 3", "report 3"])
def test_killed_between_stages(
    rounds: Rounds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    rounds.stages.die = place
    with pytest.raises(Died):
        rounds.run(rounds=2)
    rounds.stages.die = None
    assert rounds.run(rounds=2) == 0
    (tmp_path / "whole").mkdir()
    whole = Rounds(tmp_path / "whole")
    monkeypatch.setattr(consecutive_stages, "work", whole.stages.work)
    assert whole.run(rounds=2) == 0
    assert rounds.ids() == whole.ids()
    assert [c for c in rounds.stages.calls if rounds.stages.calls.count(c) > 1] == [place] * 2


def test_a_round_without_gain_ends_it(rounds: Rounds, capsys: pytest.CaptureFixture[str]) -> None:
    rounds.write(stop={"no_gain": True})
    rounds.stages.select[2] = 0.2  # as the last; the reported figures say .4, and do not decide
    assert rounds.run() == 0
    stats = rounds.record().manifest.stats
    assert len(stats["rounds"]) == 2
    assert stats["stopped"].startswith("round 2 brings no gain beyond its interval: gold 0.00")
    assert stats["best"] == 2
    assert stats["rounds"][1]["gold_over_last"]["value"] == pytest.approx(0.2)
    assert "ended after round 2 of 3: round 2 brings no gain" in capsys.readouterr().out
    # The evaluation that is shown, and on the policy's card, is the held-out one.
    newest = rounds.store.resolve("mini-evaluation").manifest
    assert newest.config.get("evaluate") in (None, {})
    before = rounds.ids()
    assert rounds.run() == 0
    assert rounds.ids() == before


def test_a_spent_budget_ends_it(rounds: Rounds) -> None:
    rounds.write(stop={"kl_budget": 3})
    assert rounds.run() == 0
    stats = rounds.record().manifest.stats
    assert stats["stopped"] == "round 2 is 4.0 nats from the base, above kl_budget 3"
    assert stats["best"] == 1  # the last within it


def test_a_person_is_asked_between_rounds(rounds: Rounds, capsys: pytest.CaptureFixture[str]) -> None:
    rounds.write(oversight=True)
    assert rounds.run() == 3
    assert "round 2 waits for a person to say yes or no to mini-policy@v000001" in capsys.readouterr().out
    # No override switches off what a round has recorded; not beside other choices either.
    for override in ("loop.oversight=false", "loop.stop.kl_budget=50", "loop.start=last", "loop.data=last"):
        assert rounds.run("loop.oversight=false", *({override} - {"loop.oversight=false"})) == 3
    assert len(rounds.store.versions("mini-policy")) == 1
    rounds.decide("mini-policy@v1", "--note", "read 40")
    assert rounds.run("loop.oversight=false", "--check") == 3
    assert rounds.run("loop.oversight=false") == 3
    assert len(rounds.store.versions("mini-policy")) == 2
    for name in ("preferences", "policy", "loop"):
        made = rounds.store.resolve(f"mini-{name}")
        (approval,) = made.manifest.governance["approved"]
        assert (approval["ref"], approval["by"], approval["note"]) == ("mini-policy@v000001", "Ann Lee", "read 40")
        assert len(approval["seal"]) == 64
        if name != "policy":  # its card is the evaluation's, which is a stand-in here
            assert "Ann Lee approved `mini-policy@v000001`" in (made.path / "README.md").read_text()
    # Nor do other settings, under which the first round is another one.
    assert rounds.run("loop.oversight=false", "ppo.kl_coef=0.3") == 3
    assert rounds.store.resolve("mini-policy").number == 3


def test_a_no_ends_it(rounds: Rounds, capsys: pytest.CaptureFixture[str]) -> None:
    rounds.write(oversight=True)
    assert rounds.run() == 3
    rounds.decide("mini-policy@v1", "--reject", "--note", "rude")
    assert rounds.run() == 0
    assert "ended after round 1 of 3: Ann Lee said no to mini-policy@v000001: rude" in capsys.readouterr().out
    record = rounds.record()
    assert record.manifest.governance["rejected"][0]["by"] == "Ann Lee"
    assert "Ann Lee said no to `mini-policy@v000001`" in (record.path / "README.md").read_text()
    assert rounds.run() == 0
    assert "nothing to do: 1 of 3 rounds" in capsys.readouterr().out
    rounds.decide("mini-policy@v1", "--note", "on second thoughts")
    assert rounds.run(rounds=2) == 0
    assert len(rounds.store.versions("mini-policy")) == 2


def test_the_doctor_reads_the_rounds(rounds: Rounds) -> None:
    rounds.stages.gold[3] = 0.1
    assert rounds.run() == 0
    of = {n: examine_version(rounds.store, rounds.store.resolve(f"mini-policy@v{n}")) for n in (2, 3)}
    assert "round-unlearns" not in {f.rule for f in of[2].findings}
    assert "round-unlearns" in {f.rule for f in of[3].findings}
    # Mutation caught: the preferences of the round before, which are as near, by way of the prompts.
    assert [of[n].facts.training_rows for n in (2, 3)] == [8, 12]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("ppo.reward=json:dumps", "loop: has no reward model to train"),
        ("collect.annotator=replay collect.annotator_args={dataset: x.jsonl} collect.comparisons=null", "replay"),
        ("collect.sampler={url: http://127.0.0.1:8000/v1, model: m}", "collect.sampler: samples from a server"),
        ("ppo.inputs.start=mini-policy@v1", "ppo.inputs.start is named by the loop itself"),
        ("ppo.use_peft=false loop.start=last", "needs ppo.use_peft: true"),
        ("loop.data.old_share=2", "should be all, last, or {old_share"),
        ("loop.data=al", 'Did you mean "all"?'),
        ("loop.stop.no_gian=true", 'unknown key "loop.stop.no_gian"'),
        ("loop.stop.kl_budget=0", "should be a number above 0"),
        ("loop.inputs.policy=x@v1", '"policy" is not read by loop'),
        ("task=prompts task_args.dataset=x.jsonl loop.stop.no_gain=true", "needs a gold score"),
    ],
)
def test_what_cannot_be_repeated_is_told(rounds: Rounds, words: str, said: str) -> None:
    split = [word.replace("\0", " ") for word in words.replace(": ", ":\0").replace(", ", ",\0").split(" ")]
    with pytest.raises(ConfigError) as err:
        rounds.run(*split)
    assert said in str(err.value)
    assert rounds.stages.calls == []


# -------------------- people


def answer(root: Path, count: int) -> None:
    """Another ``count`` items answered by Ann."""
    with closing(Log(root / "data" / "mini-labels")) as log:
        who = log.people.add("Ann").id
        agree(log, who)
        done = {vote.item for vote in log.answers.votes()}
        open_items = [item for item in log.batches.items() if item.id not in done]
        for n, item in enumerate(open_items[:count]):
            key = hashlib.sha256(item.id.encode()).hexdigest()
            order = order_of(item.id, who, log.people.salt, 2)
            log.events.append(new_event("vote", who, item, key=key, choice="ab"[n % 2], order=order))


# Mutations caught: the newest preferences of the round's key; no publishing before the next round.
@pytest.mark.thorough
def test_late_votes_count_for_the_next_round(
    finished: Project, rounds: Rounds, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished.root / "data", rounds.root / "data")
    rounds.stages.policy = finished.latest("policy").path
    for role in ("preferences", "reward", "policy", "evaluation", "report", "scores", "rollouts", "comparisons"):
        shutil.rmtree(rounds.root / "data" / f"mini-{role}")
    raw = yaml.safe_load((finished.root / "mini.yaml").read_text())
    raw |= {"data_dir": str(rounds.root / "data"), "label": {"annotators": ["Ann"], "enough": 12}}
    raw["collect"] = {"annotator": "human", "comparisons": 20, "test_share": 0.4, "serve": False}
    rounds.config.write_text(yaml.safe_dump(raw))
    assert rounds.run(rounds=2) == 3
    assert "round 1 waits for people's answers" in capsys.readouterr().out
    answer(rounds.root, 12)

    def meanwhile() -> None:
        answer(rounds.root, 2)
        assert command.main(["label", "--publish", "--config", str(rounds.config)]) == 0

    rounds.stages.while_it_trains, rounds.stages.die = meanwhile, "ppo 1"
    with pytest.raises(Died):
        rounds.run(rounds=2)
    assert len(rounds.store.versions("mini-preferences")) == 2
    rounds.stages.while_it_trains, rounds.stages.die = dict, None
    answer(rounds.root, 1)  # nobody publishes this one but the loop
    assert rounds.run(rounds=2) == 3
    assert rounds.parents("mini-reward@v1")["preferences"] == "mini-preferences@v1"
    assert rounds.stages.calls.count("reward 1") == 1
    newest = rounds.store.resolve("mini-preferences")
    sizes = [sum(v.splits[s] for s in ("train", "test")) for v in rounds.store.versions("mini-preferences")]
    assert (newest.number, sizes) == (3, [12, 14, 15])
    answer(rounds.root, 12)
    assert rounds.run(rounds=2) == 0
    assert rounds.parents("mini-preferences@v4")["previous"] == "mini-preferences@v3"
    assert rounds.parents("mini-reward@v2")["earlier"] == "mini-preferences@v3"
    # Still later ones of round 1 count nowhere: round 2 stays what it was made from.
    publish = ["label", "--publish", "--config", str(rounds.config)]
    assert command.main(publish) == 0  # the items of round 1 are asked about again
    answer(rounds.root, 1)
    assert command.main(publish) == 0
    assert rounds.store.resolve("mini-preferences").number == 5
    assert rounds.run("--check", rounds=2) == 0


# -------------------- the stages themselves


@pytest.fixture
def real(finished: Project, project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose first round is done but for its record: it is the ordinary run."""
    in_this_process(monkeypatch)
    monkeypatch.setattr("pipeline.reporting.figures.rounds.draw_rounds", lambda _: None)
    shutil.copytree(finished.root / "data", project.root / "data")
    return project


@pytest.mark.thorough
def test_a_round_of_the_stages_themselves(real: Project) -> None:
    choices = ["loop.start=last", "loop.data.old_share=0.5", "reward.max_steps=4"]
    assert loop.main(["--config", str(real.config), "--rounds", "2", *choices]) == 0
    first, second = (real.store.resolve(f"mini-preferences@v{n}") for n in (1, 2))
    old = {row["id"] for row in first.iter_rows("train")}
    new = [row for row in second.iter_rows("train") if row["id"] not in old]
    assert len(old) + len(new) == second.splits["train"]
    assert not {r["prompt"] for r in new} & {r["prompt"] for r in first.iter_rows("train")}
    stats = real.latest("reward").manifest.stats
    assert 0 < stats["old_pairs_learnt"] < len(old)
    pairs = sum(second.splits.values()) - sum(first.splits.values())
    votes = sum(n for key, n in second.splits.items() if "/" in key) - sum(
        n for key, n in first.splits.items() if "/" in key
    )
    assert stats["new_pairs"]["pairs"] == stats["new_pairs"]["last"]["n"] == pairs - votes
    measured = real.latest("loop").manifest.stats["rounds"]
    assert measured[1]["reward_last"] == stats["new_pairs"]["last"]
    assert measured[0]["policy"] == "mini-policy@v000001"
    # From the last policy, measured to the base: the KL before the first update is not 0.
    log = (real.latest("policy").path / "metrics.jsonl").read_text().splitlines()
    assert yaml.safe_load(log[0])["objective/kl"] != 0
    assert '<section id="rounds">' in (real.latest("report").path / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("choices", [[], ["loop.start=last"], ["loop.reference=last"]], ids=str)
def test_killed_inside_a_round(
    real: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choices: list[str]
) -> None:
    whole = Project(tmp_path / "whole")
    shutil.copytree(real.root / "data", whole.root / "data")
    whole.write()
    argv = ["--rounds", "2", "ppo.save_steps=1", "reward.save_steps=1", *choices]
    assert loop.main(["--config", str(whole.config), *argv]) == 0
    writing = Checkpoints.writing

    @contextlib.contextmanager
    def die(self: Checkpoints, step: int, spare: int | None = None) -> Generator[Path]:
        with writing(self, step, spare) as path:
            yield path
        if step == 1:
            raise Died

    monkeypatch.setattr(Checkpoints, "writing", die)
    for stage in ("reward", "ppo"):
        with pytest.raises(Died):
            loop.main(["--config", str(real.config), *argv])
        assert [p.name.split("-")[1] for p in (real.root / "data" / ".runs").iterdir()] == [stage]
    monkeypatch.undo()
    in_this_process(monkeypatch)
    assert loop.main(["--config", str(real.config), *argv]) == 0
    for name in ("preferences", "reward", "policy", "evaluation"):
        ours, theirs = (project.store.resolve(f"mini-{name}@v2") for project in (real, whole))
        assert ours.id == theirs.id, name
