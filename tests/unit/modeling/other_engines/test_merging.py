"""An adapter that PEFT cannot merge ends in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from peft import LoraConfig, PeftConfig, PromptTuningConfig, get_peft_model

from pipeline.base.errors import ModelError
from pipeline.modeling.other_engines.merging import merge
from tests.conftest import tiny_llama, tiny_tokenizer


# Mutations caught: PEFT's RuntimeError reaches the user, and so does that of logits that are longer by a prompt.
@pytest.mark.parametrize(
    "config, said",
    [
        (LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"], lora_bias=True), "lora_bias"),
        (PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2), "a learnt prompt"),
    ],
)
def test_a_bias_that_the_base_lacks_and_a_prompt(config: PeftConfig, said: str, tmp_path: Path):
    base = tmp_path / "base"
    tiny_llama().save_pretrained(base)
    tiny_tokenizer().save_pretrained(base)
    get_peft_model(tiny_llama(), config).save_pretrained(str(tmp_path / "adapter"))
    with pytest.raises(ModelError, match=rf"cannot be merged: .*{said}"):
        merge("policy", tmp_path / "adapter", str(base), None, tmp_path / "out")
