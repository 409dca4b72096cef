"""Finding runs, what they were made from, and what they have set otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import DataError, StoreError
from pipeline.reporting.runs import differing, find_run, parent_differences, parent_run, results_of
from pipeline.reporting.trees import branches
from pipeline.store.store import Store, Version
from tests.unit.reporting.given import REWARD, REWARD_JSON


class Lab:
    """A store with versions of empty files: what they are made from is all that counts here."""

    def __init__(self, root: Path) -> None:
        self.store = Store(root)

    def make(
        self,
        name: str,
        stage: str,
        kind: str,
        parents: Sequence[tuple[Version, str]] = (),
        config: dict[str, Any] | None = None,
        **stats: Any,
    ) -> Version:
        config = {"task": "reviews", "seed": 0, **(config or {})}
        with self.store.draft(name, kind=kind, stage=stage, parents=parents, config=config) as draft:
            (draft.path / "content.txt").write_text(f"{name} {config}", encoding="utf-8")
            draft.stats.update(stats)
        return draft.version

    def run(self, name: str = "demo", *, start: Version | None = None, rate: str = "1e-3", **ppo: Any) -> Version:
        """A policy and all that is before it; parts with the same settings have the same content."""
        base = self.make(f"{name}-base", "sft", "model", config={"sft": {"max_steps": 9}})
        asked = self.make(f"{name}-preferences", "collect", "preferences", [(base, "base")], {"collect": {"n": 5}})
        trained = [(base, "base"), (asked, "preferences")]
        settings = {"reward": {"learning_rate": rate}}
        reward = self.make(f"{name}-reward", "reward", "adapter", trained, settings, evaluation=REWARD_JSON)
        parents = [(base, "base"), (reward, "reward"), *([(start, "start")] if start else [])]
        rollouts = self.make(f"{name}-rollouts", "ppo", "rollouts", parents)
        return self.make(f"{name}-policy", "ppo", "adapter", [*parents, (rollouts, "rollouts")], {"ppo": ppo})

    def evaluate(self, policy: Version, name: str = "demo", **settings: Any) -> Version:
        made_with = {"evaluate": settings}
        return self.make(f"{name}-evaluation", "evaluate", "evaluation", [(policy, "policy")], made_with)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


# Catches: the newest evaluation of another policy, the newest policy for a numbered one.
def test_a_run_is_found_by_any_of_its_names(lab: Lab) -> None:
    first = lab.run(kl_coef=0.1)
    evaluations = [lab.evaluate(first), lab.evaluate(first, prompts=9)]
    second = lab.run(kl_coef=0.2)
    evaluations.append(lab.evaluate(second))
    report = lab.make("demo-report", "report", "report", [(evaluations[0], "evaluation"), (first, "policy")])
    wanted = {
        "demo": (second, evaluations[2]),
        "demo-policy": (second, evaluations[2]),
        "demo-policy@v1": (first, evaluations[1]),
        "demo-evaluation@v1": (first, evaluations[0]),
        report.ref: (first, evaluations[0]),
        str(second.path): (second, evaluations[2]),
    }
    for text, (policy, evaluation) in wanted.items():
        found = find_run(lab.store, text)
        assert (found.policy.ref, found.evaluation.ref) == (policy.ref, evaluation.ref), text
    found = find_run(lab.store, "demo-evaluation@v2")
    assert found.settings["ppo"] == {"kl_coef": 0.1}
    assert found.settings["reward"] == {"learning_rate": "1e-3"}
    assert found.settings["evaluate"] == {"prompts": 9}
    assert found.inputs["reward"][0] == "demo-reward@v000001"
    assert found.reward == REWARD


@pytest.mark.parametrize(
    ("text", "words"),
    [("nothing", 'called "nothing"'), ("demo-reward", "not a run"), ("demo", "has not been evaluated")],
)
def test_what_is_no_run_is_said_in_one_line(lab: Lab, text: str, words: str) -> None:
    lab.run()
    with pytest.raises(StoreError, match=words):
        find_run(lab.store, text)


# Catches: the newest of its name for the one before, the first of its name.
def test_the_parent_is_the_version_before(lab: Lab) -> None:
    policies = [lab.run(kl_coef=c) for c in (0.1, 0.2, 0.3)]
    assert parent_run(lab.store, policies[0]) is None
    assert parent_differences(lab.store, policies[0]) is None
    found = parent_run(lab.store, policies[1])
    assert found is not None
    assert found == (policies[0], "the version before")
    table = parent_differences(lab.store, policies[2])
    assert table is not None
    assert table.head == ("setting", policies[1].ref, policies[2].ref)
    assert table.rows == [("ppo.kl_coef", "0.2", "0.3")]
    assert 'make report RUNS="demo-policy@v000002 demo-policy@v000003"' in table.note


def test_the_parent_is_where_ppo_started_or_the_comparisons_came_from(lab: Lab) -> None:
    other = lab.run("other", kl_coef=0.1)
    lab.run()
    started = lab.run(start=other)
    assert parent_run(lab.store, started) == (other, "PPO started from it")
    asked = lab.make("demo-preferences", "collect", "preferences", [(other, "policy")])
    reward = lab.make("demo-reward", "reward", "adapter", [(asked, "preferences")])
    again = lab.make("demo-policy", "ppo", "adapter", [(reward, "reward")])
    assert parent_run(lab.store, again) == (other, "comparisons were sampled from it")


# Catches: a value carried over from the run beside, rows for settings that are the same in all.
def test_only_what_differs_is_listed_for_each_run(lab: Lab) -> None:
    given = [
        {"seed": 0, "ppo": {"kl_coef": 0.1, "lam": 0.9}},
        {"seed": 0, "ppo": {"kl_coef": 0.2, "lam": 0.9}},
        {"seed": 0, "ppo": {"lam": 0.8, "reward": [{"model": "m"}]}},
    ]
    inputs = [{"reward": ("r@v1", "a")}, {"reward": ("copy@v1", "a")}, {"reward": ("r@v2", "b")}]
    assert differing(given, inputs) == [
        ("ppo.kl_coef", "0.1", "0.2", "default"),
        ("ppo.lam", "0.9", "0.9", "0.8"),
        ("ppo.reward", "default", "default", '[{"model": "m"}]'),
        ("made from: reward", "r@v1", "copy@v1", "r@v2"),
    ]
    assert differing(given[:1] * 2, [inputs[0], inputs[1]]) == []


# Catches: a version drawn out twice, which makes a long tree of a short past.
def test_a_tree_draws_each_version_once(lab: Lab) -> None:
    policy = lab.run()
    tree = branches("policy", lab.store.lineage(policy))
    assert (tree.role, tree.ref) == ("policy", policy.ref)
    assert tree.about.startswith("adapter by ppo, ")
    base, reward, rollouts = tree.children
    assert [child.role for child in tree.children] == ["base", "reward", "rollouts"]
    assert base.about.startswith("model by sft")
    assert [child.role for child in reward.children] == ["base", "preferences"]
    assert reward.children[0].about == "as above"
    assert [(child.ref, child.about, list(child.children)) for child in rollouts.children] == [
        (base.ref, "as above", []),
        (reward.ref, "as above", []),
    ]


# Catches: figures that something else changed, read as if they were not there.
def test_figures_that_cannot_be_read_are_one_line(lab: Lab) -> None:
    policy = lab.run()
    stats = {"n": 50, "level": 0.95, "kl_k1": "2.5"}
    evaluation = lab.make("demo-evaluation", "evaluate", "evaluation", [(policy, "policy")], **stats)
    with pytest.raises(DataError) as caught:
        results_of(evaluation)
    assert str(caught.value).startswith(
        f"{evaluation.ref}: its evaluation cannot be read: stats.kl_k1 is '2.5', not"
    )
    assert "\n" not in str(caught.value)
