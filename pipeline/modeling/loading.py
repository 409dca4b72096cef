"""Loading base models and tokenizers: safetensors only, no remote code, one clear line when something is wrong."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from pipeline.base.errors import ModelError
from pipeline.modeling.types import CausalLM, Tokenizer
from pipeline.modeling.weights import require_finite

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def load_tokenizer(source: str, revision: str | None = None) -> Tokenizer:
    """The tokenizer of ``source`` (Hub id or directory).

    Raises:
        ModelError: none is there, or it has no end-of-sequence token.
    """
    from transformers import AutoTokenizer

    _check_source(source)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
    except Exception as err:  # of a damaged file, whatever its reader stumbles over
        raise ModelError(source, f"no tokenizer could be loaded ({_first_line(err)}).", _mend(source)) from err
    # Without files transformers makes one up from the model's config, which knows its special tokens alone.
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise ModelError(source, "holds no tokenizer.", _mend(source))
    if tokenizer.eos_token_id is None:
        raise ModelError(source, "the tokenizer has no end-of-sequence token, so no completion could end.")
    return tokenizer


def load_causal_lm(source: str, revision: str | None = None, dtype: torch.dtype | str = "auto") -> PreTrainedModel:
    """The causal language model of ``source`` in evaluation mode, dropout off by being in ``eval()``.

    Raises:
        ModelError: it is not there, is not a causal language model, has no safetensors weights, lacks some of
            them, or holds some that are no numbers.
    """
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # of copying weights; downloads keep theirs
    _check_source(source)
    try:
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    except Exception as err:  # of a damaged file, whatever its reader stumbles over
        raise ModelError(source, f"no model config could be loaded ({_first_line(err)}).", _mend(source)) from err
    kinds = config.architectures or []
    if kinds and not any(k.endswith(("ForCausalLM", "LMHeadModel")) for k in kinds):
        raise ModelError(
            source, f"holds a {kinds[0]}, not a causal language model.", "Use one like openai-community/gpt2."
        )
    given: dict[str, Any] = {"revision": revision, "dtype": dtype}
    given |= {"use_safetensors": True, "trust_remote_code": False, "output_loading_info": True}
    try:
        with silent():
            loaded: Any = AutoModelForCausalLM.from_pretrained(source, **given)
    except Exception as err:  # weights cut short, of another shape, or of a config that makes no model
        raise ModelError(source, f"could not be loaded ({_first_line(err)}).", _mend(source)) from err
    model, info = loaded
    _require_whole(model, info, source)
    return fuse_activations(model).eval()


def _require_whole(model: CausalLM, info: dict[str, Any], source: str) -> None:
    """Raises ModelError where a weight is not in the files, which would be drawn at random, or is no number."""
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            source,
            f"lacks {len(missing)} weights of the model that its config.json describes, such as {missing[0]}.",
            "Download it again, or save it whole; what is missing would be random.",
        )
    require_finite(model, source, "Download it again: no training mends them.")


def require_fit(model: CausalLM, tokenizer: Tokenizer, source: str) -> None:
    """Check that the model has a row of its embedding for each of the tokenizer's tokens.

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
    """Keep transformers' own tables of missing weights off the screen: what matters is said in one line."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def save_model(model: PreTrainedModel, tokenizer: Tokenizer, directory: Path) -> None:
    """Write a whole model and its tokenizer in Hub format, without transformers' bar for its shards."""
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model.save_pretrained(directory)
    finally:
        if bars:
            logging.enable_progress_bar()
    tokenizer.save_pretrained(directory)


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


def loaded_commit(source: str, revision: str | None = None) -> str | None:
    """The commit of a Hub repository that has just been loaded, as the cache has it; None for a directory."""
    from huggingface_hub import try_to_load_from_cache

    if Path(source).is_dir():
        return None
    found = try_to_load_from_cache(source, "config.json", revision=revision)
    # .../snapshots/<commit>/config.json
    return Path(found).parent.name if isinstance(found, str) else None


def _check_source(source: str) -> None:
    looks_local = source.startswith((".", "/", "~")) or source.count("/") > 1
    if looks_local and not Path(source).expanduser().is_dir():
        raise ModelError(source, "no such directory.", "Give a directory that exists, or a Hub id like org/name.")
    if Path(source, "adapter_config.json").is_file():
        raise ModelError(source, "is an adapter, not a base model.", "Merge it first, or give its base.")


def _first_line(err: Exception) -> str:
    return str(err).strip().splitlines()[0][:200].rstrip(".") if str(err).strip() else type(err).__name__


def _mend(source: str) -> str:
    if Path(source).is_dir():
        return "A base directory holds config.json, model.safetensors and the tokenizer's files."
    return "Offline? Download it elsewhere and give the directory as base_model."
