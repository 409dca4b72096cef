"""A model of sentence embeddings, from a local directory or the Hub: texts to unit vectors. Safetensors only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.base.errors import ModelError


class TextEmbedder:
    """An encoder and its tokenizer; a text's vector is the mean of its tokens' states, of length 1.

    That is how sentence-transformers' models are made to be read (Reimers and Gurevych 2019, arXiv:1908.10084),
    unless their ``1_Pooling/config.json`` says that the first token stands for the text.
    """

    def __init__(self, model: Any, tokenizer: Any, first_token: bool = False) -> None:
        self.model, self.tokenizer, self.first_token = model, tokenizer, first_token
        positions = getattr(model.config, "max_position_embeddings", None) or 512
        self.limit = min(int(tokenizer.model_max_length), int(positions), 512)

    @torch.no_grad()
    def __call__(self, texts: Sequence[str], batch_size: int = 64) -> NDArray[np.float32]:
        """(n, d) vectors of length 1; of a text without tokens, 0."""
        found = np.zeros((len(texts), int(self.model.config.hidden_size)), np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), batch_size):
            index = order[start : start + batch_size]
            given = self.tokenizer(
                [texts[i] for i in index],
                padding=True,
                truncation=True,
                max_length=self.limit,
                return_tensors="pt",
            ).to(self.model.device)
            if given["input_ids"].shape[1] == 0:
                continue
            states = self.model(**given).last_hidden_state.float()
            mask = given["attention_mask"][..., None].to(states.dtype)
            pooled = states[:, 0] if self.first_token else (states * mask).sum(1)
            found[index] = torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()
        return found


def load_embedder(source: str, device: Any, where: str, key: str) -> TextEmbedder:
    """The model of ``source`` (directory or Hub id) in evaluation mode.

    Args:
        key: of the config, for messages.
    Raises:
        ModelError: no such model, no safetensors weights, no tokenizer that can pad.
    """
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # of copying weights; downloads keep theirs
    path = Path(source).expanduser()
    if not path.is_dir() and (path.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1):
        raise ModelError(where, f'{key}: no model directory "{source}".', "A Hub model is written org/name.")
    name = str(path) if path.is_dir() else source
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        model: Any = AutoModel.from_pretrained(name, use_safetensors=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as err:
        said = (str(err).strip().splitlines() or [type(err).__name__])[0][:200]
        mend = "Give a local directory or a Hub id whose weights are safetensors."
        raise ModelError(where, f'{key}: cannot load "{source}": {said}', mend) from err
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token_id is None:
        raise ModelError(where, f'{key}: the tokenizer of "{source}" has no padding token.', "Set its pad_token.")
    tokenizer.padding_side = "right"
    return TextEmbedder(model.to(device).eval().requires_grad_(False), tokenizer, _first_token(path))


def _first_token(path: Path) -> bool:
    """Whether sentence-transformers' settings beside the model say that its first token is read."""
    settings = path / "1_Pooling" / "config.json"
    if not settings.is_file():
        return False
    return bool(json.loads(settings.read_text(encoding="utf-8")).get("pooling_mode_cls_token"))
