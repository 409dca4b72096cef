"""Build a small GPT-2 and its byte-level BPE tokenizer, for use without a pretrained base."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from transformers import PreTrainedModel

from pipeline.modeling.types import Tokenizer

EOS, PAD = "<|endoftext|>", "<|pad|>"
TURN, TURN_END = "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML, of whose marks each is one token. An answer ends with the mark that ends a turn."""


def train_tokenizer(texts: Iterable[str], vocab_size: int, *, chat: bool = False) -> Tokenizer:
    """A byte-level BPE tokenizer whose padding token is not its end-of-sequence token.

    Args:
        chat: with the marks and the template of conversations.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    eos, marks = (TURN_END, [TURN]) if chat else (EOS, [])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[eos, PAD, *marks],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=eos,
        bos_token=eos,
        pad_token=PAD,
        unk_token=eos,  # never produced, as bytes cover every text; ctranslate2 opens no vocabulary without one
        clean_up_tokenization_spaces=False,
        **({"extra_special_tokens": marks, "chat_template": CHAT_TEMPLATE} if chat else {}),
    )


def new_gpt2(tokenizer: Tokenizer, *, n_layer: int, n_embd: int, n_head: int, n_positions: int) -> PreTrainedModel:
    """A randomly initialised ``GPT2LMHeadModel`` for ``tokenizer``; seed torch before.

    Dropout is off and the activation is the fused tanh GELU: same function as ``gelu_new`` to rounding, faster.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_layer=n_layer,
        n_embd=n_embd,
        n_head=n_head,
        n_positions=n_positions,
        bos_token_id=cast("int", tokenizer.eos_token_id),
        eos_token_id=cast("int", tokenizer.eos_token_id),
        pad_token_id=cast("int", tokenizer.pad_token_id),
        activation_function="gelu_pytorch_tanh",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    model = GPT2LMHeadModel(config)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model
