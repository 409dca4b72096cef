"""LoRA in one product: PEFT's own numbers and gradients, and PEFT's own way where it is not that plain."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from transformers import GPT2ForSequenceClassification

from pipeline.base.errors import ModelError
from pipeline.modeling.lora import add_role, fuse_lora, with_reward_adapter
from pipeline.modeling.roles import active_adapter, merged_adapter
from pipeline.modeling.states import hidden_states, quick_attention
from tests.conftest import tiny_gpt2, tiny_llama, with_lora

IDS = torch.tensor([[5, 6, 7, 8], [9, 1, 2, 3]])


def measured(model: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    states = hidden_states(model, IDS)
    (states.float() ** 2).sum().backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return states.detach(), found


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama])
def test_one_product_gives_pefts_states_and_gradients(make: Any):
    model = with_lora(make())
    states, grads = measured(model)
    fuse_lora(model)
    fused, fused_grads = measured(model)
    # Mutations caught: the scale left out, or applied twice; A and B not transposed.
    torch.testing.assert_close(fused, states, atol=1e-5, rtol=1e-5)
    assert grads.keys() == fused_grads.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(fused_grads[name], grad, atol=1e-4, rtol=1e-4)


def test_roles_and_merging_are_heeded():
    base = tiny_gpt2()
    plain = hidden_states(base, IDS)
    model = with_lora(base)
    fuse_lora(model)
    with torch.no_grad():
        with active_adapter(model, None):
            assert torch.equal(hidden_states(model, IDS), plain)
        applied = hidden_states(model, IDS)
        with merged_adapter(model, "policy"):
            # Mutation caught: the adapter applied once more where it is folded in.
            torch.testing.assert_close(hidden_states(model, IDS), applied, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(applied, plain, atol=1e-3)


def test_dropout_takes_pefts_own_way():
    model = with_lora(tiny_gpt2())
    for layer in model.modules():
        if hasattr(layer, "lora_dropout") and "policy" in layer.lora_dropout:
            layer.lora_dropout["policy"] = torch.nn.Dropout(0.5)
    fuse_lora(model)
    model.train()
    first, second = (hidden_states(model, IDS).detach() for _ in range(2))
    # Mutation caught: dropout silently left out.
    assert not torch.equal(first, second)


def test_bf16_keeps_lora_and_its_gradients_in_fp32():
    model = with_lora(tiny_gpt2().to(torch.bfloat16))
    fuse_lora(model)
    with quick_attention(model, IDS):
        assert model.config._attn_implementation == "eager"
        states, grads = measured(model)
    assert model.config._attn_implementation == "sdpa"
    assert states.dtype == torch.bfloat16
    assert {g.dtype for n, g in grads.items() if "lora_" in n} == {torch.float32}


def test_plain_attention_is_the_fused_ones_function():
    model = tiny_gpt2().to(torch.bfloat16)
    with torch.no_grad():
        fused = hidden_states(model, IDS)
        with quick_attention(model, IDS):
            plain = hidden_states(model, IDS)
    torch.testing.assert_close(plain.float(), fused.float(), atol=0.1, rtol=0.05)


# Seen failing: each reader's training began with PEFT's warning to "ensure that the correct base model is loaded".
def test_a_reward_adapter_to_go_on_from_is_loaded_without_a_warning(tmp_path: Path) -> None:
    def classifier() -> GPT2ForSequenceClassification:
        return GPT2ForSequenceClassification(tiny_gpt2().config)

    trained = get_peft_model(classifier(), LoraConfig(task_type="SEQ_CLS"))
    trained.peft_config["default"].base_model_name_or_path = "/elsewhere/base"
    trained.save_pretrained(str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", "fan_in_fan_out")
        with_reward_adapter(classifier(), tmp_path)


def saved(config: Any, directory: Path) -> Any:
    """An adapter as somebody else's PEFT writes it, with trained weights that are not zero."""
    model = get_peft_model(tiny_llama(), config)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += torch.randn(parameter.shape, generator=generator) * 0.1
    model.save_pretrained(directory)
    return model.eval()


def lora(**settings: Any) -> LoraConfig:
    return LoraConfig(**{"task_type": "CAUSAL_LM", "r": 4, "target_modules": ["q_proj"], **settings})


PATTERNS = {"rank_pattern": {"layers.0.self_attn.q_proj": 2}, "alpha_pattern": {"layers.1.self_attn.q_proj": 30}}


@pytest.mark.parametrize("settings", [{"use_rslora": True}, PATTERNS, {"init_lora_weights": "gaussian"}])
def test_an_adapter_of_anybody_else_is_the_same_role(settings: Any, tmp_path: Path):
    saved(lora(**settings), tmp_path)
    expected = PeftModel.from_pretrained(tiny_llama(), tmp_path).eval()
    model = with_lora(tiny_llama())
    add_role(model, tmp_path, "theirs")
    states = hidden_states(expected, IDS)
    # Mutations caught: rank_pattern dropped; alpha used for every layer alike; alpha / r for rslora.
    for switch in (active_adapter, merged_adapter):
        with switch(model, "theirs"):
            torch.testing.assert_close(hidden_states(model, IDS), states, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "config, said",
    [
        (lora(use_dora=True), "use_dora"),  # merged for sampling it would be LoRA without its magnitudes
        (lora(lora_bias=True, target_modules=["o_proj"]), "lora_bias"),
        (lora(trainable_token_indices=[1]), "trainable_token_indices"),
        (lora(init_lora_weights="pissa"), "init_lora_weights=pissa"),  # its base is not the other roles'
        (lora(modules_to_save=["lm_head"]), r"lm_head\.weight"),
        (lora(target_modules=["q_proj", "lm_head"]), r"lm_head\.base_layer"),
        (lora(target_modules=["q_proj", "embed_tokens"]), "embed_tokens"),
        (IA3Config(target_modules=["q_proj"], feedforward_modules=[], task_type="CAUSAL_LM"), "kind IA3"),
    ],
)
def test_an_adapter_that_would_be_read_in_part_is_refused(config: Any, said: str, tmp_path: Path):
    saved(config, tmp_path)
    with pytest.raises(ModelError, match=said):
        add_role(with_lora(tiny_llama()), tmp_path, "theirs")


# Seen failing: "is no plain LoRA: its config has loftq_config", of adapters that libraries around PEFT write.
def test_a_setting_that_is_null_is_off(tmp_path: Path):
    saved(lora(), tmp_path)
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "loftq_config": None, "use_dora": None}))
    add_role(with_lora(tiny_llama()), tmp_path, "theirs")


# Seen failing: it was read, and log-probabilities were made without it, those of sampling with it.
def test_an_output_layers_lora_alone_is_refused(tmp_path: Path):
    model = saved(lora(target_modules=["q_proj", "lm_head"]), tmp_path)
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    with pytest.raises(ModelError, match="LoRA on the output layer"):
        add_role(with_lora(tiny_llama()), tmp_path, "theirs")
