"""``python -m pipeline doctor``: how a run is named, what of its lineage is read, and what is told."""

from __future__ import annotations

import copy
import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.__main__ import main
from pipeline.base.errors import DataError, StoreError
from pipeline.base.records import PEOPLES_VOTES
from pipeline.health import Noise, Overlap, diagnose
from pipeline.health.facts import examine_version, facts_of, read_history, run_versions
from pipeline.results.reward import PairGold, PairwiseMetrics
from pipeline.results.stats import to_json
from pipeline.statistics.bootstrap import wilson
from pipeline.statistics.intervals import Estimate
from pipeline.store import refs
from pipeline.store.evaluations import newest_evaluation
from pipeline.store.store import Store, Version
from tests.helpers.histories import ILL, bent, healthy, measured
from tests.helpers.row_files import json_lines
from tests.stages.conftest import Project

Rows = list[dict[str, Any]]

CUT = bent(healthy(gold=True), ILL["cut"].bends)
CLIPPED = bent(healthy(gold=True), ILL["clipped"].bends)


def texts(n: int, name: str = "prompt") -> Rows:
    return [{"id": f"{name}{i}", "prompt": f"{name} {i}"} for i in range(n)]


def pairs(n: int, name: str = "prompt") -> Rows:
    return [
        {"prompt": f"{name} {i}", "chosen": f"good {name} {i}", "rejected": f"bad {name} {i}"} for i in range(n)
    ]


def make(
    store: Store,
    history: Rows = CUT,
    *,
    ppo: dict[str, Any] | None = None,
    reward: PairwiseMetrics | None = None,
    prompts: tuple[Rows, Rows] = (texts(40), texts(10, "test")),
    preferences: tuple[Rows, Rows] | None = (pairs(40), pairs(10, "test")),
    votes: Rows | None = None,
    collect: dict[str, Any] | None = None,
    stopped: str | None = None,
) -> Version:
    """A policy with all it was made from, and an evaluation of it."""
    with store.draft("ill-prompts", kind="prompts", stage="collect") as draft:
        for split, rows in zip(("train", "test"), prompts, strict=True):
            draft.write_rows(split, rows)
    parents = [(draft.version, "prompts")]
    if preferences is not None:
        with store.draft(
            "ill-preferences", kind="preferences", stage="collect", config={"collect": collect or {}}
        ) as draft:
            for split, rows in zip(("train", "test"), preferences, strict=True):
                draft.write_rows(split, rows)
            if votes is not None:
                draft.write_rows("train", votes, "votes", schema=PEOPLES_VOTES)
        labels = draft.version
        with store.draft("ill-reward", kind="adapter", stage="reward", parents=[(labels, "preferences")]) as draft:
            draft.stats.update(evaluation=to_json(reward or measured(0.8, 0.76, 0.84)))
        parents.append((draft.version, "reward"))
    with store.draft(
        "ill-policy", kind="adapter", stage="ppo", parents=parents, config={"ppo": ppo or {}}
    ) as draft:
        (draft.path / "metrics.jsonl").write_text(json_lines([{"loss": 1.0, "step": 1}, *history]))
        draft.stats.update(stopped=stopped)
    policy = draft.version
    with store.draft("ill-evaluation", kind="evaluation", stage="evaluate", parents=[(policy, "policy")]):
        pass
    return policy


def doctor(store: Store, *args: str) -> int:
    return main(["doctor", *args, "--root", str(store.root)])


def test_a_healthy_run(store: Store, capsys: pytest.CaptureFixture[str]):
    make(store, healthy())
    assert doctor(store, "ill") == 0
    assert capsys.readouterr().out == (
        "ill-policy@v000001: 60 updates, nothing found.\n\n"
        "Not looked for, as its figures are not there: label-noise.\n"
    )


