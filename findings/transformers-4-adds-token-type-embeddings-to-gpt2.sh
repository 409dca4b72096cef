#!/usr/bin/env bash
# One saved GPT-2 and its tokenizer continue a text otherwise in transformers 4 than in transformers 5.
#
# transformers 4.57.6 and 5.23.0, torch 2.13.0. PreTrainedTokenizerFast of transformers 4, the class for a tokenizer of
# one's own, returns `token_type_ids`, zeros, unless `model_input_names` was saved; that of transformers 5 does not. GPT-2's
# forward takes `token_type_ids` and adds at every position the embedding of the token that they name, here of token 0.
# So `model(**tokenizer(text))` differs without a warning: of a small GPT-2 with random weights the logits are .88 apart,
# and the greedy text is another. With `model_input_names: ["input_ids", "attention_mask"]` in tokenizer_config.json both
# versions give the same.
# Guessed: zeros change nothing, as BERT's single segment, or both versions return the same keys. Seen: the above.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --target "$work/4" "transformers==4.57.6"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --target "$work/5" "transformers==5.23.0"
cd "$work"
cat > make.py <<'PY'
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

torch.manual_seed(0)
own = Tokenizer(models.BPE())
own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
texts = ["the weather is fine today", "the train is late again", "a fine day for a walk"] * 20
own.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=300, special_tokens=["<end>"]))
for name, more in (("plain", {}), ("named", {"model_input_names": ["input_ids", "attention_mask"]})):
    PreTrainedTokenizerFast(tokenizer_object=own, eos_token="<end>", pad_token="<end>", **more).save_pretrained(name)
    GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=64, n_layer=2, n_head=4)).save_pretrained(name)
    torch.manual_seed(0)
PY
cat > use.py <<'PY'
import json
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

transformers.utils.logging.disable_progress_bar()

out = {"version": transformers.__version__}
for name in ("plain", "named"):
    tokenizer, model = AutoTokenizer.from_pretrained(name), AutoModelForCausalLM.from_pretrained(name).eval()
    inputs = tokenizer("the weather is", return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits[0, -1]
        text = model.generate(**inputs, max_new_tokens=12, do_sample=False, pad_token_id=0)[0].tolist()
    out[name] = {"keys": sorted(inputs), "logits": logits.tolist(), "text": text}
json.dump(out, open(sys.argv[1], "w"))
PY
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
PYTHONPATH="$work/4" "$work/venv/bin/python" make.py
for version in 4 5; do PYTHONPATH="$work/$version" "$work/venv/bin/python" use.py "$version.json"; done
"$work/venv/bin/python" - <<'PY'
import json

four, five = (json.load(open(f"{v}.json")) for v in (4, 5))
for name in ("plain", "named"):
    a, b = four[name], five[name]
    apart = max(abs(x - y) for x, y in zip(a["logits"], b["logits"]))
    print(name, four["version"], a["keys"], "|", five["version"], b["keys"], f"| logits {apart:.2g} apart, same text {a['text'] == b['text']}")
    if name == "plain":
        assert "token_type_ids" in a["keys"] and "token_type_ids" not in b["keys"]
        assert apart > 1e-3 and a["text"] != b["text"]
    else:
        assert a["keys"] == b["keys"] and apart < 1e-5 and a["text"] == b["text"]
print("as described")
PY
