"""An adapter for each reader: planned, trained on one base, recorded, continued, forgotten."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.base.errors import ConfigError, StoreError
from pipeline.base.records import reader_of
from pipeline.chat.readers import policy_for
from pipeline.chat.served import find_served
from pipeline.erasure.erase_person import main as forget
from pipeline.health.facts import examine_version
from pipeline.modeling import one_base
from pipeline.modeling.reader_heads import read_reader_head
from pipeline.stages.hub.artefacts import Plan
from pipeline.stages.readers.readers import main
from pipeline.store.store import Store, Version
from pipeline.tasks.truths.news_tastes import TASTES
from pipeline.trainers.ppo.trainer import PPOTrainer
from pipeline.workflow.reader_votes import reader_rows, votes_by_reader
from pipeline.workflow.readers import Readers
from tests.helpers.pictures import arrange_no_axes
from tests.stages.conftest import MINI
from tests.stages.test_loop import in_this_process
from tests.stages.test_resume import Killed, weights

CONFIG: dict[str, Any] = {
    "name": "tiny",
    "task": "news",
    "task_args": {"corpus_size": 300, "completion_tokens": 8},
    "sft": {**MINI["sft"], "max_steps": 4},
    "collect": {"annotator": "readers", "comparisons": 40, "annotator_args": {"threshold": -1, "flip": 0}},
    "reward": {
        "loss": "pointwise",
        "per_device_train_batch_size": 4,
        "max_steps": 2,
        "learning_rate": 1e-2,
        "reader_heads": True,
    },
    "ppo": {"total_episodes": 16, "per_device_train_batch_size": 8, "learning_rate": 1e-2, "num_ppo_epochs": 1},
    "evaluate": {"prompts": 6, "best_of": 0, "seeds": 1},
    "readers": {"least_votes": 10, "ppo": {"num_ppo_epochs": 2}},
}
KEPT = ("sim-gardener", "sim-doubter")


class Made:
    """A config and its data directory."""

    def __init__(self, root: Path) -> None:
        self.root, self.path = root, root / "tiny.yaml"
        self.store = Store(root / "data")
        self.path.write_text(yaml.safe_dump({**CONFIG, "data_dir": str(root / "data")}))

    def run(self, *words: str) -> int:
        return main(["--config", str(self.path), *words])

    def plan(self, *overrides: str) -> Readers:
        return Readers(str(self.path), overrides)

    def ids(self) -> dict[str, list[str]]:
        return {name: [v.id for v in self.store.versions(name)] for name in self.store.names()}

    def policy(self, annotator: str) -> Version:
        return self.store.resolve(f"tiny-{reader_of(annotator)}-policy")


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    in_this_process(monkeypatch)
    arrange_no_axes(monkeypatch)
    for name in set(TASTES) - set(KEPT):
        monkeypatch.delitem(TASTES, name)
    return Made(tmp_path)


# Seen failing with: a base that keeps the last reader's adapter; inputs taken from the run's own
# name; the readers' overrides left out.
@pytest.mark.thorough
def test_each_reader_gets_what_a_run_of_their_own_would_give(
    made: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loads: list[str] = []
    load = one_base.load_causal_lm
    monkeypatch.setattr(one_base, "load_causal_lm", lambda *args: loads.append(args[0]) or load(*args))
    assert made.run("--check") == 3
    assert made.run() == 0
    preferences = made.store.resolve("tiny-preferences")
    counts = votes_by_reader(preferences)
    assert set(counts) == {reader_of(name) for name in KEPT}
    for name in KEPT:
        policy, reader = made.policy(name), reader_of(name)
        parents = {p.role: p.ref for p in policy.manifest.parents}
        assert parents["base"] == made.store.resolve("tiny-base").ref
        reward = made.store.resolve(parents["reward"])
        of_reward = {p.role: p.ref for p in reward.manifest.parents}
        assert of_reward["preferences"] == preferences.ref
        assert of_reward["start"] == made.store.resolve("tiny-reward").ref
        assert (
            reward.manifest.stats["completions"]
            == counts[reader]["train"]
            == len(reader_rows(preferences, "train", reader))
        )
        assert policy.manifest.config["task_args"]["reader"] == reader
        # No file of theirs holds the name under which they vote.
        assert not any(name.encode() in p.read_bytes() for v in (policy, reward) for p in v.path.rglob("*.json"))
    record = made.store.resolve("tiny-readers")
    assert [r["reader"] for r in record.manifest.stats["readers"]] == sorted(map(reader_of, KEPT))
    page = (made.store.resolve("tiny-report").path / "report.html").read_text()
    assert '<section id="readers">' in page
    assert "Samples of readers" in page

    # Everybody's run, its samples and evaluation, and one load for both readers.
    before = made.ids()
    assert len(loads) == len([s for s in ("collect", "ppo", "evaluate") if s]) + 1
    capsys.readouterr()
    assert made.run() == made.run("--check") == 0
    assert "nothing to do: tiny-readers@v000001" in capsys.readouterr().out
    assert made.ids() == before

    # At generation time each reader's adapter on the one base, and what the page, the doctor and the Hub take.
    assert made.run("--write", "Saltmere, Monday noon, page 3:", "--reader", "sim-doubter") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["everybody", reader_of("sim-doubter")]
    with pytest.raises(ConfigError, match="is no reader with a policy of their own"):
        made.run("--write", "Here:", "--reader", "nobody")
    data = made.store
    for name in ("sim-doubter", reader_of("sim-doubter")):
        assert find_served(data, policy_for(data, "tiny", name)).policy.ref == made.policy("sim-doubter").ref
    with pytest.raises(StoreError, match=r"has no policy of their own\. There is: r"):
        policy_for(data, "tiny", "nobody")
    for policy in (made.policy("sim-doubter"), data.resolve("tiny-policy")):
        assert len(examine_version(data, policy).facts.readers or ()) == len(KEPT)
    plan = Plan(data, "org/tiny")
    named = plan.add_all(record)
    assert {a.repo for a in named} == {"org/tiny", *(f"org/tiny-{reader_of(name)}" for name in KEPT)}
    of_rewards = {a.repo for a in plan.artefacts if a.card == "reward"}
    assert of_rewards == {"org/tiny-reward", *(f"org/tiny-{reader_of(name)}-reward" for name in KEPT)}
    assert len([a for a in plan.artefacts if a.version.name == "tiny-base"]) == 1

    # The same stages of one reader by themselves, elsewhere.
    apart = made.root / "apart"
    for name in ("base", "prompts", "preferences", "reward", "scores", "comparisons"):
        shutil.copytree(made.store.home(f"tiny-{name}"), apart / f"tiny-{name}")
    reader = next(r for r in made.plan().all() if r.name == reader_of(KEPT[0]))
    overrides = [*reader.arguments, f"data_dir={apart}"]
    for stage in ("reward", "ppo"):
        module = importlib.import_module(f"pipeline.{stage}")
        assert module.main(["--config", str(made.path), *overrides]) == 0
    alone = Store(apart).resolve(f"tiny-{reader.name}-policy")
    assert weights(alone) == weights(made.policy(KEPT[0])) != weights(made.policy(KEPT[1]))

    # Everything of a reader goes with them; the others' stays, and what they have not done again is still done.
    assert forget(["sim-gardener", "--yes", "--root", str(made.root / "data")]) == 0
    left = made.ids()
    assert not any(left[n] for n in left if reader_of("sim-gardener") in n)
    assert not {"tiny-readers", "tiny-report"} & left.keys()
    shared = made.store.resolve("tiny-reward")
    assert read_reader_head(shared.path, reader_of("sim-gardener")) is None
    assert read_reader_head(shared.path, reader_of("sim-doubter")) is not None
    assert shared.damage() == []
    assert set(votes_by_reader(made.store.resolve("tiny-preferences"))) == {reader_of("sim-doubter")}
    assert made.policy("sim-doubter").id in before[f"tiny-{reader_of('sim-doubter')}-policy"]
    assert made.run() == 0
    assert [r["reader"] for r in made.store.resolve("tiny-readers").manifest.stats["readers"]] == [
        reader_of("sim-doubter")
    ]


@pytest.mark.thorough
def test_killed_within_and_between_readers(made: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert made.run() == 0
    expected = made.ids()
    killed = Made(tmp_path / "killed") if (tmp_path / "killed").mkdir() is None else made
    for name in ("base", "prompts", "preferences", "reward", "scores", "comparisons", "rollouts", "policy"):
        shutil.copytree(made.store.home(f"tiny-{name}"), killed.store.home(f"tiny-{name}"))
    step, steps = PPOTrainer.step, [0]

    def die_in(number: int) -> None:
        def counted(self: Any, update: int) -> dict[str, float]:
            steps[0] += 1
            if steps[0] == number:
                raise Killed
            return step(self, update)

        monkeypatch.setattr(PPOTrainer, "step", counted)

    for number in (2, 3):  # the second update of the first reader; counted anew, the second one's
        steps[0] = 0
        die_in(number)
        with pytest.raises(Killed):
            killed.run("ppo.save_steps=1")
    monkeypatch.setattr(PPOTrainer, "step", step)
    assert killed.run() == 0
    for name, ids in killed.ids().items():
        if name.endswith(("-policy", "-reward", "-rollouts", "-evaluation")):
            assert ids == expected[name], name


def test_what_cannot_be(made: Made) -> None:
    with pytest.raises(ConfigError, match=r"likes and dislikes\. Set reward.loss: pointwise.*news_likes"):
        made.plan("reward.loss=pairwise", "reward.reader_heads=false")
    with pytest.raises(ConfigError, match="readers share one base"):
        made.plan("ppo.use_peft=false")
    with pytest.raises(ConfigError, match=r"ppo\.total_episode"):
        made.plan("readers.ppo.total_episode=3")
    with pytest.raises(ConfigError, match=r"is not done: sft\. Train the policies first"):
        made.run("--write", "Here:")
