"""A model of sentence embeddings, from a local directory or the Hub: texts to unit vectors. Safetensors only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from pipeline.base.errors import ModelError
from pipeline.modeling.foreign_models import load_foreign, positions, require_embeddings
from pipeline.modeling.loading import at_commit
from pipeline.modeling.types import Device, Tokenizer

_POOLING = "1_Pooling/config.json"
_READ = {"pooling_mode_cls_token", "pooling_mode_mean_tokens", "pooling_mode_mean_sqrt_len_tokens"}
"""The last differs from the mean in length only, which is normalised anyway."""


class TextEmbedder:
    """An encoder and its tokenizer; a text's vector is the normalised mean of its tokens' states.

    So sentence-transformers pools (Reimers and Gurevych 2019, arXiv:1908.10084), unless the model's
    ``1_Pooling/config.json`` chooses the first token.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: Tokenizer, first_token: bool = False) -> None:
        self.model, self.tokenizer, self.first_token = model, tokenizer, first_token
        self.limit = min(int(tokenizer.model_max_length), positions(model), 512)

    @torch.no_grad()
    def __call__(self, texts: Sequence[str], batch_size: int = 64) -> NDArray[np.float32]:
        """(n, d) vectors of length 1; 0 for a text without tokens."""
        vectors = np.zeros((len(texts), int(self.model.config.hidden_size)), np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), batch_size):
            index = order[start : start + batch_size]
            batch = self.tokenizer(
                [texts[i] for i in index],
                padding=True,
                truncation=True,
                max_length=self.limit,
                return_tensors="pt",
            ).to(self.model.device)
            if batch["input_ids"].shape[1] == 0:
                continue
            states = self.model(**batch).last_hidden_state.float()
            mask = batch["attention_mask"][..., None].to(states.dtype)
            pooled = states[:, 0] if self.first_token else (states * mask).sum(1)
            vectors[index] = torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()
        return vectors


def load_embedder(source: str, device: Device, where: str, key: str) -> TextEmbedder:
    """The model of ``source`` (directory or Hub id) in evaluation mode.

    Args:
        key: of the config, for messages.
    Raises:
        ModelError: see :func:`pipeline.modeling.foreign_models.load_foreign`; not an encoder, or another pooling.
    """
    from transformers import AutoModel

    where, name = f"{where}: {key}", f'"{source}"'
    model, tokenizer = load_foreign(
        AutoModel, source, revision=None, where=where, name=name,
        mend="A Hub model is written org/name.", unread=("pooler.",),
    )  # fmt: skip
    if model.config.is_encoder_decoder or not isinstance(getattr(model.config, "hidden_size", None), int):
        kind = ", ".join(model.config.architectures or [type(model).__name__])
        raise ModelError(where, f"{name} is a {kind}.", "Give an encoder: a model of sentence embeddings.")
    tokenizer.padding_side = "right"
    require_embeddings(model, tokenizer, where, name, also=[cast("int", tokenizer.pad_token_id)])
    return TextEmbedder(model.to(device), tokenizer, _first_token(source, where, name))


def _first_token(source: str, where: str, name: str) -> bool:
    """Whether the model's sentence-transformers settings pool by the first token.

    Raises:
        ModelError: they cannot be read, or choose neither that nor the mean.
    """
    path = _pooling_settings(source)
    if path is None:
        return False
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        modes = {str(k) for k, v in settings.items() if str(k).startswith("pooling_mode_") and v}
    except (OSError, ValueError, AttributeError) as err:
        mend = "Download it again, or remove it: then the mean of a text's tokens is read."
        raise ModelError(where, f"{name}: its {_POOLING} is damaged.", mend) from err
    if isinstance(mode := settings.get("pooling_mode"), str):
        modes = {f"pooling_mode_{mode}_token" if mode == "cls" else f"pooling_mode_{mode}_tokens"}
    if len(modes) > 1 or modes - _READ:
        raise ModelError(
            where,
            f"{name}: its {_POOLING} asks for {', '.join(sorted(modes))}.",
            "Choose a model that is read by the mean of its tokens or by the first one.",
        )
    return "pooling_mode_cls_token" in modes


def _pooling_settings(source: str) -> Path | None:
    """The path of the pooling settings, downloaded if need be; None if the model has none."""
    from huggingface_hub import hf_hub_download

    path = Path(source).expanduser()
    if path.is_dir():
        return path / _POOLING if (path / _POOLING).exists() else None
    try:
        return Path(hf_hub_download(source, _POOLING, revision=at_commit(source, None)))
    except (OSError, ValueError):  # the model itself has just been loaded from there
        return None
