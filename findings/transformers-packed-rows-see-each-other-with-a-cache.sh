#!/usr/bin/env bash
# Rows packed by position_ids see each other unless use_cache is False, so gradient checkpointing changes a loss.
#
# transformers 5.23.0, torch 2.13.0. Given `position_ids` that begin again at 0 and no attention mask, as
# DataCollatorWithFlattening makes them, transformers finds the rows and masks each from the others, with sdpa and eager
# too. It does so only where no cache is made, and a decoder makes one by default (`config.use_cache` is True), in
# training too, without a warning. So of GPT-2, Llama, Qwen2 and GPT-NeoX the loss of a packed row is that of the row alone
# with use_cache=False, and another one without; it is right by accident where gradient checkpointing turns the cache
# off. Trainer sets the config of the model that it trains, and of no other, such as a reference. OPT, Falcon and
# Bloom never mask the rows, whatever is given. Guessed: the same loss in each case, or an error. Seen: the above.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
"$work/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0
cd "$work"
HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error "$work/venv/bin/python" - <<'PY'
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, DataCollatorWithFlattening

SMALL = dict(vocab_size=64, pad_token_id=0, bos_token_id=1, eos_token_id=2, initializer_range=0.25)
WIDE = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4)
NARROW = dict(**WIDE, intermediate_size=64)
generator = torch.Generator().manual_seed(1)
first, second = (torch.randint(3, 64, (n,), generator=generator).tolist() for n in (6, 8))
packed = DataCollatorWithFlattening()([{"input_ids": first}, {"input_ids": second}], return_tensors="pt")
assert sorted(packed) == ["input_ids", "labels", "position_ids"], sorted(packed)
packed["labels"][:, : len(first) + 1] = -100  # the second row's loss
alone = {"input_ids": torch.tensor([second])}
alone["labels"] = alone["input_ids"].clone()
print("transformers", transformers.__version__, "torch", torch.__version__)
for family, size, finds in (
    ("gpt2", dict(n_embd=32, n_layer=2, n_head=4, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0), True),
    ("llama", dict(**NARROW, num_key_value_heads=4), True),
    ("qwen2", dict(**NARROW, num_key_value_heads=4), True),
    ("gpt_neox", NARROW, True),
    ("opt", dict(**WIDE, ffn_dim=64, word_embed_proj_dim=32, dropout=0.0), False),
    ("falcon", WIDE, False),
    ("bloom", dict(hidden_size=32, n_layer=2, n_head=4), False),
):
    losses = {}
    for attention in ("eager",) if family == "bloom" else ("eager", "sdpa"):
        torch.manual_seed(0)
        config = AutoConfig.for_model(family, **SMALL, **size)
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).train()
        expected = model(**alone).loss.item()
        default = model(**packed).loss.item()
        without = model(**packed, use_cache=False).loss.item()
        model.gradient_checkpointing_enable()
        checkpointed = model(**packed).loss.item()
        print(f"{family:9}{attention:6} alone {expected:.3f}, packed {default:.3f}, use_cache=False {without:.3f}, "
              f"gradient checkpointing {checkpointed:.3f}")
        assert abs(default - expected) > 0.02, (family, default, expected)
        assert (abs(without - expected) < 1e-4) is finds and (abs(checkpointed - expected) < 1e-4) is finds, family
print("as described")
PY
