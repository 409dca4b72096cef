"""A base that is loaded once: each adaptation gets it as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.modeling import one_base as module
from pipeline.modeling.loading import save_model
from pipeline.modeling.one_base import keep_for_forks, one_base, without_adapters
from pipeline.modeling.roles import load_policy
from pipeline.modeling.states import hidden_states
from tests.conftest import tiny_gpt2, tiny_tokenizer, with_lora

IDS = torch.tensor([[5, 6, 7, 8]])


# Mutations caught: the wrapper left, which would count as a model with adapters; the frozen flags left.
def test_a_base_without_its_adapters_is_the_base_again():
    base = tiny_gpt2()
    modules, expected = [type(m) for m in base.modules()], hidden_states(tiny_gpt2(), IDS)
    model = with_lora(base)
    model.add_adapter("other", model.peft_config["policy"])
    bare: Any = without_adapters(base)
    assert bare is base
    assert [type(m) for m in bare.modules()] == modules
    assert not hasattr(bare, "peft_config")
    assert all(p.requires_grad for p in bare.parameters())
    assert torch.equal(hidden_states(bare, IDS), expected)
    assert torch.equal(hidden_states(with_lora(bare), IDS), hidden_states(with_lora(tiny_gpt2()), IDS))


def test_one_base_is_loaded_once_within_and_anew_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save_model(tiny_gpt2(), tiny_tokenizer(), tmp_path)
    loads: list[str] = []
    load = module.load_causal_lm
    monkeypatch.setattr(module, "load_causal_lm", lambda *args: loads.append(args[0]) or load(*args))
    with one_base():
        first = load_policy(str(tmp_path), None)[0]
        with_lora(first)
        second = load_policy(str(tmp_path), None)[0]
        assert first is second
        assert not hasattr(second, "peft_config")
        load_policy(str(tmp_path), None, dtype=torch.bfloat16)  # another model
    assert load_policy(str(tmp_path), None)[0] is not first
    assert len(loads) == 3


# Mutations caught: it is loaded on all threads, whose pool is missing in a forked process, which waits for it for
# ever; the one thread stays; what is kept is not what is asked for later.
def test_a_base_that_forks_share_is_loaded_on_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save_model(tiny_gpt2(), tiny_tokenizer(), tmp_path)
    loads: list[tuple[int, Any]] = []
    load = module.load_causal_lm
    monkeypatch.setattr(
        module, "load_causal_lm", lambda *args: loads.append((torch.get_num_threads(), args[2])) or load(*args)
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with one_base():
            keep_for_forks(str(tmp_path), None, {torch.float32, torch.bfloat16})
            assert torch.get_num_threads() == 3
            for dtype in (torch.float32, torch.bfloat16):
                load_policy(str(tmp_path), None, dtype=dtype)
    finally:
        torch.set_num_threads(threads)
    assert sorted(loads, key=str) == [(1, torch.bfloat16), (1, torch.float32)]
