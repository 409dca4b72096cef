"""Write a causal language model as a GGUF file for llama.cpp, and compare what is read of it with the model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.base.errors import ModelError
from pipeline.modeling.loading import load_causal_lm, load_tokenizer
from pipeline.modeling.other_engines.gguf_models import load_gguf, require_package
from pipeline.modeling.other_engines.merging import TOLERANCE, distance_of, logits_of, sample_rows
from pipeline.modeling.types import Tokenizer

TEXT = "One text, 2 numbers (3.14, 1000) and a line\n  break: it's Ünï©ode 天 🚀, we'll see."

CHANGED_BY = {
    "gpt2": {
        "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
    },
    "llama": {"hidden_act": ("silu",), "attention_bias": (False,), "mlp_bias": (False,)},
}
"""Settings that a GGUF of the architecture has no field for, with the values that llama.cpp assumes."""

_TRANSPOSED = (".c_attn.weight", ".c_proj.weight", ".c_fc.weight")
"""GPT-2's Conv1D keeps its weights as (in, out); GGUF as (out, in)."""


@dataclass(frozen=True)
class Written:
    """What a GGUF file holds, and how far the logits of what was read of it are from the model's."""

    architecture: str
    pre: str
    dtype: str
    difference: float


def write_gguf(directory: Path, path: Path, name: str, licence: str | None) -> Written:
    """Write the model and the tokenizer in ``directory`` as the GGUF file ``path``, and read it with transformers.

    Matrices are in the model's dtype; vectors and positions, as llama.cpp has them, in fp32. The same model gives
    the same bytes.

    Args:
        name: what the file says that it is called.
    Raises:
        ModelError: the package gguf is not installed; a model, a tokenizer or a setting that this does not write;
            it is read otherwise than it was written.
    """
    where = str(directory)
    require_package(where)
    model, tokenizer = load_causal_lm(where), load_tokenizer(where)
    _check(model.config, where)
    pre = _pre_tokenizer(tokenizer, where)
    _write(path, model, tokenizer, pre, {"name": name, "license": licence})
    dtype = str(model.dtype).removeprefix("torch.")
    difference = _compare(path, model.float(), tokenizer, where)
    return Written(model.config.model_type, pre, dtype, difference)


def _check(config: Any, where: str) -> None:
    """Raises ModelError for an architecture that this does not write, or a setting that GGUF cannot say."""
    assumed = CHANGED_BY.get(config.model_type)
    if assumed is None:
        raise _refusal(
            where, f"is a {config.model_type}; GGUF is written here of {' and '.join(CHANGED_BY)} alone."
        )
    for key, values in assumed.items():
        if getattr(config, key) not in values:
            raise _refusal(where, f"has {key} = {getattr(config, key)}, which GGUF has no field for.")
    if config.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise _refusal(where, f"is in {config.dtype}, in which GGUF is not written here.")
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") != "default":
        raise _refusal(where, f"has rotary positions of the kind {rope['rope_type']}, which are not written here.")


def _pre_tokenizer(tokenizer: Tokenizer, where: str) -> str:
    """llama.cpp's name of how a byte-level vocabulary splits texts.

    Raises:
        ModelError: it is not byte-level, or splits in a way whose name is not known here.
    """
    from tokenizers import models, pre_tokenizers

    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not isinstance(backend.model, models.BPE) or backend.normalizer is not None:
        raise _refusal(where, "its tokenizer is not a byte-level BPE without a normaliser.")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    digits = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    for name, splitter in {"gpt-2": byte_level, "smollm": digits}.items():
        if _settings(backend.pre_tokenizer) == _settings(splitter):
            return name
    raise _refusal(where, "its tokenizer splits texts in a way whose name in llama.cpp is not known here.")


def _settings(splitter: Any) -> str:
    """A pre-tokenizer as its JSON, without what changes offsets alone."""
    return splitter.__getstate__().decode().replace('"trim_offsets":true', '"trim_offsets":false')


def _refusal(where: str, fact: str) -> ModelError:
    mend = f"llama.cpp's own converter may:  python llama.cpp/convert_hf_to_gguf.py {where}"
    return ModelError(where, fact, mend)


