"""Shared fixtures: tiny models whose special tokens are not GPT-2's, and a quiet, offline environment."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Generator

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RLHF_REPORT_TO", "none")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("ACCELERATE_USE_CPU", "true")
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # As in a background job of a shell, and in all that a test starts there: tests of Ctrl-C would wait for ever.
    signal.signal(signal.SIGINT, signal.default_int_handler)

from pathlib import Path
from typing import Any

import pytest

from pipeline.store.store import Store


def tiny_gpt2(vocab: int = 53, eos: int = 51, pad: int | None = 52, seed: int = 0) -> Any:
    """GPT-2 of two narrow layers; weights large enough that positions and tokens matter."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=vocab, n_layer=2, n_embd=32, n_head=2, n_positions=64, bos_token_id=50256, eos_token_id=eos,
        pad_token_id=pad, activation_function="gelu_pytorch_tanh", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        initializer_range=0.2,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


def tiny_llama(vocab: int = 53, seed: int = 0) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, bos_token_id=50, eos_token_id=51, pad_token_id=52,
        initializer_range=0.2, tie_word_embeddings=False,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def tiny_tokenizer(pad_is_eos: bool = False) -> Any:
    """A word-level tokenizer of 53 tokens: eos 51, pad 52 (or none), and a bos outside the vocabulary's range."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {f"w{i}": i for i in range(51)} | {"<eos>": 51, "<pad>": 52}
    core = Tokenizer(models.WordLevel(vocab, unk_token="w0"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<eos>", pad_token="<eos>" if pad_is_eos else "<pad>"
    )


def with_lora(model: Any, adapter: str = "policy", noise: float = 0.1, seed: int = 1) -> Any:
    """``model`` with a LoRA adapter on every linear layer; B is not zero unless ``noise`` is."""
    import torch
    from peft import get_peft_model

    from pipeline.modeling.lora import lora_config

    torch.manual_seed(seed)
    config = lora_config(model, r=4, alpha=8, dropout=0.0, target_modules=None, task_type="CAUSAL_LM")
    peft = get_peft_model(model, config, adapter_name=adapter)
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=noise) if noise else parameter.zero_()
    return peft.eval()


@pytest.fixture(params=["gpt2", "llama"])
def base(request: pytest.FixtureRequest) -> Any:
    return tiny_gpt2() if request.param == "gpt2" else tiny_llama()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "data")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each worker whole files, and one of them all of tests/browser: each would start its own browser."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "tests/browser" if file.startswith("tests/browser/") else file

    return Scheduling(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(scope="session", autouse=True)
def not_waiting_for_the_disk() -> Generator[None]:
    """Flush nothing: a process may die in a test, a machine may not. What counts flushes is a child."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda fd: None)
        yield


_IMPORTED = 0


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage while test files are imported: to look at all of torch each time is half the work."""
    global _IMPORTED
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
        _IMPORTED = len(sys.modules)


@pytest.fixture(autouse=True)
def imports_are_no_garbage() -> None:
    """Leave what torch and its like have made out of collections: each training ends with one, else of 0.2 s."""
    global _IMPORTED
    if len(sys.modules) > _IMPORTED + 500:
        gc.collect()
        gc.freeze()
        _IMPORTED = len(sys.modules)
