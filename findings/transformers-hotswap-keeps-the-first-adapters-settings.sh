#!/usr/bin/env bash
# transformers swaps a LoRA adapter's matrices in and goes on with the settings and layers of the one before.
#
# transformers 5.23.0, peft 0.21.2, torch 2.13.0. `model.load_adapter(second, adapter_name="default", hotswap=True)` copies
# the tensors whose names and shapes fit. The scaling stays the first adapter's: another lora_alpha, use_rslora or
# alpha_pattern is not read, and no word is said. Where the second adapter has fewer layers, the first one's matrices go
# on in the others; where it has more, those are left out (the report calls them MISSING, "newly initialized", and
# UNEXPECTED). On a small Llama with random weights the logits are 1 to 7 off, where the two adapters are 5 apart.
# peft's own hotswap_adapter of the same files sets the scaling, empties what is missing, and refuses the rest.
# Guessed: the logits of the second adapter, as if it had been loaded afresh, or an error. Seen: the above.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
"$work/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 peft==0.21.2
cd "$work"
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
"$work/venv/bin/python" - <<'PY'
import peft
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.hotswap import hotswap_adapter
from transformers import LlamaConfig, LlamaForCausalLM

transformers.utils.logging.disable_progress_bar()
IDS = torch.randint(0, 64, (3, 11), generator=torch.Generator().manual_seed(1))


def base():
    torch.manual_seed(0)
    size = dict(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
    return LlamaForCausalLM(LlamaConfig(**size, num_key_value_heads=4, initializer_range=0.3)).eval()


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def saved(name, seed, **settings):
    """Write an adapter with weights that are not zero, and return its logits."""
    settings = {"target_modules": ["q_proj", "v_proj"], **settings}
    model = get_peft_model(base(), LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=settings.pop("alpha", 8), **settings))
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += torch.randn(parameter.shape, generator=generator) * 0.1
    model.save_pretrained(name)
    return logits(model)


print("transformers", transformers.__version__, "peft", peft.__version__)
first = saved("first", 1)
for name, settings, same in (
    ("the same settings", {}, True),
    ("lora_alpha 32", {"alpha": 32}, False),
    ("use_rslora", {"use_rslora": True}, False),
    ("alpha_pattern", {"alpha_pattern": {"layers.0.self_attn.q_proj": 64}}, False),
    ("q_proj alone", {"target_modules": ["q_proj"]}, False),
    ("layer 0 alone", {"layers_to_transform": [0]}, False),
    ("o_proj too", {"target_modules": ["q_proj", "v_proj", "o_proj"]}, False),
):
    second = saved("second", 2, **settings)
    model = base()
    model.load_adapter("first")
    model.load_adapter("second", adapter_name="default", hotswap=True)
    off = (logits(model) - second).abs().max().item()
    fresh = base()
    fresh.load_adapter("first")
    fresh.load_adapter("second", adapter_name="second")
    fresh.set_adapter("second")
    afresh = (logits(fresh) - second).abs().max().item()
    model = PeftModel.from_pretrained(base(), "first")
    try:
        hotswap_adapter(model, "second", adapter_name="default")
        difference = (logits(model) - second).abs().max().item()
        assert difference < 1e-4, (name, difference)
        own = f"{difference:.1g} off"
    except (ValueError, RuntimeError) as err:
        own = type(err).__name__
    print(f"{name:18} transformers' hotswap {off:.1g} off, a second adapter {afresh:.1g} off, peft's hotswap {own}")
    assert afresh < 1e-4 and (off < 1e-4) is same and (same or off > 0.5), (name, off, afresh)
print("the two adapters are", f"{(first - saved('second', 2)).abs().max().item():.1g} apart")
print("as described")
PY
