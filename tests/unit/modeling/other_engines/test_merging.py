"""An adapter that PEFT cannot merge ends in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model

from pipeline.base.errors import ModelError
from pipeline.modeling.other_engines.merging import merge
from tests.conftest import tiny_llama, tiny_tokenizer


def test_a_bias_that_the_base_lacks(tmp_path: Path):
    base = tmp_path / "base"
    tiny_llama().save_pretrained(base)
    tiny_tokenizer().save_pretrained(base)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"], lora_bias=True)
    get_peft_model(tiny_llama(), config).save_pretrained(tmp_path / "adapter")
    # Mutation caught: PEFT's RuntimeError reaches the user, with a traceback.
    with pytest.raises(ModelError, match=r"cannot be merged: .*lora_bias"):
        merge("policy", tmp_path / "adapter", str(base), None, tmp_path / "out")
