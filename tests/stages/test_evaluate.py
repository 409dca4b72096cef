"""evaluate on the tiny run: judges, best-of-n, over-optimisation, and what an interruption costs."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.__main__ import main
from pipeline.base.errors import ConfigError, ModelError
from pipeline.evaluation.policy.best_of_n import best_of
from pipeline.evaluation.policy.headline import headline
from pipeline.health.facts import examine_version
from pipeline.reporting.run_tables import judge_table
from pipeline.reporting.runs import results_of
from pipeline.store.store import Store, Version
from tests.helpers.llm_endpoint import Endpoint, endpoint, longer_wins, says
from tests.stages.conftest import Project

PROMPTS, SEEDS = 20, 2


def copy_of(finished: Project, root: Path, **evaluate: Any) -> Project:
    root.mkdir(exist_ok=True)
    shutil.copytree(finished.root / "data", root / "data")
    made = Project(root)
    made.write(evaluate=evaluate)
    return made


@pytest.fixture(scope="module")
def double() -> Iterator[Endpoint]:
    with pytest.MonkeyPatch.context() as patch, endpoint(longer_wins) as made:
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield made


@pytest.fixture(scope="module")
def judged(
    finished: Project, tmp_path_factory: pytest.TempPathFactory, double: Endpoint
) -> tuple[Project, Version]:
    """An evaluation by the reward model itself, a function and a language model."""
    root = tmp_path_factory.mktemp("judged")
    made = copy_of(finished, root)
    (root / "my_judges.py").write_text(
        "def brevity(completions, **_):\n    return [-len(c) for c in completions]\n"
    )
    llm = {"llm": "tiny", "url": double.url, "prompts": 15}
    made.write(
        evaluate={"judges": ["adapter", "my_judges:brevity", llm], "best_of": [2, 8], "best_of_prompts": 12}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.syspath_prepend(root)
        assert made.run("evaluate") == 0
    return made, made.latest("evaluation")


def test_what_is_published(finished: Project):
    evaluation = finished.latest("evaluation")
    stats = evaluation.manifest.stats
    assert evaluation.splits == {"test": PROMPTS * SEEDS, "best_of_n/test": PROMPTS * 5}
    assert (stats["n"], stats["completions_per_prompt"]) == (PROMPTS, SEEDS)
    assert [s["seed"] for s in stats["seeds"]] == [0, 1]
    known = ("gold_score", "score", "length", "entropy")
    for key in known:
        assert stats[key].keys() == {"base", "policy", "difference"}
    for key in ("kl_k1", "kl_k3", "kl_k1_per_token", "kl_k3_per_token"):
        assert stats[key]["n"] == PROMPTS
    for key in ("ended", "degenerate", "unique", "repetition", "distinct_1"):
        assert stats[key].keys() == {"base", "policy"}
    assert stats["length_controlled_win_rate"].keys() == stats["win_rate"].keys() == {"gold_score", "score"}
    assert [row["n"] for row in stats["best_of_n"]["rows"]] == [1, 2, 4, 8, 16, 32]
    assert stats["best_of_n"]["yardstick"].keys() == {"gold_score", "score"}
    assert stats["policy"]["ref"] == finished.latest("policy").ref
    assert stats["overoptimisation"]["training"]["source"] == "objective"
    assert stats["overoptimisation"]["sweep"] is None
    assert stats["best_checkpoint"] is None
    assert stats["judges"] == {}
    varied = stats["diversity"]
    assert (varied["completions"], varied["prompts"]) == (PROMPTS * SEEDS, PROMPTS)
    for key in ("closings", "openings", "ngrams", "patterns"):
        assert {"base", "policy", "ratio", "at"} <= varied[key].keys()
    assert [row["n"] for row in varied["best_of_n"]["rows"]] == [1, 2, 4, 8, 16, 32]
    assert varied["best_of_n"]["prompts"] == PROMPTS
    assert all(row["patterns"]["value"] >= 1 for row in varied["best_of_n"]["rows"])
    assert "embedding_within" not in varied


# Catches: figures of other rows than those published; the mean of seeds in another order.
def test_figures_are_those_of_the_rows(finished: Project):
    evaluation = finished.latest("evaluation")
    stats, rows = evaluation.manifest.stats, evaluation.rows("test")
    assert [r["seed"] for r in rows[:4]] == [0, 1, 0, 1]
    assert rows[0]["prompt"] == rows[1]["prompt"] != rows[2]["prompt"]
    for key in ("gold_score", "score"):
        difference = np.mean([r[f"policy_{key}"] - r[f"base_{key}"] for r in rows])
        assert stats[key]["difference"]["value"] == pytest.approx(difference)
        assert np.mean([s[key] for s in stats["seeds"]]) == pytest.approx(difference)
    assert stats["kl_k1"]["value"] == pytest.approx(np.mean([r["policy_kl_k1"] for r in rows]))
    assert stats["kl_k3"]["value"] == pytest.approx(np.mean([r["policy_kl_k3"] for r in rows]))
    tokens = sum(r["policy_length"] for r in rows)
    assert stats["kl_k1_per_token"]["value"] == pytest.approx(sum(r["policy_kl_k1"] for r in rows) / tokens)
    assert stats["ended"]["base"]["value"] == pytest.approx(np.mean([r["base_ended"] for r in rows]))
    broken = np.mean([r["policy_degenerate"] is not None for r in rows])
    assert stats["degenerate"]["policy"]["value"] == pytest.approx(broken)
    best = {r["n"]: r["score"] for r in stats["best_of_n"]["rows"]}
    found = evaluation.rows("test", config="best_of_n")
    for n in (2, 32):
        assert best[n]["value"] == pytest.approx(np.mean([r["score"] for r in found if r["n"] == n]))
    assert best[1]["value"] < best[2]["value"] < best[32]["value"]


# Catches: seeds that depend on how many there are; best-of-n drawn from the comparison's own randomness.
def test_the_first_seed_is_the_same_alone(finished: Project, tmp_path: Path):
    alone = copy_of(finished, tmp_path, seeds=1, best_of=0)
    assert alone.run("evaluate") == 0
    evaluation = alone.latest("evaluation")
    first = [r for r in finished.latest("evaluation").rows("test") if r["seed"] == 0]
    found = evaluation.rows("test")
    for key in ("id", "prompt", "base_completion", "policy_completion"):
        assert [r[key] for r in found] == [r[key] for r in first]
    assert evaluation.splits == {"test": PROMPTS}
    assert evaluation.manifest.stats["best_of_n"] == {"reason": "off"}


# Catches: another side's completions, whole texts for their last sentences, cut ones read to their stump.
def test_diversity_is_that_of_the_rows(finished: Project):
    from pipeline.texts.diversity import diversity
    from pipeline.texts.patterns import frame_words

    evaluation = finished.latest("evaluation")
    rows, found = evaluation.rows("test"), evaluation.manifest.stats["diversity"]
    frame = frame_words(r["base_completion"] for r in rows)
    for side in ("base", "policy"):
        own = diversity(
            [r[f"{side}_completion"] for r in rows],
            [r["prompt"] for r in rows],
            [r[f"{side}_ended"] for r in rows],
            found["ngrams"]["at"],
            frame,
            found["patterns"]["at"],
        )
        assert found["closings"][side]["value"] == pytest.approx(own.closings.value)
        assert found["ngrams"][side]["value"] == pytest.approx(own.ngrams.value if own.ngrams else None)
        assert found["closing"][side]["share"]["value"] == pytest.approx(own.closing.share)
        assert found["patterns"][side]["value"] == pytest.approx(own.patterns.value)
        assert found["pattern"][side]["share"]["value"] == pytest.approx(own.pattern.share)
        assert found["similar_across"][side]["value"] == pytest.approx(own.similar_across, abs=1e-5)


def test_a_model_of_embeddings_is_asked(finished: Project, tmp_path: Path):
    # A decoder does as a stand-in: what is tested is the way from the setting to the figures.
    model = str(finished.latest("base").path)
    made = copy_of(finished, tmp_path, embedding_model=model, prompts=4, best_of=0)
    assert made.run("evaluate") == 0
    found = made.latest("evaluation").manifest.stats["diversity"]
    assert found["embedding_model"] == model
    assert 0 < found["embedding_within"]["base"]["value"] <= 1
    assert found["best_of_n"] is None


def test_at_temperature_0_there_is_one_completion(finished: Project, tmp_path: Path):
    greedy = copy_of(finished, tmp_path, temperature=0.0)
    assert greedy.run("evaluate") == 0
    stats = greedy.latest("evaluation").manifest.stats
    assert (stats["completions_per_prompt"], stats["entropy"]) == (1, None)
    assert "temperature 0" in stats["best_of_n"]["reason"]


# Catches: a judge's role that is the proxy's, scores of one judge under another's name.
def test_the_reward_model_as_judge_says_what_the_proxy_says(judged: tuple[Project, Version]):
    stats = judged[1].manifest.stats
    found = stats["judges"]["adapter"]
    assert found["kind"] == "scorer"
    assert found["win_rate"] == stats["win_rate"]["score"]
    assert found["length_controlled_win_rate"] == stats["length_controlled_win_rate"]["score"]
    assert found["score"]["difference"]["value"] == pytest.approx(stats["score"]["difference"]["value"], abs=1e-5)
    by_judge = [row["judge:adapter"]["value"] for row in stats["best_of_n"]["rows"]]
    assert by_judge == pytest.approx([row["score"]["value"] for row in stats["best_of_n"]["rows"]], abs=1e-5)


# Catches: the policy's figures of all prompts, or of others, beside best-of-n's on the first twelve.
def test_the_yardstick_compares_on_its_own_prompts(judged: tuple[Project, Version]):
    found = judged[1].manifest.stats["best_of_n"]
    rows = judged[1].rows("test")[: 12 * SEEDS]
    assert found["prompts"] == 12
    assert found["yardstick"]["score"]["policy"]["value"] == pytest.approx(
        np.mean([r["policy_score"] for r in rows])
    )
    assert found["yardstick"]["score"]["policy_kl_k1"] == pytest.approx(np.mean([r["policy_kl_k1"] for r in rows]))


def test_a_function_judges(judged: tuple[Project, Version]):
    rows = judged[1].rows("test")
    shorter = [len(r["policy_completion"]) - len(r["base_completion"]) for r in rows]
    found = judged[1].manifest.stats["judges"]["my_judges:brevity"]["win_rate"]
    assert found["wins"] == sum(s < 0 for s in shorter)
    assert found["losses"] == sum(s > 0 for s in shorter)


# Catches: base and policy swapped in one of the orders, more prompts than asked for, equal texts sent off.
def test_a_language_model_judges_in_both_orders(judged: tuple[Project, Version], double: Endpoint):
    found = judged[1].manifest.stats["judges"]["tiny"]
    rows = judged[1].rows("test")[: 15 * SEEDS]
    longer = [len(r["policy_completion"]) - len(r["base_completion"]) for r in rows]
    differ = sum(r["policy_completion"] != r["base_completion"] for r in rows)
    assert (found["kind"], found["pairs"], found["asked"]) == ("llm", 15 * SEEDS, differ)
    assert (found["win_rate"]["wins"], found["win_rate"]["losses"]) == (
        sum(x > 0 for x in longer),
        sum(x < 0 for x in longer),
    )
    # It looks at the texts alone, so it names either place equally often, and never contradicts itself.
    assert found["position_bias"]["value"] == 0.5
    assert found["disagreement"]["value"] == 0
    assert found["abstentions"] == {}
    asked = len({json.dumps(body) for body in double.bodies})
    assert asked == len(double.bodies) <= 2 * differ
    judgements = [r for r in judged[1].rows("test", config="judges") if r["judge"] == "tiny"]
    assert [r["outcome"] for r in judgements] == [(np.sign(x) + 1) / 2 for x in longer]


# Catches: equal texts sent off, which costs two requests and gets a coin's answer.
def test_a_judge_that_never_answers_is_said_to(
    finished: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with endpoint(lambda body, number: says("Well, it depends.")) as made_up:
        made = copy_of(
            finished, tmp_path, judges=[{"llm": "vague", "url": made_up.url}], prompts=4, seeds=1, best_of=0
        )
        assert made.run("evaluate") == 0
    assert "vague gave no answer that could be used (4 unparsable)." in capsys.readouterr().out
    assert made.latest("evaluation").manifest.stats["judges"]["vague"]["win_rate"]["value"] is None


# Seen failing with: judge_sentence without its trust, as it was: a win rate of one half like any other.
def test_a_judge_that_goes_by_the_place_is_not_passed_on_silently(
    finished: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with endpoint(lambda body, number: says("A")) as first:
        made = copy_of(finished, tmp_path, judges=[{"llm": "placed", "url": first.url}], seeds=1, best_of=0)
        assert made.run("evaluate") == 0
    assert "DO NOT TRUST placed: with the order swapped it contradicts itself on 1.00" in capsys.readouterr().out
    doctor = examine_version(made.store, made.latest("policy"))
    assert "judge-in-doubt" in {finding.rule for finding in doctor.findings}
    table = judge_table(results_of(made.latest("evaluation")))
    assert table is not None
    assert table.rows[0][-1].startswith("NOT TO BE TRUSTED: ")


def test_equal_texts_tie_without_being_asked(tmp_path: Path, double: Endpoint):
    from pipeline.evaluation.policy.win_rates import judge_trust
    from pipeline.stages.evaluate.judges import ask
    from pipeline.stages.evaluate.sampled_sides import EvaluationSamples
    from pipeline.workflow.judges import JudgeOptions

    before = len(double.bodies)
    run: Any = SimpleNamespace(store=Store(tmp_path))
    base: Any = SimpleNamespace(completions=["the same", "short"])
    policy: Any = SimpleNamespace(completions=["the same", "longer"])
    samples = EvaluationSamples(["p", "q"], base, policy, [])
    judged, asked = ask(run, JudgeOptions("tiny", double.url), samples, 1)
    assert judged.outcomes.tolist() == [0.5, 1.0]
    trust = judge_trust(judged, asked)
    assert (trust.pairs, trust.asked) == (2, 1)
    assert len(double.bodies) - before == 2
    # A judge with the same chat template would read its marks as turns of its own conversation.
    marked = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    ask(run, JudgeOptions("tiny", double.url), EvaluationSamples(["p", marked], base, policy, []), 1)
    question = double.bodies[-1]["messages"][1]["content"]
    assert "<|im_" not in question
    assert "system: Be brief.\n\nuser: Why?" in question


# Catches: answers lost with the evaluation that was ended, or paid for again by the next one.
@pytest.mark.thorough
def test_an_evaluation_that_was_ended_does_not_pay_twice(finished: Project, tmp_path: Path):
    made = copy_of(finished, tmp_path)

    def settings(url: str) -> None:
        made.write(evaluate={"judges": [{"llm": "tiny", "url": url, "concurrency": 1}], "best_of": 0})

    stops = endpoint(lambda body, n: longer_wins(body, n) if n < 10 else (404, b"gone"))
    with pytest.MonkeyPatch.context() as patch, stops as double:
        patch.setenv("NO_PROXY", "127.0.0.1")
        settings(double.url)
        with pytest.raises(ModelError, match="gone"):
            made.run("evaluate")
        assert not made.store.versions("mini-evaluation")[1:]
        double.reply = longer_wins
        before = len(double.bodies)
        made.run("evaluate")
        questions = len({json.dumps(body) for body in double.bodies})
        assert len(double.bodies) - before == questions - 10
        # Another evaluation that asks the same is free.
        made.run("evaluate", "evaluate.best_of=[2]")
        assert len(double.bodies) - before == questions - 10
    assert made.latest("evaluation").number == 3


# Catches: policies of other runs in the sweep, points in order of making, the same policy twice.
@pytest.mark.thorough
def test_policies_evaluated_alike_make_a_sweep(finished: Project, tmp_path: Path):
    made = copy_of(finished, tmp_path)
    made.write(ppo={"kl_coef": 0.5, "eval_strategy": "steps", "eval_steps": 1, "eval_prompts": 8})
    for stage in ("ppo", "evaluate"):
        assert made.run(stage, "evaluate.best_of=0") == 0
    stats = made.latest("evaluation").manifest.stats
    sweep = stats["overoptimisation"]["sweep"]
    assert {p["ref"]: p["kl_coef"] for p in sweep["points"]} == {
        "mini-policy@v000001": None,
        "mini-policy@v000002": 0.5,
    }
    assert [p["kl_k1"] for p in sweep["points"]] == sorted(p["kl_k1"] for p in sweep["points"])
    own = next(p for p in sweep["points"] if p["kl_coef"] == 0.5)
    assert own["gold"] == pytest.approx(stats["gold_score"]["policy"]["value"])
    assert "needs 3" in sweep["law"]["reason"]
    made.run("evaluate", "evaluate.best_of=[2]")
    again = made.latest("evaluation").manifest.stats["overoptimisation"]["sweep"]
    assert again["points"] == sweep["points"]
    # Other randomness: other completions, nothing to pair with.
    made.run("evaluate", "evaluate.seed=7", "evaluate.best_of=0")
    assert made.latest("evaluation").manifest.stats["overoptimisation"]["sweep"] is None


def test_the_best_checkpoint_is_named(finished: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    policy = finished.latest("policy").path
    made = copy_of(finished, tmp_path, best_of=0)
    rows = [
        {"eval/kl": 0.0, "eval/scores": 0.0, "eval/check": 0.1, "eval/check_error": 0.1},
        *({"update": u, "eval/kl": k, "eval/scores": s, "eval/check": c, "eval/check_error": 0.1}
          for u, k, s, c in ((1, 1.0, 1.0, 0.5), (2, 4.0, 2.0, 0.9), (3, 9.0, 3.0, -0.5), (4, 16.0, 4.0, -0.9))),
    ]  # fmt: skip
    with made.store.draft("mini-policy", kind="adapter", stage="ppo", config={"ppo": {}}) as draft:
        for file in policy.iterdir():
            if file.name not in ("manifest.json", "README.md", "metrics.jsonl"):
                shutil.copy(file, draft.path)
        (draft.path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        draft.stats["kept"] = 4
    made.write(evaluate={"best_of": 0, "inputs": {"policy": draft.version.ref}})
    assert made.run("evaluate") == 0
    said = capsys.readouterr().out
    assert "Best held-out checkpoint: update 2 (check 0.90, KL 4.0); published is update 4 (−0.90)" in said
    assert "Over-optimised: past update 2 (KL 4.0) gold fell while the proxy rose." in said
    stats = made.latest("evaluation").manifest.stats
    assert stats["best_checkpoint"]["is_kept"] is False
    assert stats["overoptimisation"]["training"]["turning_point"]["index"] == 2
    assert stats["overoptimisation"]["training"]["law"]["points"] == 4


# Seen failing with: the base, published under its policy's name as trained with PPO, in a run without findings.
def test_a_policy_of_which_no_update_was_kept(
    finished: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    said = "This is the starting policy: no update was kept."
    made = copy_of(finished, tmp_path, best_of=0)
    held_out = {"eval_strategy": "steps", "eval_steps": 1, "eval_prompts": 8, "keep_best": True}
    made.write(ppo={**held_out, "kl_budget": 1e-9}, evaluate={"best_of": 0})
    assert made.run("ppo") == 0
    policy = made.latest("policy")
    assert f"[ppo] {said} Run: python -m pipeline doctor {policy.ref}" in capsys.readouterr().out
    assert (policy.manifest.stats["kept"], policy.manifest.stats["notice"]) == (0, said)
    assert made.run("evaluate") == 0
    assert f"[evaluate] {said}" in capsys.readouterr().out
    assert headline(results_of(made.latest("evaluation")))[0] == "bad"
    assert (policy.path / "README.md").read_text().split("\n\n")[2].startswith(f"**{said}**")
    assert main(["doctor", policy.ref, "--root", str(made.store.root)]) == 1
    assert "SERIOUS  nothing-kept" in capsys.readouterr().out


# Catches: best-of-n chosen by the bare score where PPO was punished for not ending.
def test_best_of_n_chooses_as_ppo_does(finished: Project):
    from pipeline.modeling.roles import Role, load_policy
    from pipeline.stages.evaluate.sampled_sides import Sampler, sample_base
    from pipeline.tasks.reviews import Task

    model, tokenizer = load_policy(str(finished.latest("base").path), None)
    task = Task(corpus_size=400, completion_tokens=6)
    sampler = Sampler(tokenizer, task, longest, {"again": longest}, 1.0, 64)
    prompts = task.prompts("test", None, 0)[:5]
    by_prompt = sample_base(Role(model), sampler, prompts, [0, 1, 2, 3, 4], 40, 0, 2.5)
    samples = [sample for prompt in by_prompt for sample in prompt]
    cut = [s for s in samples if s.chosen_by != s.scores["score"]]
    assert 0 < len(cut) < len(samples)
    assert all(s.chosen_by == s.scores["score"] - 2.5 and s.scores["score"] == 6 for s in cut)
    assert all(s.scores["judge:again"] == s.scores["score"] for s in samples)
    # Each rank's share is what one rank has, whatever the share.
    assert sample_base(Role(model), sampler, prompts, [1, 3], 40, 0, 2.5) == [by_prompt[1], by_prompt[3]]
    scores = [[s.chosen_by for s in prompt] for prompt in by_prompt]
    assert best_of(scores, scores, [1]).mean() == pytest.approx(np.mean(scores))


# Mutations caught: the log-probabilities of another row, or of the base, taken for the side's own.
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_side_has_its_own_log_probabilities_and_the_base_s(finished: Project, temperature: float):
    import torch

    from pipeline.modeling.roles import Role, load_policy
    from pipeline.modeling.states import sequence_logprobs
    from pipeline.modeling.tokens import encode_prompts
    from pipeline.stages.evaluate.sampled_sides import Sampler, sample_side
    from pipeline.tasks.reviews import Task

    model, tokenizer = load_policy(str(finished.latest("base").path), None, finished.latest("policy").path)
    task = Task(corpus_size=400, completion_tokens=6)
    prompts = task.prompts("test", None, 0)[:5]
    texts: list[list[int]] = []

    def kept(samples: Any) -> Any:
        texts[:] = samples.completion_ids
        return longest(samples)

    sampler = Sampler(tokenizer, task, kept, {}, temperature, 4)
    rows = sample_side(Role(model, "policy"), Role(model), sampler, prompts, [0, 1, 2, 3, 4], 1, 0)
    ids = encode_prompts(tokenizer, prompts)
    for adapter, of in (("policy", "logprobs"), (None, "ref_logprobs")):
        expected = sequence_logprobs(model, ids, texts, adapter, temperature or 1.0)
        for row, nats in zip(rows, expected, strict=True):
            torch.testing.assert_close(torch.tensor(getattr(row, of)), torch.tensor(nats), atol=1e-4, rtol=1e-4)
    assert any(a.logprobs != a.ref_logprobs for a in rows)


def test_bf16_is_heeded_and_recorded(
    finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    import torch

    from pipeline.modeling import precision
    from pipeline.stages.evaluate import evaluate

    dtypes: dict[bool, set[torch.dtype]] = {}
    load = evaluate.load_sides

    def kept(*args: Any) -> Any:
        base, policy, tokenizer = load(*args)
        for lora in (False, True):
            dtypes[lora] = {p.dtype for n, p in policy.model.named_parameters() if ("lora_" in n) == lora}
        return base, policy, tokenizer

    monkeypatch.setattr(evaluate, "load_sides", kept)
    monkeypatch.setattr(precision, "product_seconds", lambda _: {torch.float32: 1.0, torch.bfloat16: 1.9})
    made = copy_of(finished, tmp_path, best_of=0, bf16=True)
    assert made.run("evaluate") == 0
    assert "[evaluate] bf16 takes 1.9 times as long as fp32" in capsys.readouterr().out
    # Mutation caught: LoRA in bf16 as well, which rounds its steps away.
    assert dtypes == {False: {torch.bfloat16}, True: {torch.float32}}
    half, full = (results_of(p.latest("evaluation")) for p in (made, finished))
    assert (half.precision, full.precision) == ("bf16", "fp32")
    assert half.kl_k1.value == pytest.approx(full.kl_k1.value, abs=0.1)


def longest(samples: Any) -> Any:
    import torch

    return torch.tensor([float(len(ids)) for ids in samples.completion_ids])


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("evaluate.seeds=0", "seeds = 0 should be 1 or more"),
        ("evaluate.best_of=1", "best_of = 1 should be 2 or more"),
        ("evaluate.best_of_prompts=1", "best_of_prompts = 1 should be 2 or more"),
        ("evaluate.temperature=-1", "temperature = -1 should be 0 or more"),
        ("evaluate.judges=[{llm: m}]", "url is missing"),
        ("evaluate.judges=[{llm: m, url: ftp://x}]", "not an address"),
        ("evaluate.judges=[{llm: m, url: 'http://x', mood: 1}]", "evaluate.judges[0].mood"),
        ("evaluate.judges=[{function: 'a:b', weight: 2}]", "a judge has none"),
        ("evaluate.judges=['a:b', 'a:b']", '"a:b" is there twice'),
        ("evaluate.judges=[null]", "is not a judge"),
        ("evaluate.judges=['no_such_module:f']", "no_such_module"),
    ],
)
def test_bad_settings_are_named(finished: Project, tmp_path: Path, setting: str, said: str):
    made = copy_of(finished, tmp_path)
    with pytest.raises(ConfigError) as caught:
        made.run("evaluate", setting)
    assert said in str(caught.value)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_ranks_are_one(finished: Project, tmp_path: Path):
    """Slow: real processes. An odd number of prompts, which do not divide among the ranks."""
    together = copy_of(finished, tmp_path / "a", prompts=7, best_of=[2, 4], best_of_prompts=5, judges=["adapter"])
    alone = copy_of(finished, tmp_path / "b", prompts=7, best_of=[2, 4], best_of_prompts=5, judges=["adapter"])
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "2")
    env = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    for made, launch in ((together, torchrun), (alone, ())):
        command = [sys.executable, *launch, "-m", "pipeline.evaluate", "--config", str(made.config)]
        subprocess.run(command, check=True, env=env)
    ours, theirs = (Store(made.root / "data").resolve("mini-evaluation") for made in (together, alone))
    assert ours.id == theirs.id
    for config in ("default", "best_of_n", "judges"):
        for a, b in zip(ours.rows("test", config), theirs.rows("test", config), strict=True):
            assert a == pytest.approx(b, abs=1e-5)
    for key in ("best_of_n", "judges", "kl_k1", "win_rate"):
        assert numbers(ours.manifest.stats[key]) == pytest.approx(numbers(theirs.manifest.stats[key]), abs=1e-4)


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [x for inner in value.values() for x in numbers(inner)]
    if isinstance(value, list):
        return [x for inner in value for x in numbers(inner)]
    return [float(value)] if isinstance(value, int | float) and math.isfinite(value) else []


# Catches: the policy's own KL given to best-of-n, the difference at the largest n where there is one at equal KL.
def test_what_is_said_by_hand():
    from pipeline.stages.evaluate.sentences import further_findings
    from tests.unit.reporting.given import entry, evaluation, newer_json

    stats = newer_json()
    lines = further_findings(evaluation(stats))
    assert lines[1:] == [
        "a-language-model prefers the policy on 0.70 [0.60, 0.80] of prompts; with the order swapped it "
        "contradicts itself on 0.20 [0.10, 0.30] of 200 pairs.",
        "Against best-of-16 of the base, at 2.0 nats to the policy's 4.0: gold score +0.10 [−0.05, 0.25].",
        "Over-optimised: past update 8 (KL 4.0) gold fell while the proxy rose.",
        "Best held-out checkpoint: update 8 (check 0.70, KL 4.0); published is update 16 (0.30); ppo.keep_best "
        "publishes the best.",
    ]
    line = stats["best_of_n"]["yardstick"]["gold_score"]
    line |= {"within": True, "n_needed": 9, "difference": entry(0.03, -0.05, 0.09)}
    said = "Against best-of-9 of the base, at the policy's KL 4.0: gold score +0.03 [−0.05, 0.09]."
    assert said in further_findings(evaluation(stats))
