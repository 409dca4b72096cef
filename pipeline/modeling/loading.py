"""Load base models and tokenizers: safetensors only, no remote code, one clear line on an error."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from pipeline.base.errors import ModelError, first_line
from pipeline.modeling.portable import save_model_files, save_tokenizer
from pipeline.modeling.types import CausalLM, Tokenizer
from pipeline.modeling.vector_math import choose_code
from pipeline.modeling.weights import require_finite
from pipeline.sources.hub import model_commit

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
choose_code()  # whatever computes has loaded something


def load_tokenizer(source: str, revision: str | None = None) -> Tokenizer:
    """The tokenizer of ``source`` (Hub id or directory).

    Raises:
        ModelError: there is none, or it has no end-of-sequence token.
    """
    from transformers import AutoTokenizer

    _check_source(source)
    try:
        commit = at_commit(source, revision)
        tokenizer = AutoTokenizer.from_pretrained(source, revision=commit, trust_remote_code=False)
    except Exception as err:  # a damaged file can raise anything
        raise ModelError(source, f"no tokenizer could be loaded ({first_line(err)}).", _advice(source)) from err
    return usable_tokenizer(tokenizer, source)


def usable_tokenizer(tokenizer: Tokenizer, source: str) -> Tokenizer:
    """The tokenizer itself.

    Raises:
        ModelError: it has special tokens only, or no end-of-sequence token.
    """
    # Without files transformers builds one from the model's config, of special tokens only.
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise ModelError(source, "holds no tokenizer.", _advice(source))
    if tokenizer.eos_token_id is None:
        raise ModelError(source, "the tokenizer has no end-of-sequence token, so no completion could end.")
    return tokenizer


def load_causal_lm(source: str, revision: str | None = None, dtype: torch.dtype | str = "auto") -> PreTrainedModel:
    """The causal language model of ``source`` in evaluation mode.

    Raises:
        ModelError: it does not exist, is not a causal language model, has no safetensors weights, lacks some, or
            holds some that are not finite.
    """
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # of copying weights; downloads keep theirs
    _check_source(source)
    revision = at_commit(source, revision)
    try:
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    except Exception as err:  # a damaged file can raise anything
        raise ModelError(source, f"no model config could be loaded ({first_line(err)}).", _advice(source)) from err
    names = config.architectures or []
    if names and not any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names):
        raise ModelError(
            source, f"holds a {names[0]}, not a causal language model.", "Use one like openai-community/gpt2."
        )
    options: dict[str, Any] = {"use_safetensors": True, "trust_remote_code": False, "output_loading_info": True}
    try:
        with silent():
            loaded = AutoModelForCausalLM.from_pretrained(source, revision=revision, dtype=dtype, **options)
    except Exception as err:  # truncated weights, another shape, a config that makes no model
        raise ModelError(source, f"could not be loaded ({first_line(err)}).", _advice(source)) from err
    model, info = cast("tuple[PreTrainedModel, dict[str, Any]]", loaded)
    require_whole(model, info, source)
    return fuse_activations(model).eval()


def require_whole(model: CausalLM, info: dict[str, Any], source: str) -> None:
    """Raises ModelError if a weight is missing, which transformers would draw at random, or is not finite."""
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            source,
            f"lacks {len(missing)} weights of the model that its config.json describes, such as {missing[0]}.",
            "Download it again, or save it whole; the missing weights would be random.",
        )
    require_finite(model, source, "Download it again: training cannot repair them.")


def load_classifier(base: str, revision: str | None = None) -> PreTrainedModel:
    """A sequence classifier of one output, ``reward``, in fp32 over ``base``; its head is drawn at random."""
    from transformers import AutoModelForSequenceClassification

    revision = at_commit(base, revision)
    options: dict[str, Any] = {"revision": revision, "use_safetensors": True, "trust_remote_code": False}
    with silent():  # no base has the head
        model = AutoModelForSequenceClassification.from_pretrained(
            base, num_labels=1, dtype=torch.float32, **options
        )
    model.config.id2label, model.config.label2id = {0: "reward"}, {"reward": 0}
    return model


def require_fit(model: CausalLM, tokenizer: Tokenizer, source: str) -> None:
    """Check that the model has an embedding of every token of the tokenizer.

    Raises:
        ModelError: it has fewer.
    """
    rows = len(cast("torch.Tensor", cast("PreTrainedModel", model).get_input_embeddings().weight))
    highest = max(tokenizer.get_vocab().values(), default=0)
    if highest >= rows:
        raise ModelError(
            source,
            f"the tokenizer has tokens up to {highest}, the model an embedding of {rows}.",
            "Give the tokenizer it was trained with, or resize its embedding and train it.",
        )


@contextmanager
def silent() -> Generator[None]:
    """Silence transformers' tables of missing weights, which our one-line errors replace."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def save_model(model: PreTrainedModel, tokenizer: Tokenizer, directory: Path) -> None:
    """Write a whole model and its tokenizer in Hub format, without a progress bar."""
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        save_model_files(model, directory)
    finally:
        if bars:
            logging.enable_progress_bar()
    save_tokenizer(tokenizer, directory)


def fuse_activations(model: PreTrainedModel) -> PreTrainedModel:
    """Replace GPT-2's activation of seven operations by the fused kernel of the same function.

    Equal up to rounding; 6 % of a PPO update at 124M.
    """
    from transformers.activations import GELUTanh, NewGELUActivation

    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is NewGELUActivation:
                setattr(module, name, GELUTanh())
    return model


def at_commit(source: str, revision: str | None) -> str | None:
    """``revision`` as the commit it is, the same for all that this process loads of ``source``.

    Else a branch that moves between two downloads gives the weights of one commit and the tokenizer of another.
    """
    return model_commit(source, revision) or revision


def loaded_commit(source: str, revision: str | None = None) -> str | None:
    """The commit, in the cache, of a Hub repository that has just been loaded; None for a directory."""
    from huggingface_hub import try_to_load_from_cache

    if Path(source).is_dir():
        return None
    path = try_to_load_from_cache(source, "config.json", revision=revision)
    # .../snapshots/<commit>/config.json
    return Path(path).parent.name if isinstance(path, str) else None


def _check_source(source: str) -> None:
    looks_local = source.startswith((".", "/", "~")) or source.count("/") > 1
    if looks_local and not Path(source).expanduser().is_dir():
        raise ModelError(source, "no such directory.", "Give a directory that exists, or a Hub id like org/name.")
    if source.lower().endswith(".gguf") and Path(source).is_file():
        raise ModelError(source, "is a GGUF file, which only base_model may name.", "Give it there.")
    if Path(source, "adapter_config.json").is_file():
        raise ModelError(source, "is an adapter, not a base model.", "Give its base, or merge it: pipeline merge.")


def _advice(source: str) -> str:
    if Path(source).is_dir():
        return "A base directory holds config.json, model.safetensors and the tokenizer's files."
    return "Offline? Download it elsewhere and give the directory as base_model."