def _write(path: Path, model: Any, tokenizer: Tokenizer, pre: str, facts: dict[str, str | None]) -> None:
    from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType
    from gguf.quants import quantize

    kinds = {
        torch.float32: (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
        torch.float16: (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
        torch.bfloat16: (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    }
    matrix, file_type = kinds[model.dtype]
    writer = GGUFWriter(path, model.config.model_type)
    writer.add_type("model")
    writer.add_name(str(facts["name"]))
    if facts["license"] is not None:
        writer.add_license(facts["license"])
    writer.add_file_type(file_type)
    _add_shape(writer, model.config)
    _add_vocabulary(writer, tokenizer, pre, model.config.vocab_size)
    for name, tensor in _tensors(model):
        kind = matrix if tensor.ndim > 1 and name != "position_embd.weight" else GGMLQuantizationType.F32
        writer.add_tensor(name, quantize(tensor.float().contiguous().numpy(), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_shape(writer: Any, config: Any) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    if config.model_type == "gpt2":
        writer.add_feed_forward_length(config.n_inner or 4 * config.hidden_size)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        return
    width = config.head_dim
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _add_vocabulary(writer: Any, tokenizer: Tokenizer, pre: str, rows: int) -> None:
    from gguf import TokenType

    backend: Any = tokenizer.backend_tokenizer
    added, words = backend.get_added_tokens_decoder(), {i: word for word, i in backend.get_vocab().items()}
    tokens = [words.get(i, f"[PAD{i}]") for i in range(rows)]
    unused = {i: TokenType.UNUSED for i in range(rows) if i not in words}
    marked = {i: TokenType.CONTROL if t.special else TokenType.USER_DEFINED for i, t in added.items()}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([(unused | marked).get(i, TokenType.NORMAL) for i in range(rows)])
    merges: Any = json.loads(backend.to_str())["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    for kind in ("bos", "eos", "unk", "pad"):
        if (token := getattr(tokenizer, f"{kind}_token_id")) is not None:
            getattr(writer, f"add_{kind}_token_id")(token)
    ids = tokenizer("a")["input_ids"]
    writer.add_add_bos_token(ids[0] == tokenizer.bos_token_id)
    writer.add_add_eos_token(ids[-1] == tokenizer.eos_token_id)
    writer.add_add_space_prefix(False)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)


def _tensors(model: Any) -> Iterator[tuple[str, Tensor]]:
    """The weights by their names in GGUF, in its layout."""
    from gguf import MODEL_ARCH, get_tensor_name_map

    config = model.config
    names = get_tensor_name_map(MODEL_ARCH[config.model_type.upper()], config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": getattr(config, "num_key_value_heads", None)}
    for key, tensor in model.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue  # llama.cpp takes the embedding
        name = names.get_name(key, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise _refusal(str(config.name_or_path), f"has a weight {key}, which its GGUF has no place for.")
        if config.model_type == "gpt2" and key.endswith(_TRANSPOSED):
            tensor = tensor.T
        if (count := heads.get(key.split(".")[-2])) is not None:
            tensor = _interleaved(tensor, count)
        yield name, tensor


def _interleaved(weight: Tensor, heads: int) -> Tensor:
    """Rows of a query or key projection in llama.cpp's order: it rotates neighbours, transformers halves."""
    width = len(weight) // heads
    return weight.view(heads, 2, width // 2, -1).transpose(1, 2).reshape(weight.shape)


def _compare(path: Path, model: Any, tokenizer: Tokenizer, where: str) -> float:
    """The largest difference of the logits of what transformers reads.

    Raises:
        ModelError: it is over :data:`TOLERANCE`, or the tokenizer gives other ids.
    """
    read, other, _ = load_gguf(path, where)
    rows = sample_rows(model.config.vocab_size, model.config.pad_token_id)
    difference = distance_of(logits_of(read, rows), logits_of(model, rows))
    if not difference <= TOLERANCE:
        raise _refusal(where, f"read again from GGUF, its logits are {difference:.2g} apart.")
    if other(TEXT)["input_ids"] != tokenizer(TEXT)["input_ids"]:
        raise _refusal(where, "read again from GGUF, its tokenizer gives other ids.")
    return difference
