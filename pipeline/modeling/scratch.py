"""Build a small GPT-2 and its byte-level BPE tokenizer, for use without a pretrained base."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from transformers import PreTrainedModel

from pipeline.modeling.types import Tokenizer

EOS, PAD = "<|endoftext|>", "<|pad|>"


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE tokenizer whose padding token is not its end-of-sequence token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=EOS,
        bos_token=EOS,
        pad_token=PAD,
        unk_token=EOS,  # never produced, as bytes cover every text; ctranslate2 opens no vocabulary without one
        clean_up_tokenization_spaces=False,
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