def test_an_ill_run(store: Store, capsys: pytest.CaptureFixture[str]):
    make(store, stopped="the disk was full")
    assert doctor(store, "ill") == 1
    said = capsys.readouterr().out
    assert said.startswith("ill-policy@v000001: 60 updates, findings: 2.\nIt ended early: the disk was full.\n")
    (serious, watch) = diagnose(CUT)
    assert f"SERIOUS  all-cut, since update {serious.since}\n  what    100% of the completions are cut" in said
    assert f"\n\nWATCH  eos-falling, since update {watch.since}\n" in said
    assert "  more    docs/doctor.md#all-cut\n" in said
    assert max(map(len, said.splitlines())) <= 100


def test_what_is_only_to_be_watched(store: Store, capsys: pytest.CaptureFixture[str]):
    make(store, CLIPPED)
    assert doctor(store, "ill") == 0
    assert "WATCH  clipped-often" in capsys.readouterr().out


def test_for_machines(store: Store, capsys: pytest.CaptureFixture[str]):
    make(store)
    assert doctor(store, "ill", "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["run"], said["updates"], said["not_looked_at"]) == ("ill-policy@v000001", 60, ["label-noise"])
    assert said["findings"] == [vars(f) for f in diagnose(CUT)]


@pytest.mark.parametrize("name", ["ill", "ill-policy", "ill-policy@v1", "ill-policy@latest", "ill-evaluation"])
def test_names_of_a_run(name: str, store: Store, capsys: pytest.CaptureFixture[str]):
    make(store)
    assert doctor(store, name) == 1
    assert "all-cut" in capsys.readouterr().out


def test_paths_of_a_run(store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    policy = make(store)
    monkeypatch.chdir(policy.path)
    for path in (str(policy.path), str(policy.path / "metrics.jsonl"), "metrics.jsonl", "."):
        assert doctor(store, path) == 1
        assert "all-cut" in capsys.readouterr().out


def test_a_run_under_way(store: Store, capsys: pytest.CaptureFixture[str]):
    metrics = store.root / ".runs" / "new-ppo-0123456789ab" / "metrics.jsonl"
    metrics.parent.mkdir(parents=True)
    metrics.write_text(json_lines(CUT)[:-20])  # the last line is being written
    assert doctor(store, "new") == 1
    assert capsys.readouterr().out.startswith("new, under way: 59 updates")
    newer = metrics.parents[1] / "new-ppo-0000000000ab" / "metrics.jsonl"
    newer.parent.mkdir()
    newer.write_text(json_lines(healthy(20)))
    os.utime(metrics, (1, 1))
    assert doctor(store, "new") == 0
    assert capsys.readouterr().out.startswith("new, under way: 20 updates")


def test_what_is_no_run(store: Store, tmp_path: Path):
    make(store)
    (tmp_path / "ill.yaml").touch()
    with pytest.raises(StoreError, match=r"ill.yaml: is a config.* doctor ill$"):
        doctor(store, str(tmp_path / "ill.yaml"))
    with pytest.raises(StoreError, match=r'no run of PPO is called "nope". There is: ill\.'):
        doctor(store, "nope")
    with pytest.raises(StoreError, match="no such version"):
        doctor(store, "ill-policy@v7")
    (tmp_path / "sft.jsonl").write_text(json_lines([{"loss": 1.0}]))
    with pytest.raises(DataError, match="holds no update of PPO"):
        doctor(store, str(tmp_path / "sft.jsonl"))
    (tmp_path / "broken.jsonl").write_text(json_lines(CUT) + "{\n")
    with pytest.raises(DataError, match=r"broken.jsonl:61: is not JSON"):
        doctor(store, str(tmp_path / "broken.jsonl"))


def test_settings_of_the_run_are_known(store: Store, capsys: pytest.CaptureFixture[str]):
    make(store, ppo={"stop_token": None})
    # Mutation caught: Facts() instead of what the manifest says.
    assert doctor(store, "ill") == 0


def test_the_reward_model_is_known(store: Store, capsys: pytest.CaptureFixture[str]):
    make(store, healthy(gold=False), reward=measured(0.52, 0.47, 0.57, clears=False))
    for name in ("ill", "ill-reward"):
        assert doctor(store, name) == 1
        assert "SERIOUS  reward-at-chance\n" in capsys.readouterr().out


def test_what_was_collected_since_is_unknown(store: Store, capsys: pytest.CaptureFixture[str]):
    make(store, healthy())
    reward = store.resolve("ill-reward").path
    tombstone = refs.tombstone_path(store.home("ill-reward"), 1)
    tombstone.parent.mkdir(exist_ok=True)
    shutil.copy(reward / "manifest.json", tombstone)
    shutil.rmtree(reward)
    for _ in range(2):
        assert doctor(store, "ill") == 0
        assert "Not looked for, as its figures are not there: reward-at-chance," in capsys.readouterr().out
        tombstone.unlink(missing_ok=True)


def test_the_nearest_of_each_kind(store: Store):
    """A policy that goes on from another one's: that one's reward model was another."""
    old = make(store)
    with store.draft("new-reward", kind="adapter", stage="reward") as draft:
        draft.stats.update(evaluation=to_json(measured(0.9, 0.88, 0.92)))
    parents = [(old, "start"), (draft.version, "reward")]
    with store.draft("new-policy", kind="adapter", stage="ppo", parents=parents) as draft:
        (draft.path / "metrics.jsonl").write_text(json_lines(healthy()))
    found = run_versions(store, draft.version)
    assert (found.policy, found.reward) == (draft.version, store.resolve("new-reward"))
    assert found.prompts == store.resolve("ill-prompts")
    assert facts_of(found).training_rows == 40


def test_rows_on_both_sides(store: Store):
    train = [*texts(40), {"id": "x", "prompt": "Test  3"}, {"id": "y", "prompt": "PROMPT 5"}]
    judged = [*pairs(40), *pairs(2, "test")]
    policy = make(store, prompts=(train, texts(10, "test")), preferences=(judged, [*pairs(10, "test"), *pairs(1)]))
    facts = facts_of(run_versions(store, policy))
    # "Test  3" is "test 3", "PROMPT 5" is "prompt 5". Mutation caught: texts compared as they are.
    assert facts.leaks == [
        Overlap("held-out prompts", 1, 10),
        Overlap("held-out comparisons' prompts", 3, 11),
        Overlap("prompts that the policy is tested on", 2, 10),
    ]
    assert facts.duplicates is not None
    assert facts.duplicates[0] == Overlap("prompts of train", 1, 42)
    assert sum(o.count for o in facts.duplicates) == 1
    assert {f.rule for f in examine_version(store, policy).findings} >= {"leaked-rows"}


def test_rows_that_share_a_prompt_are_split_by_completion(store: Store):
    train = [{"prompt": "p", "chosen": f"a{i}", "rejected": f"b{i}"} for i in range(20)]
    test = [{"prompt": "p", "chosen": f"c{i}", "rejected": f"b{i}"} for i in (3, 99)]
    policy = make(
        store, prompts=(texts(4), texts(4, "test")), preferences=(train, test), collect={"split_by": "completion"}
    )
    facts = facts_of(run_versions(store, policy))
    # Of c3 b3 c99 b99, one is known.
    assert facts.leaks == [Overlap("held-out prompts", 0, 4), Overlap("held-out completions", 1, 4)]


def vote(item: int, choice: str | None, round: int = 0) -> dict[str, Any]:
    return {**dict.fromkeys(PEOPLES_VOTES), "comparison_id": f"c{item}", "choice": choice, "round": round}


def test_label_noise_from_votes(store: Store):
    votes = [v for i in range(25) for v in (vote(i, "a"), vote(i, "b" if i < 8 else "a"))]
    # Neither second looks of the same person nor ties nor skips nor single votes say anything.
    votes += [vote(i, "b", 1) for i in range(25)] + [vote(i, "tie") for i in range(25)]
    votes += [vote(i, None) for i in range(25)] + [vote(99, "b")]
    facts = facts_of(run_versions(store, make(store, votes=votes)))
    assert facts.noise is not None
    # 8 of 25 differ: .32 = 2 x .2 x .8.
    assert facts.noise.share == pytest.approx(0.2)
    assert (facts.noise.n, facts.noise.source) == (25, "several votes on one item")
    low = wilson(8, 25).low
    assert facts.noise.low == pytest.approx((1 - math.sqrt(1 - 2 * low)) / 2, abs=1e-4)
    few = facts_of(run_versions(store, make(store, votes=votes[:38])))
    assert few.noise is None


def test_label_noise_from_gold(store: Store):
    right, wrong = Estimate(0.6, 0.55, 0.65, 300), Estimate(0.4, 0.35, 0.45, 300)
    gold = PairGold(300, 0, right, right, wrong)
    policy = make(store, healthy(), reward=replace(measured(0.8, 0.76, 0.84), gold=gold))
    assert facts_of(run_versions(store, policy)).noise == Noise(
        0.4, 0.35, 300, "the gold scores of held-out pairs"
    )
    assert [f.rule for f in examine_version(store, policy).findings] == ["label-noise"]


def test_a_reward_that_is_no_model(store: Store, capsys: pytest.CaptureFixture[str]):
    make(store, healthy(), preferences=None)
    assert doctor(store, "ill") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "there: reward-at-chance, reward-below-baseline, label-noise, few-comparisons." in said


def test_without_torch(store: Store):
    make(store)
    code = (
        "import sys; from pipeline.__main__ import main; "
        f"s = main(['doctor', 'ill', '--root', {str(store.root)!r}]); "
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules; sys.exit(s)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")


# Seen failing with: any gold score above the base's counts as a gain.
@pytest.mark.parametrize(("low", "gained"), [(0.01, True), (0.0, False), (-0.1, False)])
def test_a_gain_that_the_evaluation_is_sure_of(finished: Project, store: Store, low: float, gained: bool):
    policy = make(store)
    stats = copy.deepcopy(finished.latest("evaluation").manifest.stats)
    stats["gold_score"]["difference"] |= {"value": 0.2, "low": low, "high": 0.3}
    with store.draft("ill-evaluation", kind="evaluation", stage="evaluate", parents=[(policy, "policy")]) as draft:
        draft.stats.update(stats)
    found = replace(run_versions(store, policy), evaluation=newest_evaluation(store, policy))
    assert facts_of(found).gold_gained is gained


def test_a_run_of_the_pipeline(finished: Project, capsys: pytest.CaptureFixture[str]):
    """Too small to be well: what matters here is that everything about it is found and read."""
    policy = finished.latest("policy")
    found = run_versions(finished.store, policy)
    assert (found.policy, found.reward) == (policy, finished.latest("reward"))
    facts = facts_of(found)
    assert facts.training_rows == finished.latest("preferences").splits["train"]
    assert facts.reward is not None
    assert facts.leaks is not None
    assert all(o.count == 0 for o in facts.leaks)
    assert len(facts.leaks) == 3
    rows = read_history(policy.path / "metrics.jsonl")
    assert [r["update"] for r in rows] == [1, 2]
    assert "text/repetition" in rows[0]
    assert doctor(finished.store, "mini", "--json") in (0, 1)
    said = json.loads(capsys.readouterr().out)
    # So small a base writes nothing that the gold score could tell apart.
    of_texts = {"sentences-collapse", "ngrams-collapse", "patterns-collapse", "phrase-spreads"}
    assert set(said["not_looked_at"]) == {"label-noise", *of_texts}
    assert len(said["samples"]) == 3
    assert all(sample["completion"] is not None for sample in said["samples"])
    assert {f["rule"] for f in said["findings"]} <= {
        "few-comparisons",
        "reward-at-chance",
        "reward-below-baseline",
    }
