"""Third-party sequence classifiers: loaded from safetensors only; batching changes no logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.base.errors import ConfigError, ModelError
from pipeline.functional.masks import length_mask
from pipeline.modeling.foreign_models import embeddings, load_foreign, positions, require_embeddings
from pipeline.modeling.tokens import right_pad
from pipeline.modeling.types import Device, Tokenizer

_OTHER_HEADS = ("ForTokenClassification", "ForMultipleChoice", "ForQuestionAnswering")
"""Suffixes of architectures whose heads can have a sequence classifier's names and shapes."""


class SequenceClassifier:
    """A Hugging Face model with a classification head, and its tokenizer."""

    def __init__(self, model: Any, tokenizer: Tokenizer, where: str = "classifier") -> None:
        self.model, self.tokenizer, self.where = model, tokenizer, where
        self.names = [str(model.config.id2label[i]) for i in range(model.config.num_labels)]
        self.limit = min(int(tokenizer.model_max_length), positions(model))
        self.truncated = 0

    def encode(
        self, texts: Sequence[str], *, special: bool = True, max_length: int | None = None
    ) -> list[list[int]]:
        """Ids of each text. Too long ones lose tokens on the tokenizer's ``truncation_side``, and are counted.

        Args:
            special: add the tokens that the model expects around a text, such as [CLS] and [SEP].
            max_length: largest number of tokens of a row, if below the model's.
        """
        if not texts:
            return []
        limit = min(self.limit, max_length or self.limit)
        rows = self.tokenizer(list(texts), add_special_tokens=special, verbose=False)["input_ids"]
        for i in [i for i, row in enumerate(rows) if len(row) > limit]:
            cut = self.tokenizer(texts[i], add_special_tokens=special, truncation=True, max_length=limit)
            rows[i] = cut["input_ids"]
            self.truncated += 1
        return rows

    @torch.no_grad()
    def logits(self, rows: Sequence[Sequence[int]], batch_size: int = 16) -> Tensor:
        """(N, labels) logits, float32 on the CPU. No row is empty.

        A row's logits are those of the row alone and unpadded, so batches only change the speed.

        Raises:
            ModelError: a row holds a token that the model has no embedding of.
        """
        highest, size = max((max(row) for row in rows), default=0), embeddings(self.model)
        if highest >= size:
            token = self.tokenizer.convert_ids_to_tokens(highest)
            what = f"a text holds token {highest} ({token!r:.60}) of its tokenizer, the model embeds {size}."
            raise ModelError(self.where, what, "Give the tokenizer that it was trained with.")
        out = torch.zeros(len(rows), len(self.names))
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        for start in range(0, len(order), batch_size):
            index = order[start : start + batch_size]
            out[index] = self._batch([rows[i] for i in index]).float().cpu()
        return out

    def _batch(self, rows: list[Sequence[int]]) -> Tensor:
        ids, lengths = right_pad(rows, self._first_usable(self.tokenizer.pad_token_id), self.model.device)
        mask = length_mask(lengths, ids.shape[1])
        batch = {"input_ids": ids, "attention_mask": mask.long()}
        head = getattr(self.model, "score", None)
        if not isinstance(head, nn.Linear) or self.model.config.is_encoder_decoder:
            return self.model(**batch).logits  # reads its first token, or pools under the mask
        # Decoders read the last token that is not config.pad_token_id. In a text that ends with that token
        # (pad = eos) Hugging Face reads the token before it, in training too; so does this. The padding of a batch
        # is known by the mask: a model without a padding token reads each row's last token.
        pad = self.model.config.get_text_config().pad_token_id
        counts = mask if pad is None else mask & (ids != pad)
        last = (counts * torch.arange(ids.shape[1], device=ids.device)).argmax(-1)
        states = self.model.base_model(**batch).last_hidden_state
        return head(states[torch.arange(len(rows), device=ids.device), last])

    @property
    def start(self) -> int:
        """The token a document starts with, used for an empty text."""
        tokenizer = self.tokenizer
        return self._first_usable(tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)

    def _first_usable(self, *ids: Any) -> int:
        # Some tokenizers have special tokens outside the embedding.
        rows = embeddings(self.model)
        return next((i for i in ids if i is not None and i < rows), 0)


def load_classifier(
    source: str,
    *,
    revision: str | None,
    device: Device,
    where: str,
    key: str,
    truncation_side: str = "left",
    dtype: torch.dtype | str = "auto",
) -> SequenceClassifier:
    """The classifier of ``source`` (directory or Hub id) in evaluation mode.

    Args:
        key: of the config, whose ``model`` named it, for messages.
        truncation_side: the side on which too long texts lose tokens.
    Raises:
        ModelError: see :func:`pipeline.modeling.foreign_models.load_foreign`; no trained head, or one of another
            kind.
    """
    from transformers import AutoModelForSequenceClassification

    name = f'classifier "{source}"'
    mend = f"Check {key}.model; a Hub model is written org/name."
    model, tokenizer = load_foreign(
        AutoModelForSequenceClassification,
        source, revision=revision, where=where, name=name, mend=mend, dtype=dtype,
    )  # fmt: skip
    _require_head(model.config, where, name)
    require_embeddings(model, tokenizer, where, name)
    tokenizer.truncation_side = truncation_side
    model.config.use_cache = False
    return SequenceClassifier(model.to(device), tokenizer, f"{where}: {name}")


def _require_head(config: Any, where: str, name: str) -> None:
    """Raises ModelError for another kind of head whose weights have the same names, and for missing labels."""
    unsuitable = [name for name in config.architectures or [] if name.endswith(_OTHER_HEADS)]
    if unsuitable:
        raise ModelError(
            where,
            f"{name} is a {unsuitable[0]}, not a sequence classifier.",
            "Choose one fine-tuned to classify texts.",
        )
    if not config.num_labels or sorted(config.id2label) != list(range(config.num_labels)):
        raise ModelError(
            where,
            f"{name}: id2label of its config.json does not name each of its {config.num_labels} outputs.",
            'Write {"0": ..., "1": ...} there, one for each.',
        )


def label_index(names: Sequence[str], label: str, where: str, key: str) -> int:
    """The output that ``label`` names, whatever its case.

    Raises:
        ConfigError: there is none, with what there is.
    """
    matching = [i for i, name in enumerate(names) if name.lower() == label.lower()]
    if matching and len(names) > 1:
        return matching[0]
    there = "one output and no labels" if len(names) == 1 else f"the labels {', '.join(names)}"
    raise ConfigError(
        where,
        f'{key}.label "{label}": the model has {there}.',
        "Remove label." if len(names) == 1 else "Name one of them.",
    )
