"""Load third-party models: from safetensors only, and only if no weight is missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.auto.auto_factory import _BaseAutoModelClass

from pipeline.base.errors import ModelError, first_line
from pipeline.modeling.loading import at_commit, silent
from pipeline.modeling.types import Tokenizer
from pipeline.modeling.weights import require_finite


def load_foreign(
    kind: type[_BaseAutoModelClass],
    source: str,
    *,
    revision: str | None,
    where: str,
    name: str,
    mend: str,
    unread: Sequence[str] = (),
    **more: object,
) -> tuple[Any, Tokenizer]:
    """A model and its tokenizer, which can pad, from a local directory or the Hub; the model in evaluation mode.

    Args:
        kind: one of transformers' ``Auto`` classes.
        where: the config's file, for messages.
        name: of the model in messages.
        mend: the advice if there is no directory of that name.
        unread: prefixes of weights that may be missing, as nothing here reads them.
        more: for ``from_pretrained``.
    Raises:
        ModelError: the model does not exist, is damaged, lacks weights, holds weights that are not finite or of
            another shape than its config states, or has no usable tokenizer.
    """
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # of copying weights; downloads keep theirs
    path = Path(source).expanduser()
    if not path.is_dir() and (path.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1):
        raise ModelError(where, f'no model directory "{source}".', mend)
    place = str(path) if path.is_dir() else source
    options: dict[str, Any] = {"revision": at_commit(place, revision) or "main", "trust_remote_code": False}
    try:
        with silent():
            tokenizer = AutoTokenizer.from_pretrained(place, **options)
            options |= {"use_safetensors": True, "output_loading_info": True, "ignore_mismatched_sizes": True}
            model, info = kind.from_pretrained(place, **options, **more)
    except Exception as err:  # a damaged file can raise anything
        mend = "Give a local directory or a Hub id whose weights are safetensors."
        raise ModelError(where, f"cannot load {name}: {first_line(err)}", mend) from err
    _require_whole(model, info, where, name, unread)
    _prepare_tokenizer(tokenizer, where, name)
    return model.eval().requires_grad_(False), tokenizer


def _require_whole(
    model: PreTrainedModel, info: dict[str, Any], where: str, name: str, unread: Sequence[str]
) -> None:
    missing = sorted(k for k in info["missing_keys"] if not k.startswith(tuple(unread)))
    kind = ", ".join(model.config.architectures or ["model of no stated architecture"])
    if missing:
        raise ModelError(
            where,
            f"{name} lacks trained weights: {', '.join(missing[:3])}. By its config.json it is a {kind}.",
            "Its answers would be random. Download it again, or choose one that was trained for this.",
        )
    if info["mismatched_keys"]:
        key, there, asked = sorted(info["mismatched_keys"])[0]
        raise ModelError(
            where,
            f"{name} holds {key} of another shape than its config.json says: {list(there)}, not {list(asked)}.",
            "Download it again: the two files are not of one model.",
        )
    require_finite(model, f"{where}: {name}", "Download it again: training cannot repair them.")


def _prepare_tokenizer(tokenizer: Tokenizer, where: str, name: str) -> None:
    """Give it a padding token. Raises ModelError if it cannot be used."""
    # Without files transformers builds one from the model's config, of special tokens only.
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise ModelError(where, f"{name} holds no tokenizer.", "Its directory needs the tokenizer's files too.")
    limit = tokenizer.model_max_length
    if not isinstance(limit, int | float) or not limit >= 1:
        raise ModelError(
            where,
            f"{name}: model_max_length of its tokenizer is {limit!r:.60}, not a number of tokens.",
            "Set it in tokenizer_config.json.",
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token_id is None:
        raise ModelError(
            where,
            f"{name}: the tokenizer has neither a padding nor an end token.",
            "Set pad_token in its tokenizer_config.json.",
        )


def require_embeddings(
    model: PreTrainedModel, tokenizer: Tokenizer, where: str, name: str, also: Sequence[int] = ()
) -> None:
    """Check that the model has an embedding of every ordinary token, and of those that are put around a text.

    Other special tokens may be out of range: the padding of some models is.

    Args:
        also: further tokens that the model reads.
    Raises:
        ModelError: it has fewer.
    """
    rows = embeddings(model)
    special = set(tokenizer.all_special_ids)
    used = [i for i in tokenizer.get_vocab().values() if i not in special]
    highest = max([*used, *also, *tokenizer("a")["input_ids"]], default=0)
    if highest >= rows:
        raise ModelError(
            where,
            f"{name}: the tokenizer has tokens up to {highest}, the model an embedding of {rows}.",
            "Give the tokenizer that it was trained with.",
        )


def embeddings(model: PreTrainedModel) -> int:
    """The number of tokens that the model has an embedding of."""
    return len(cast("Tensor", model.get_input_embeddings().weight))


def positions(model: PreTrainedModel) -> int:
    """The longest input in tokens that the model has positions for."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(limit, int) or limit <= 0:
        return 10**9
    # RoBERTa's positions begin after the padding's index: of 514, 512 can be used.
    taken = [
        m.padding_idx + 1
        for n, m in model.named_modules()
        if n.endswith("position_embeddings") and isinstance(m, nn.Embedding) and m.padding_idx is not None
    ]
    return limit - max(taken, default=0)
