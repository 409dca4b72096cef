"""What is saved is what earlier transformers and peft read as it is meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig
from transformers import AutoConfig, AutoTokenizer, LlamaConfig

from pipeline.modeling.loading import save_model
from pipeline.modeling.portable import ADAPTER_KEYS, adapter_settings, portable_model, save_tokenizer
from pipeline.modeling.scratch import EOS, new_gpt2, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer(["a good film", "a bad film"], 300)


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_tokenizer_has_a_class_that_transformers_4_knows(tokenizer: Any, tmp_path: Path):
    # Fails with a plain save_pretrained: the class is TokenizersBackend, the tokens are a list under a key that
    # holds a dictionary in transformers 4, and what was loaded from a directory says is_local.
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|user|>", "<|assistant|>"]})
    save_tokenizer(tokenizer, tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    save_tokenizer(again, tmp_path / "again")
    for directory in (tmp_path, tmp_path / "again"):
        saved = read(directory / "tokenizer_config.json")
        assert saved["tokenizer_class"] == "PreTrainedTokenizerFast"
        assert saved["model_input_names"] == ["input_ids", "attention_mask"]
        assert saved["additional_special_tokens"] == ["<|user|>", "<|assistant|>"]
        assert not saved.keys() & {"is_local", "local_files_only", "extra_special_tokens"}
        loaded = AutoTokenizer.from_pretrained(directory)
        assert loaded.all_special_tokens == tokenizer.all_special_tokens
        assert loaded("<|user|>a good film").input_ids == tokenizer("<|user|>a good film").input_ids


def test_our_own_base_has_the_keys_that_converters_look_for(tmp_path: Path):
    tokenizer = train_tokenizer(["a good film"], 300)
    save_model(new_gpt2(tokenizer, n_layer=1, n_embd=8, n_head=1, n_positions=16), tokenizer, tmp_path)
    assert read(tmp_path / "config.json")["n_ctx"] == 16
    assert AutoTokenizer.from_pretrained(tmp_path).unk_token == EOS
    assert AutoConfig.from_pretrained(tmp_path).n_positions == 16


SCALED = {"rope_type": "linear", "factor": 2.0, "rope_theta": 500000.0}


@pytest.mark.parametrize(
    ("rope", "earlier"),
    [
        ({"rope_type": "default", "rope_theta": 100000.0}, {"rope_theta": 100000.0}),
        (SCALED, {"rope_theta": 500000.0, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
    ],
)
def test_rotary_positions_stand_where_transformers_4_reads_them(
    rope: dict[str, Any], earlier: dict[str, Any], tmp_path: Path
):
    sizes: dict[str, Any] = {"hidden_size": 8, "num_attention_heads": 1, "num_hidden_layers": 1}
    config = LlamaConfig(**sizes, rope_parameters=rope)
    written = portable_model(config.to_dict())
    assert {k: written[k] for k in ("rope_theta", "rope_scaling") if k in written} == earlier
    (tmp_path / "config.json").write_text(json.dumps(written))
    assert AutoConfig.from_pretrained(tmp_path).rope_parameters == config.rope_parameters


def test_parameters_for_each_kind_of_layer_stay_as_they_are():
    config = {"rope_parameters": {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}}
    assert portable_model(config) == config


def test_an_adapters_settings_are_those_that_peft_has_always_had():
    config = LoraConfig(r=8, lora_alpha=16, target_modules=["c_proj", "c_attn"], modules_to_save=["score"])
    settings = adapter_settings(config)
    assert settings.keys() == ADAPTER_KEYS
    assert (settings["r"], settings["lora_alpha"]) == (8, 16)
    assert settings["target_modules"] == ["c_attn", "c_proj"]
    # r 8 is the default: it stays all the same, as a default may change.
    assert LoraConfig().r == 8


def test_a_setting_that_is_not_at_its_default_is_kept():
    assert adapter_settings(LoraConfig(use_rslora=True))["use_rslora"] is True
