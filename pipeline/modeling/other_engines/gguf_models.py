"""Load a model and its tokenizer from a GGUF file, dequantised to fp32, so that they can be trained and saved."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from pipeline.base.errors import ModelError, first_line
from pipeline.modeling.loading import fuse_activations, require_whole, silent, usable_tokenizer
from pipeline.modeling.types import Tokenizer

DIGITS_APART = frozenset(["starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva"])
"""llama.cpp's names of byte-level vocabularies whose merges were learnt with every digit apart (its
``llama-vocab.cpp``); transformers' conversion splits these as GPT-2's. It knows llama 3's, Qwen's and others."""

AS_GPT2 = frozenset(["gpt-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "default"])

MEND = "Give a model in safetensors, or a GGUF of an architecture that transformers loads."
METADATA = {"name": "general.name", "architecture": "general.architecture", "license": "general.license"}


def load_gguf(path: Path, source: str) -> tuple[PreTrainedModel, Tokenizer, dict[str, Any]]:
    """The model of a GGUF file in evaluation mode, its tokenizer, and what the file says of itself.

    Args:
        source: what the config names, for messages.
    Raises:
        ModelError: the package ``gguf`` is not installed; the file is damaged, lacks weights or a tokenizer, or is
            of an architecture that transformers cannot load.
    """
    from transformers import AutoTokenizer

    facts = read_metadata(path, source)
    model = load_gguf_model(path, source)
    try:
        with silent():
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, trust_remote_code=False)
    except Exception as err:  # a damaged file can raise anything
        raise ModelError(source, f"holds no tokenizer that could be loaded ({first_line(err)}).", MEND) from err
    usable_tokenizer(tokenizer, source)
    notice = split_digits(tokenizer, str(facts.pop("pre", "default")))
    return model, tokenizer, {**facts, **({"notice": notice} if notice else {})}


def load_gguf_model(path: Path, source: str) -> PreTrainedModel:
    """The model of :func:`load_gguf` alone.

    Without ``dequantize`` transformers gives one that can be neither saved nor trained.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    options: dict[str, Any] = {"gguf_file": path.name, "trust_remote_code": False, "output_loading_info": True}
    options["quantization_config"] = GgufConfig(dequantize=True)
    try:
        with silent():
            config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
            if config.model_type == "gpt2":  # transformers 5.23 reads these under names that no model of its has
                config.n_positions = config.n_ctx
                config.n_inner = config.feed_forward_length
            loaded = AutoModelForCausalLM.from_pretrained(
                path.parent, config=config, dtype=torch.float32, **options
            )
    except Exception as err:  # a damaged file can raise anything
        kind = read_metadata(path, source).get("architecture")
        what = f"transformers could not load this GGUF of architecture {kind} ({first_line(err)})."
        raise ModelError(source, what, MEND) from err
    model, info = cast("tuple[PreTrainedModel, dict[str, Any]]", loaded)
    require_whole(model, info, source)
    return fuse_activations(model).eval()


def read_metadata(path: Path, source: str) -> dict[str, Any]:
    """The name, architecture and licence that a GGUF file states, the kind of its weights, and ``pre``.

    Raises:
        ModelError: the package ``gguf`` is not installed, or the file is damaged.
    """
    require_package(source)
    from gguf import GGUFReader, LlamaFileType

    try:
        reader = GGUFReader(path)
        fields = {our: reader.get_field(key) for our, key in METADATA.items()}
        facts = {our: str(f.contents()) for our, f in fields.items() if f is not None}
        if (kind := reader.get_field("general.file_type")) is not None:
            facts["weights"] = LlamaFileType(kind.contents()).name.removeprefix("MOSTLY_")
        if (pre := reader.get_field("tokenizer.ggml.pre")) is not None:
            facts["pre"] = str(pre.contents())
    except Exception as err:  # a truncated file raises anything
        raise ModelError(source, f"is damaged ({first_line(err)}).", "Download it again.") from err
    return facts


def require_package(source: str) -> None:
    """Raises ModelError where the package ``gguf`` is not installed."""
    if importlib.util.find_spec("gguf") is None:
        mend = "Install it: pip install 'rlhf-pipeline[gguf]'"
        raise ModelError(source, "GGUF needs the package gguf, which is not installed.", mend)


def split_digits(tokenizer: Tokenizer, pre: str) -> str | None:
    """Put back the splitting of digits that a vocabulary was learnt with, so that ids are those of llama.cpp.

    Args:
        pre: the file's ``tokenizer.ggml.pre``.
    Returns:
        A notice where nobody here knows how that vocabulary splits texts.
    """
    from tokenizers import pre_tokenizers

    backend: Any = tokenizer.backend_tokenizer
    if not isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel):
        return None  # a vocabulary of SentencePiece, or one that transformers has split as it should be
    if pre in DIGITS_APART:
        digits = pre_tokenizers.Digits(individual_digits=True)
        backend.pre_tokenizer = pre_tokenizers.Sequence([digits, backend.pre_tokenizer])
    elif pre not in AS_GPT2:
        return f'its pre-tokenizer "{pre}" is not known here; splitting as GPT-2 does may give other tokens'
    return None
