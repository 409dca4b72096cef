"""A GGUF becomes a model that trains and saves like any other, with the tokens that llama.cpp gives."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.base.errors import ModelError
from pipeline.modeling.loading import load_causal_lm, load_tokenizer, save_model
from pipeline.modeling.other_engines.gguf_models import load_gguf
from tests.conftest import with_lora
from tests.helpers.gguf_double import TEMPLATE, VOCABULARY, write_gguf
from tests.helpers.refusals import refusal

IDS = torch.tensor([[1, 40, 50, 60, 70]])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tiny.gguf"


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(IDS).logits


def test_the_weights_are_those_of_the_file(path: Path):
    tensors = write_gguf(path)
    model, _, facts = load_gguf(path, str(path))
    assert facts == {"name": "Tiny", "architecture": "llama", "license": "apache-2.0", "weights": "Q8_0"}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    embedding: Any = model.get_input_embeddings().weight
    assert np.array_equal(embedding.detach().numpy(), tensors["token_embd.weight"])
    down = model.state_dict()["model.layers.1.mlp.down_proj.weight"].numpy()
    assert np.allclose(down, tensors["blk.1.ffn_down.weight"], atol=0.01)  # 8 bits of values up to .9
    assert not np.array_equal(down, tensors["blk.1.ffn_down.weight"])
    assert model.config.rope_parameters["rope_theta"] == 100000.0
    assert model.get_output_embeddings().weight is embedding


def test_it_is_saved_and_loaded_like_any_base(path: Path, tmp_path: Path):
    write_gguf(path)
    model, tokenizer, _ = load_gguf(path, str(path))
    save_model(model, tokenizer, tmp_path / "saved")
    again, tokens = load_causal_lm(str(tmp_path / "saved")), load_tokenizer(str(tmp_path / "saved"))
    assert torch.equal(logits(again), logits(model))
    assert again.get_output_embeddings().weight is again.get_input_embeddings().weight
    assert tokens.chat_template == TEMPLATE
    assert tokens("12 the")["input_ids"] == tokenizer("12 the")["input_ids"]
    assert (tokens.bos_token_id, tokens.eos_token_id, tokens.pad_token_id) == (1, 2, 2)


def test_lora_trains_it(path: Path):  # without dequantize: "do not support training"
    write_gguf(path)
    model, _, _ = load_gguf(path, str(path))
    peft = with_lora(model)
    peft.train()
    before = logits(peft)
    optimizer = torch.optim.SGD([p for p in peft.parameters() if p.requires_grad], lr=0.1)
    peft(IDS, labels=IDS).loss.backward()
    optimizer.step()
    assert not torch.equal(logits(peft), before)


@pytest.mark.parametrize(
    ("pre", "expected"),
    [("smollm", ["1", "2", "Ġ", "the"]), ("gpt-2", ["12", "Ġ", "the"]), ("default", ["12", "Ġ", "the"])],
)
def test_digits_are_split_as_the_vocabulary_was_learnt(path: Path, pre: str, expected: list[str]):
    write_gguf(path, pre=pre)
    _, tokenizer, facts = load_gguf(path, str(path))
    assert tokenizer.convert_ids_to_tokens(tokenizer("12 the")["input_ids"]) == expected
    assert "notice" not in facts
    assert len(tokenizer) == len(VOCABULARY)


def test_a_pre_tokenizer_that_nobody_knows_is_told(path: Path):
    write_gguf(path, pre="martian")
    assert '"martian" is not known' in load_gguf(path, str(path))[2]["notice"]


def test_a_split_that_transformers_knows_stays(path: Path):
    write_gguf(path, pre="llama-bpe")
    _, tokenizer, facts = load_gguf(path, str(path))
    assert tokenizer.convert_ids_to_tokens(tokenizer("12 the")["input_ids"])[0] == "12"
    assert "notice" not in facts


def test_an_architecture_that_transformers_cannot_load(path: Path):
    write_gguf(path, architecture="rwkv6")
    line = refusal(ModelError, load_gguf, path, str(path))
    assert "could not load this GGUF of architecture rwkv6" in line


def test_a_missing_weight_is_not_drawn_at_random(path: Path):
    write_gguf(path, without="blk.1.ffn_up.weight")
    assert "lacks 1 weights" in refusal(ModelError, load_gguf, path, str(path))


def test_a_truncated_file(path: Path):
    write_gguf(path)
    path.write_bytes(path.read_bytes()[:4000])
    assert "is damaged" in refusal(ModelError, load_gguf, path, str(path))


def test_without_the_package_gguf(path: Path, monkeypatch: pytest.MonkeyPatch):
    write_gguf(path)
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert "pip install 'rlhf-pipeline[gguf]'" in refusal(ModelError, load_gguf, path, str(path))
