"""A base or an adapter that is broken or incomplete is one clear line, never used as if it were whole."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.base.errors import ModelError
from pipeline.modeling.lora import lora_config, save_adapter
from pipeline.modeling.roles import load_policy
from pipeline.scoring.reward_adapter import Scoring
from tests.conftest import tiny_gpt2, tiny_tokenizer
from tests.helpers.refusals import refusal, well_or_one_line


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, and a policy's adapter on it."""
    from peft import get_peft_model

    root = tmp_path_factory.mktemp("whole")
    model = tiny_gpt2()
    model.save_pretrained(root / "base")
    tiny_tokenizer().save_pretrained(root / "base")
    config = lora_config(model, r=2, alpha=4, dropout=0.0, target_modules=None, task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config, adapter_name="policy")
    save_adapter(
        adapted, "policy", root / "policy", base=str(root / "base"), revision=None, tokenizer=tiny_tokenizer()
    )
    return root


@pytest.fixture
def models(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    return tmp_path


def load(models: Path) -> Any:
    return load_policy(str(models / "base"), None, models / "policy")


def refused(models: Path) -> str:
    return refusal(ModelError, load, models)


def without(path: Path, part: str) -> None:
    state = load_file(path)
    save_file({k: v for k, v in state.items() if part not in k}, path, metadata={"format": "pt"})


def spoiled(path: Path, part: str) -> None:
    state = load_file(path)
    next(v for k, v in state.items() if part in k).view(-1)[0] = float("nan")
    save_file(state, path, metadata={"format": "pt"})


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def changed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


BASE, ADAPTER = "base/model.safetensors", "policy/adapter_model.safetensors"


def no_tokenizer(models: Path) -> None:
    for path in (models / "base").glob("*token*"):
        path.unlink()


def larger_tokenizer(models: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([f"<new{i}>" for i in range(tiny_gpt2().config.vocab_size)])
    tokenizer.save_pretrained(models / "base")


# Seen failing with: random layers, an invented tokenizer and an adapter of which half was at its start used as if
# they were whole; IndexError, SafetensorError, KeyError, TypeError and their tracebacks.
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda m: without(m / BASE, "h.0.mlp"), "lacks 4 weights of the model that its config.json describes"),
        (lambda m: without(m / BASE, "ln_f.bias"), "lacks 1 weights"),
        (lambda m: spoiled(m / BASE, "h.0.mlp"), "hold NaN or infinity"),
        (lambda m: cut(m / BASE), "could not be loaded"),
        (lambda m: (m / BASE).unlink(), "could not be loaded"),
        (lambda m: (m / BASE).write_bytes(b""), "could not be loaded"),
        (lambda m: changed(m / "base/config.json", n_layer=9), "lacks"),
        (lambda m: changed(m / "base/config.json", n_embd=12), "could not be loaded"),
        (lambda m: changed(m / "base/config.json", n_layer="two"), "could not be loaded|no model config"),
        (lambda m: cut(m / "base/config.json"), "no model config could be loaded"),
        (lambda m: (m / "base/config.json").write_text("[1]"), "no model config could be loaded"),
        (lambda m: (m / "base/config.json").unlink(), "no model config could be loaded"),
        (no_tokenizer, "holds no tokenizer|no tokenizer could be loaded"),
        (lambda m: cut(m / "base/tokenizer.json"), "no tokenizer could be loaded"),
        (larger_tokenizer, "the model an embedding of"),
        (lambda m: cut(m / ADAPTER), "adapter_model.safetensors is missing or damaged"),
        (lambda m: (m / ADAPTER).unlink(), "adapter_model.safetensors is missing or damaged"),
        (lambda m: without(m / ADAPTER, "h.0.mlp"), "weights that its adapter_config.json asks for"),
        (lambda m: spoiled(m / ADAPTER, "lora_B"), "hold NaN or infinity"),
        (lambda m: cut(m / "policy/adapter_config.json"), "adapter_config.json is missing or damaged"),
        (lambda m: changed(m / "policy/adapter_config.json", target_modules=["q_proj"]), "does not fit this base"),
        (lambda m: changed(m / "policy/adapter_config.json", r=3), "do not fit this base"),
        (lambda m: changed(m / "policy/adapter_config.json", r=-1), "does not fit this base|damaged"),
    ],
    ids=range(23),
)  # fmt: skip
def test_a_broken_model_is_one_line(damage: Callable[[Path], None], said: str, models: Path):
    damage(models)
    line = refused(models)
    assert any(part in line for part in said.split("|")), line


def test_a_whole_one_is_loaded(models: Path):
    model, tokenizer = load(models)
    assert len(tokenizer) <= model.get_input_embeddings().weight.shape[0]
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())


def flip(content: bytes, draw: random.Random) -> bytes:
    data = bytearray(content)
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(data)


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "emptied": lambda c, d: b"",
    "cut": lambda c, d: c[: d.randrange(len(c))],
    "flipped": flip,
    "garbage": lambda c, d: d.randbytes(300),
    "null": lambda c, d: b"null",
    "list": lambda c, d: b'[{"a": 1}]',
    "other": lambda c, d: b'{"a": 1}',
}


FILES = (
    "base/config.json", BASE, "base/tokenizer.json", "base/tokenizer_config.json", "base/generation_config.json",
    "policy/adapter_config.json", ADAPTER,
)  # fmt: skip


# Whatever is done to a file, the models are loaded or a line says why not: no other exception.
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_generated_damage(name: str, damage: str, models: Path):
    draw = random.Random(f"{name} {damage}")
    content = (models / name).read_bytes()
    for _ in range(2):
        (models / name).write_bytes(DAMAGES[damage](content, draw))
        with well_or_one_line(ModelError):
            load(models)


@pytest.mark.parametrize(
    "change",
    [{"score_std": 0}, {"score_std": "x"}, {"score_mean": float("nan")}, {"score_position": "first"}, {"more": 1}],
)
def test_a_broken_scoring(change: dict[str, Any], tmp_path: Path):
    good = {"score_position": "eos", "score_mean": 0.0, "score_std": 1.0, "reference_samples": 4}
    (tmp_path / "scoring.json").write_text(json.dumps(good))
    Scoring.load(tmp_path)
    (tmp_path / "scoring.json").write_text(json.dumps({**good, **change}))
    with pytest.raises(ModelError, match="not a reward adapter with its scoring"):
        Scoring.load(tmp_path)
