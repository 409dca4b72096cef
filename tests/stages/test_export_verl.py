"""A run handed to verl: the prompts, models and settings that it needs, or what verl would train instead."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from pipeline.__main__ import main
from pipeline.base.errors import ConfigError, StoreError
from pipeline.modeling.loading import load_causal_lm, load_tokenizer
from pipeline.modeling.tokens import encode_prompts, eos_id
from pipeline.scoring.reward_adapter import RewardRole, scored_rows
from pipeline.stages.handoff.verl_config import Handed, updates, verl_config
from pipeline.stages.handoff.verl_keys import OFF, TABLE, VERL, check, refusals
from pipeline.store.store import Store
from pipeline.workflow.key_table import keys_of
from pipeline.workflow.sections.ppo import PPOKeys
from tests.helpers.read_merged_here import read_merged_here
from tests.stages.conftest import Project


def keys(**more: Any) -> PPOKeys:
    args = PPOKeys(lr_scheduler_type="constant", response_length=12)
    for name, value in more.items():
        setattr(args, name, value)
    return args


@pytest.fixture(scope="module")
def handed(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Path]:
    """The finished run and the directory that was made of it."""
    root = tmp_path_factory.mktemp("verl")
    shutil.copytree(finished.root / "data", root / "data")
    main(["data", "relocate", "--root", str(root / "data")])
    with pytest.MonkeyPatch.context() as patched:
        read_merged_here(patched)
        argv = ["export-verl", "mini", "--root", str(root / "data"), "--out", str(root / "out")]
        with pytest.raises(ConfigError, match=r"ppo.lr_scheduler_type = 'linear'.*--accept lr_scheduler_type"):
            main(argv)
        assert not (root / "out").exists()
        assert main([*argv, "--accept", "lr_scheduler_type"]) == 0
    return Store(root / "data"), root / "out"


@pytest.mark.thorough
class TestFiles:
    """What is written of a finished run."""

    def test_prompts_have_verls_five_fields_and_our_tokens(self, handed: tuple[Store, Path]) -> None:
        store, out = handed
        table = pq.read_table(out / "prompts" / "train.parquet").to_pylist()
        assert list(table[0]) == ["data_source", "prompt", "ability", "reward_model", "extra_info"]
        ours = [row["prompt"] for row in store.resolve("mini-prompts").iter_rows("train")]
        assert [row["prompt"] for row in table] == [[{"role": "user", "content": text}] for text in ours]
        theirs = AutoTokenizer.from_pretrained(out / "base")
        base = load_tokenizer(str(store.resolve("mini-base").path))
        for row, ids in zip(table[:20], encode_prompts(base, ours[:20]), strict=True):
            made = theirs.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=True)
            assert (made if isinstance(made, list) else made["input_ids"]) == ids
        assert pq.read_table(out / "prompts" / "held_out.parquet").num_rows > 0

    def test_the_policy_is_the_adapter_on_the_base(self, handed: tuple[Store, Path]) -> None:
        store, out = handed
        ids = torch.tensor([[5, 9, 30, 7]])
        source = load_causal_lm(str(store.resolve("mini-base").path))
        ours = PeftModel.from_pretrained(source, str(store.resolve("mini-policy").path))
        theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(out / "base"), str(out / "policy"))
        with torch.no_grad():
            torch.testing.assert_close(theirs(ids).logits, ours(ids).logits)

    # Catches: the raw score instead of the one that PPO maximised; the head's other label.
    def test_the_reward_model_gives_ppos_scores_but_for_one_number(self, handed: tuple[Store, Path]) -> None:
        store, out = handed
        base = str(store.resolve("mini-base").path)
        tokenizer, directory = load_tokenizer(base), store.resolve("mini-reward").path
        prompts, completions = encode_prompts(tokenizer, ["The sound is"] * 2), [[5, 6, 7], [9]]
        role = RewardRole.load(
            PeftModel.from_pretrained(load_causal_lm(base), str(directory)), directory, eos_id(tokenizer)
        )
        expected = role.score(prompts, completions)
        rows = scored_rows(prompts, completions, eos_id(tokenizer), role.scoring.score_position)
        model = AutoModelForSequenceClassification.from_pretrained(out / "reward")
        with torch.no_grad():
            raw = torch.stack([model(torch.tensor([row])).logits[0, 0] for row in rows])
        offset = json.loads((out / "handoff.json").read_text())["reward"]["offset"]
        torch.testing.assert_close(raw - offset, expected, atol=1e-4, rtol=1e-4)

    def test_the_configuration_is_of_this_run(self, handed: tuple[Store, Path]) -> None:
        _, out = handed
        config = yaml.safe_load((out / "verl.yaml").read_text())
        assert config["handoff"] == str(out)
        assert config["data"]["train_batch_size"] == 16
        assert config["trainer"]["total_training_steps"] == 2
        assert config["actor_rollout_ref"]["actor"]["optim"]["lr"] == 1e-2
        assert config["critic"]["model"]["lora_rank"] == 0
        record = json.loads((out / "handoff.json").read_text())
        assert record["given_up"] == {"lr_scheduler_type": {"value": "linear", "instead": "it is constant"}}
        assert "| `gamma` | `algorithm.gamma` | same |  |" in (out / "README.md").read_text()
        with pytest.raises(StoreError, match="is there already"):
            main(
                [
                    "export-verl",
                    "mini",
                    "--root",
                    str(out.parent / "data"),
                    "--out",
                    str(out),
                    "--accept",
                    "lr_scheduler_type",
                ]
            )


READER = Path(__file__).parents[1] / "helpers" / "read_by_verl.py"
ELSEWHERE = os.environ.get("RLHF_VERL_PYTHON", "")


# verl needs transformers < 5.11, so it is read in an environment of its own, on a CPU and without our package.
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(
    not ELSEWHERE,
    reason=f"RLHF_VERL_PYTHON names no python with verl: python -m venv DIR && DIR/bin/pip install verl=={VERL}",
)
def test_verl_reads_it(handed: tuple[Store, Path]) -> None:
    store, out = handed
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [ELSEWHERE, str(READER), str(out)], capture_output=True, text=True, env=env, cwd=out, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps({**found, "data": {**found["data"], "ids": found["data"]["ids"][:2]}}, indent=1))
    prompts = [row["prompt"] for row in store.resolve("mini-prompts").iter_rows("train")]
    tokenizer = load_tokenizer(str(store.resolve("mini-base").path))
    assert found["data"]["rows"] == found["data"]["kept"] == len(prompts)
    # The ids that its agent loop samples from are the ids that our PPO samples from.
    assert found["data"]["ids"] == encode_prompts(tokenizer, prompts[:20])
    assert {"data_source", "reward_model", "raw_prompt", "extra_info", "index"} <= set(found["data"]["fields"])
    assert found["config"]["reference"]
    assert found["config"]["critic"]
    assert found["config"]["clip"] == [0.2, 0.2, 0.2, OFF]
    assert found["config"]["eps"] == 1e-5
    assert found["config"]["mixed"]["param_dtype"] == "bf16"
    assert found["config"]["kl"] == [True, 0.05]
    assert found["models"]["rank"] == 8
    # The day this works the critic can have LoRA, as ours has.
    assert "prepare_inputs_for_generation" in found["models"]["critic_lora"]
    ids = torch.tensor([[5, 9, 30, 7]])
    base = load_causal_lm(str(store.resolve("mini-base").path))
    with torch.no_grad():
        logits = PeftModel.from_pretrained(base, str(store.resolve("mini-policy").path))(ids).logits[0, -1, :8]
    torch.testing.assert_close(torch.tensor(found["models"]["logits"]), logits, atol=1e-4, rtol=1e-4)


# Catches: a new key that nobody has compared with verl's.
def test_every_key_has_a_verdict() -> None:
    named = [key for entry in TABLE for key in entry.keys]
    assert len(named) == len(set(named))
    assert sorted(named) == sorted(key.name for key in keys_of("ppo") if key.idle is None)


def test_a_plain_run_is_refused_nothing() -> None:
    assert list(refusals(keys(), started=False)) == []
    assert list(refusals(keys(reward="adapter", value_model="model"), started=False)) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lr_scheduler_type", "linear"),
        ("missing_eos_penalty", 0.5),
        ("scale_score", "ref"),
        ("clip_score", 5.0),
        ("whiten_rewards", True),
        ("kl_target", 6.0),
        ("target_kl", 0.1),
        ("kl_budget", 8.0),
        ("keep_best", True),
    ],
)
def test_what_verl_lacks_is_refused_unless_it_is_given_up_by_name(key: str, value: Any) -> None:
    args = keys(**{key: value})
    with pytest.raises(ConfigError, match=rf"ppo\.{key} = .*--accept {key}"):
        check(args, False, [], "x@v1")
    assert [r.key for r in check(args, False, [key], "x@v1")] == [key]
    with pytest.raises(ConfigError, match="nothing of it is refused"):
        check(args, False, [key, "gamma"], "x@v1")


@pytest.mark.parametrize(
    ("key", "value", "started"),
    [
        ("reward", ["adapter", {"function": "m:f", "weight": 0.1}], False),
        ("reward", "my_rewards:length", False),
        ("stop_token_id", 13, False),
        ("vf_coef", 0.0, False),
        ("reference", "start", True),
    ],
)
def test_what_cannot_be_given_up(key: str, value: Any, started: bool) -> None:
    with pytest.raises(ConfigError, match="verl cannot train this run"):
        check(keys(**{key: value}), started, [key], "x@v1")


HANDED = Handed("x", "/d", 100, 40, 12, (8, 16, ["c_attn"]))


def test_sizes_are_in_prompts() -> None:
    args = keys(
        per_device_train_batch_size=8, gradient_accumulation_steps=4, num_mini_batches=2, num_generations=4
    )
    args.total_episodes = 100
    config = verl_config(args, HANDED)
    assert updates(args, 100) == 4  # 100 episodes in batches of 32, the last one short
    assert config["data"]["train_batch_size"] == 8
    actor = config["actor_rollout_ref"]["actor"]
    assert (actor["ppo_mini_batch_size"], actor["ppo_micro_batch_size_per_gpu"]) == (4, 8)
    assert (config["actor_rollout_ref"]["rollout"]["n"], config["trainer"]["total_training_steps"]) == (4, 4)
    args.num_generations = 32
    with pytest.raises(ConfigError, match="no whole number of prompts"):
        verl_config(args, HANDED)


# Each of these is read by verl from another key than its name suggests, or has another default there.
def test_traps_of_verls_defaults_are_written_out() -> None:
    config = verl_config(keys(cliprange=0.3, max_grad_norm=0.0, bf16=False, value_warmup_updates=2), HANDED)
    actor, critic = config["actor_rollout_ref"]["actor"], config["critic"]
    assert {actor[k] for k in ("clip_ratio", "clip_ratio_low", "clip_ratio_high")} == {0.3}
    assert actor["clip_ratio_c"] == actor["grad_clip"] == OFF
    assert actor["optim"]["override_optimizer_config"] == {"eps": 1e-5}
    assert actor["optim"]["weight_decay"] == 0.0
    assert actor["fsdp_config"]["mixed_precision"]["param_dtype"] == "fp32"
    assert actor["shuffle"]
    assert critic["shuffle"]
    assert config["actor_rollout_ref"]["model"]["lora_rank"] == 8
    assert config["trainer"]["critic_warmup"] == 3
    assert config["algorithm"]["use_kl_in_reward"]
    assert (critic["model"]["lora_rank"], critic["optim"]["lr"]) == (0, 1e-5)
    whole = verl_config(keys(value_model="model", value_learning_rate=3e-6), HANDED)["critic"]
    assert whole["optim"]["lr"] == 3e-6
    warm = verl_config(keys(warmup_steps=0.1), HANDED)
    assert warm["actor_rollout_ref"]["actor"]["optim"]["lr_warmup_steps_ratio"] == 0.1
