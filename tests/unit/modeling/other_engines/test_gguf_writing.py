"""GGUF files of GPT-2 and Llama: their layout as the package gguf reads it, and transformers' logits of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from gguf import GGUFReader
from tokenizers import pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from pipeline.base.errors import ModelError
from pipeline.modeling.loading import save_model
from pipeline.modeling.other_engines import gguf_writing
from pipeline.modeling.other_engines.gguf_writing import write_gguf
from pipeline.modeling.scratch import train_tokenizer

TEXTS = ["a good film , and a bad one ."]


def gpt2(**changes: Any) -> PreTrainedModel:
    shape: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 48, "n_inner": 96}
    return GPT2LMHeadModel(GPT2Config(vocab_size=310, **{**shape, **changes}))


def llama(**changes: Any) -> PreTrainedModel:
    """Fewer keys than queries, heads wider than the model divided by their number, and a head of its own."""
    shape: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 64,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100.0},
    }
    return LlamaForCausalLM(LlamaConfig(vocab_size=310, **{**shape, **changes}))


def saved(model: PreTrainedModel, directory: Path, splitter: Any = None, template: str | None = None) -> Path:
    torch.manual_seed(0)
    for weight in model.parameters():  # as wide as those of a trained model, vectors too
        torch.nn.init.normal_(weight, std=0.3)
    tokenizer: Any = train_tokenizer(TEXTS, 300)
    tokenizer.chat_template = template
    if splitter is not None:
        tokenizer.backend_tokenizer.pre_tokenizer = splitter
    save_model(model, tokenizer, directory)
    return directory


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    reader = GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    return fields, {t.name: torch.from_numpy(t.data.copy()) for t in reader.tensors}


def test_gpt2(tmp_path: Path):
    # Fails without the transposition of Conv1D's weights: "its logits are .* apart".
    model = gpt2()
    written = write_gguf(saved(model, tmp_path / "model"), tmp_path / "m.gguf", "mine", "mit")
    assert (written.architecture, written.pre, written.dtype) == ("gpt2", "gpt-2", "float32")
    assert written.difference < 1e-5
    fields, tensors = read(tmp_path / "m.gguf")
    assert fields["general.name"] == "mine"
    assert fields["general.license"] == "mit"
    assert fields["gpt2.context_length"] == 48
    assert fields["gpt2.feed_forward_length"] == 96
    layer = cast("Any", model).transformer.h[1]
    assert torch.equal(tensors["blk.1.attn_output.weight"], layer.attn.c_proj.weight.T)
    assert torch.equal(tensors["blk.1.ffn_down.bias"], layer.mlp.c_proj.bias)
    assert "output.weight" not in tensors  # tied
    tokens, kinds = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    assert len(tokens) == len(kinds) == 310
    assert (tokens[0], kinds[0], kinds[2]) == ("<|endoftext|>", 3, 1)  # control, normal
    assert (tokens[309], kinds[309]) == ("[PAD309]", 5)  # the model has rows that the tokenizer does not use
    assert fields["tokenizer.ggml.pre"] == "gpt-2"
    assert fields["tokenizer.ggml.eos_token_id"] == 0
    assert fields["tokenizer.ggml.add_bos_token"] is False


def test_llama(tmp_path: Path):
    # Fails without the order of rows that llama.cpp rotates: "its logits are .* apart".
    digits = pre_tokenizers.Digits(individual_digits=True)
    splitter = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    directory = saved(llama(), tmp_path / "model", splitter, "{{ messages }}")
    written = write_gguf(directory, tmp_path / "m.gguf", "mine", None)
    assert (written.architecture, written.pre) == ("llama", "smollm")
    fields, tensors = read(tmp_path / "m.gguf")
    assert "general.license" not in fields
    assert fields["tokenizer.chat_template"] == "{{ messages }}"
    assert fields["llama.rope.freq_base"] == 100.0
    assert fields["llama.rope.dimension_count"] == fields["llama.attention.key_length"] == 16
    assert fields["llama.attention.head_count_kv"] == 2
    assert tensors["output.weight"].shape == (310, 32)
    write_gguf(directory, tmp_path / "again.gguf", "mine", None)
    assert (tmp_path / "again.gguf").read_bytes() == (tmp_path / "m.gguf").read_bytes()


def test_matrices_keep_the_models_dtype(tmp_path: Path):
    directory = saved(llama().bfloat16(), tmp_path / "model")
    assert write_gguf(directory, tmp_path / "m.gguf", "mine", None).dtype == "bfloat16"
    kinds = {t.name: t.tensor_type.name for t in GGUFReader(tmp_path / "m.gguf").tensors}
    assert kinds["blk.0.attn_q.weight"] == "BF16"
    assert kinds["output_norm.weight"] == "F32"


@pytest.mark.parametrize(
    ("model", "splitter", "fact"),
    [
        (lambda: gpt2(activation_function="relu"), None, "has activation_function = relu"),
        (lambda: gpt2(scale_attn_by_inverse_layer_idx=True), None, "has scale_attn_by_inverse_layer_idx = True"),
        (lambda: llama(attention_bias=True), None, "has attention_bias = True"),
        (lambda: llama().double(), None, "is in torch.float64"),
        (
            lambda: llama(rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 100.0}),
            None,
            "rotary positions of the kind linear",
        ),
        (gpt2, pre_tokenizers.Whitespace(), "splits texts in a way whose name in llama.cpp is not known"),
        (gpt2, pre_tokenizers.ByteLevel(add_prefix_space=True), "splits texts in a way"),
    ],
)
def test_what_is_not_written_names_the_converter_that_may(model: Any, splitter: Any, fact: str, tmp_path: Path):
    directory = saved(model(), tmp_path / "model", splitter)
    with pytest.raises(ModelError, match=rf"{fact}.*convert_hf_to_gguf\.py {directory}"):
        write_gguf(directory, tmp_path / "m.gguf", "mine", None)


def test_a_file_that_is_read_otherwise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    directory = saved(llama(), tmp_path / "model")
    with monkeypatch.context() as patch:
        patch.setattr(gguf_writing, "_interleaved", lambda weight, heads: weight)
        with pytest.raises(ModelError, match=r"read again from GGUF, its logits are .* apart"):
            write_gguf(directory, tmp_path / "m.gguf", "mine", None)
    save_model(llama(), train_tokenizer(["10 10 10 10"], 300), tmp_path / "digits")
    monkeypatch.setattr(gguf_writing, "_pre_tokenizer", lambda *_: "smollm")  # under which 10 is two tokens
    with pytest.raises(ModelError, match="its tokenizer gives other ids"):
        write_gguf(tmp_path / "digits", tmp_path / "d.gguf", "mine", None)
