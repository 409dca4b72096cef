#!/usr/bin/env bash
# A chat that is truncated on the left has an assistant mask of zeros, also for the turns that are still there.
#
# transformers 5.23.0, tokenizers 0.23.3; no torch. With `tokenizer.truncation_side = "left"`, which keeps a conversation's
# end, `apply_chat_template(..., return_assistant_tokens_mask=True, truncation=True, max_length=...)` looks up the first
# generation's first token, finds that it was cut off, and looks no further: every later turn has zeros too, without a
# warning. So a loss by this mask trains on none of a long conversation (labels all -100), while short ones in the
# same call have theirs. Truncated on the right the mask is right, and so is it padded on either side.
# Guessed: zeros for what was cut, ones for the last turns. Seen: the above.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 tokenizers==0.23.3 jinja2==3.1.6
cd "$work"
HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error "$work/venv/bin/python" - <<'PY'
import tokenizers
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
own = Tokenizer(models.BPE(letters, []))
own.pre_tokenizer, own.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=own, eos_token="<end>", pad_token="<pad>")
tokenizer.chat_template = (
    "{% for m in messages %}{% if m['role'] == 'user' %}U:{{ m['content'] }}\n{% else %}"
    "A:{% generation %}{{ m['content'] }}<end>{% endgeneration %}\n{% endif %}{% endfor %}"
)


def chat(*texts):
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


long, short = chat("one", "first", "two", "second", "three", "third"), chat("four", "fourth")


def masked(conversations, **settings):
    """Of each conversation the text that is left, and that under the mask."""
    out = tokenizer.apply_chat_template(conversations, return_dict=True, return_assistant_tokens_mask=True, **settings)
    pairs = zip(out["input_ids"], out["assistant_masks"])
    return [(tokenizer.decode(ids), tokenizer.decode([i for i, m in zip(ids, mask) if m])) for ids, mask in pairs]


print("transformers", transformers.__version__, "tokenizers", tokenizers.__version__)
for side, length in (("right", 30), ("left", 30), ("left", 36)):
    tokenizer.truncation_side = side
    rows = masked([long, short], truncation=True, max_length=length)
    for text, mask in rows:
        print(f"{side} {length}: {text!r} -> {mask!r}")
    assert rows[1][1] == "fourth<end>"
    if side == "right":
        assert rows[0][1] == "first<end>second<end>", rows
    else:
        assert "second<end>" in rows[0][0] and "third<end>" in rows[0][0] and rows[0][1] == "", rows
for side in ("left", "right"):
    tokenizer.padding_side = side
    whole = masked([long, short], padding=True)
    assert [mask for _, mask in whole] == ["first<end>second<end>third<end>", "fourth<end>"], whole
print("as described")
PY
