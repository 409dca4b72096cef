"""A policy, a reward adapter and a Llama-shaped base, opened by transformers 4.57 and peft 0.17."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.modeling.loading import save_model
from pipeline.modeling.scratch import train_tokenizer
from tests.helpers.earlier_packages import install_earlier
from tests.stages.conftest import Project

READ = """
import json, sys
import torch, transformers
from peft import AutoPeftModelForCausalLM, AutoPeftModelForSequenceClassification
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

policy, reward, base, llama, text = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(policy)
read = tokenizer(text, return_tensors="pt")  # with token_type_ids GPT-2 gives other logits
ids = read.input_ids
models = {
    "policy": AutoPeftModelForCausalLM.from_pretrained(policy),
    "policy by transformers": AutoModelForCausalLM.from_pretrained(policy),
    "reward": AutoPeftModelForSequenceClassification.from_pretrained(reward, num_labels=1),
    "base": AutoModelForCausalLM.from_pretrained(base),
}
result = {"version": transformers.__version__, "ids": ids.tolist()}
with torch.no_grad():
    for name, model in models.items():
        model.config.pad_token_id = tokenizer.pad_token_id
        result[name] = model.eval()(**read).logits.tolist()
    ids = AutoTokenizer.from_pretrained(llama)(text, return_tensors="pt").input_ids
    result["llama"] = AutoModelForCausalLM.from_pretrained(llama).eval()(ids).logits.tolist()
print(json.dumps(result))
"""


@pytest.mark.slow
def test_earlier_versions_give_the_same_logits(finished: Project, tmp_path: Path):
    packages = install_earlier(tmp_path / "packages")
    llama = llama_base(tmp_path / "llama")
    paths = [str(finished.latest(role).path) for role in ("policy", "reward", "base")]
    arguments = [*paths, str(llama), "a good film , and a bad one ."]
    ours, theirs = (run(arguments, path) for path in (None, packages))
    assert theirs.pop("version") == "4.57.6" != ours.pop("version")
    assert theirs.pop("ids") == ours.pop("ids")
    for name, logits in ours.items():
        torch.testing.assert_close(
            torch.tensor(theirs[name]), torch.tensor(logits), atol=1e-5, rtol=1e-5, msg=name
        )


def run(arguments: list[str], packages: Path | None) -> dict[str, Any]:
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(packages or "")}
    command = [sys.executable, "-c", READ, *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def llama_base(directory: Path) -> Path:
    """A base whose rotary positions have another base than transformers 4 assumes."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = train_tokenizer(["a good film , and a bad one ."], 300)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        rope_parameters={"rope_type": "default", "rope_theta": 100.0},
    )
    save_model(LlamaForCausalLM(config), tokenizer, directory)
    return directory
