#!/usr/bin/env bash
# transformers loads the GGUF of a GPT-2 only where it has 1,024 positions and an inner width of four times its states.
#
# transformers 5.23.0, gguf 0.19.0, accelerate 1.15.0, torch 2.13.0. The file's `gpt2.context_length` becomes `n_ctx` of the config, and
# `gpt2.feed_forward_length` becomes `feed_forward_length`; GPT2Config makes its weights by `n_positions` and `n_inner`, which
# stay at 1,024 and None (four times). So a GPT-2 of 512 or of 2,048 positions (there are some for other languages and for
# code), or one with a narrower inner layer, ends in a RuntimeError about sizes, while the same model loads from its
# safetensors. With those two copied into a config that is given to from_pretrained, logits are equal to rounding.
# Guessed: all sizes that GGUF has a field for are read, as they are of a Llama. Seen: the above.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
"$work/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 gguf==0.19.0 accelerate==1.15.0
cd "$work"
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
"$work/venv/bin/python" - <<'PY'
import gguf
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, GgufConfig, GPT2Config, GPT2LMHeadModel

transformers.utils.logging.disable_progress_bar()


def made(name, positions, inner):
    """A GPT-2 of random weights, saved in safetensors and as GGUF."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=256, n_positions=positions, n_embd=64, n_layer=2, n_head=4, n_inner=inner,
                        initializer_range=0.2, bos_token_id=0, eos_token_id=0)
    model = GPT2LMHeadModel(config).eval()
    model.save_pretrained(name)
    out = gguf.GGUFWriter(f"{name}/model.gguf", "gpt2")
    out.add_context_length(positions)
    out.add_embedding_length(64)
    out.add_block_count(2)
    out.add_feed_forward_length(inner)
    out.add_head_count(4)
    out.add_layer_norm_eps(1e-5)
    out.add_file_type(0)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list([f"<{i}>" for i in range(256)])
    out.add_token_types([gguf.TokenType.NORMAL] * 256)
    out.add_token_merges([])
    out.add_bos_token_id(0)
    out.add_eos_token_id(0)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GPT2, 2)
    for key, value in model.state_dict().items():
        if key != "lm_head.weight":  # the embedding's own
            turned = key.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))  # Conv1D has (in, out)
            array = (value.T.contiguous() if turned else value).numpy()
            out.add_tensor(names.get_name(key, try_suffixes=(".weight", ".bias")), array)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return model


def read(name, mended):
    config = AutoConfig.from_pretrained(name, gguf_file="model.gguf")
    if mended:
        config.n_positions, config.n_inner = config.n_ctx, config.feed_forward_length
    dense = GgufConfig(dequantize=True)
    return AutoModelForCausalLM.from_pretrained(
        name, gguf_file="model.gguf", config=config, dtype=torch.float32, quantization_config=dense).eval()


ids = torch.tensor([[5, 9, 33, 100, 7]])
for name, positions, inner, loads in (("usual", 1024, 256, True), ("short", 512, 256, False),
                                      ("long", 2048, 256, False), ("narrow", 1024, 192, False)):
    model = made(name, positions, inner)
    config = AutoConfig.from_pretrained(name, gguf_file="model.gguf")
    assert (config.n_ctx, config.feed_forward_length) == (positions, inner)
    assert (config.n_positions, config.n_inner) == (1024, None), (config.n_positions, config.n_inner)
    try:
        read(name, mended=False)
        seen = True
    except RuntimeError:
        seen = False
    assert seen is loads, f"{name}: loaded = {seen}"
    with torch.no_grad():
        apart = (read(name, mended=True)(ids).logits - model(ids).logits).abs().max().item()
    assert apart < 1e-4, apart
    print(f"{name}: {positions} positions, inner {inner}: {'loads' if seen else 'RuntimeError'}; mended {apart:.1e} apart")
PY
echo "as described"
