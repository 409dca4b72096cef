"""Reward models whose score can be followed token by token, behind one protocol: adapters and classifiers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from pipeline.base.errors import ConfigError, ModelError
from pipeline.modeling.roles import active_adapter, language_model
from pipeline.modeling.states import hidden_states
from pipeline.modeling.tokens import eos_id
from pipeline.modeling.types import Tokenizer
from pipeline.scoring.foreign_reward_models import AdapterScorer, ClassifierScorer, encode_separately
from pipeline.scoring.reward_adapter import RewardRole, Scoring, score_rows
from pipeline.scoring.scorer import Conversation, Scorer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

AT_ONCE = 16
"""Texts that are read together, between two calls of ``between``."""

Between = Callable[[], object]
"""Called between parts of a long computation; what it raises ends the computation."""


@dataclass(frozen=True)
class TextIds:
    """The ids of one text as a reward model reads it; ``start`` and ``end`` stand around every text."""

    start: list[int]
    prompt: list[int]
    completion: list[int]
    end: list[int]

    def cut(self, length: int) -> list[int]:
        """All ids, with the first ``length`` of the completion's."""
        return [*self.start, *self.prompt, *self.completion[:length], *self.end]

    @property
    def before(self) -> int:
        return len(self.start) + len(self.prompt)


class FollowableModel(Protocol):
    """A reward model whose score can be followed token by token."""

    tokenizer: Tokenizer
    limit: int

    def ids(self, prompt: str | Conversation, completion: str) -> TextIds:
        """The text as this model reads it."""
        ...

    def scores(self, rows: list[list[int]]) -> Tensor:
        """(B,) the scores of whole rows of ids."""
        ...

    def decoder(self) -> nn.Module | None:
        """What gives the states that :meth:`read` takes; None where a score does not come from one state."""
        ...

    def read(self, states: Tensor) -> Tensor:
        """(...) the scores that states (..., H) have."""
        ...

    def with_gradient(self, ids: Tensor) -> Tensor:
        """(B,) the scores of rows (B, L) of equal length."""
        ...

    def body(self) -> PreTrainedModel:
        """The module that embeds the ids."""
        ...

    def active(self) -> AbstractContextManager[object]:
        """Within this the model is the reward model, where its base has other roles too."""
        ...


def followable(scorer: Scorer | None, tokenizer: Tokenizer) -> AdapterScorer | ClassifierScorer | None:
    """The scorer as one that :func:`token_scores` reads; None for a function, and for several models.

    Args:
        tokenizer: of a role that reads the policy's tokens.
    """
    if isinstance(scorer, RewardRole):
        return AdapterScorer(scorer, tokenizer)
    return scorer if isinstance(scorer, AdapterScorer | ClassifierScorer) else None


def followable_model(scorer: Scorer) -> FollowableModel:
    if isinstance(scorer, AdapterScorer):
        return FollowableAdapter(scorer)
    if isinstance(scorer, ClassifierScorer):
        return FollowableClassifier(scorer)
    mend = "Name one reward model: a version, a directory or a Hub id."
    raise ConfigError(type(scorer).__name__, "has no score after each token.", mend)


def fitting_ids(model: FollowableModel, prompt: str | Conversation, completion: str) -> TextIds:
    text = model.ids(prompt, completion)
    length = len(text.cut(len(text.completion)))
    if length > model.limit:
        raise ModelError("the text", f"has {length} tokens, the model reads {model.limit}.", "Shorten it.")
    return text


def _adapter_ids(tokenizer: Tokenizer, scoring: Scoring, prompt: str | Conversation, completion: str) -> TextIds:
    """The ids as a reward adapter reads them."""
    (prompt_ids,), (ids,) = encode_separately(tokenizer, [prompt], [completion])
    end = eos_id(tokenizer)
    ids = ids[: ids.index(end)] if end in ids else ids
    return TextIds([], prompt_ids, ids, [end] if scoring.score_position == "eos" else [])


class FollowableAdapter:
    """A reward adapter of this pipeline."""

    def __init__(self, scorer: AdapterScorer) -> None:
        self.role, self.tokenizer = scorer.role, scorer.tokenizer
        self.limit = getattr(self.role.model.config, "max_position_embeddings", None) or 10**9

    def ids(self, prompt: str | Conversation, completion: str) -> TextIds:
        return _adapter_ids(self.tokenizer, self.role.scoring, prompt, completion)

    def scores(self, rows: list[list[int]]) -> Tensor:
        with self.active():
            return self.role.scoring.normalised(score_rows(self.role.model, self._head(), rows))

    def decoder(self) -> nn.Module | None:
        return self.body().base_model

    def read(self, states: Tensor) -> Tensor:
        head = self._head()
        return self.role.scoring.normalised((states.to(head.dtype) @ head.T).squeeze(-1).float())

    def with_gradient(self, ids: Tensor) -> Tensor:
        return self.read(hidden_states(self.role.model, ids)[:, -1])

    def body(self) -> PreTrainedModel:
        return language_model(self.role.model)

    def active(self) -> AbstractContextManager[object]:
        return active_adapter(self.role.model, self.role.adapter)

    def _head(self) -> Tensor:
        return self.role.head.to(self.role.model.device)


class FollowableClassifier:
    """A sequence classifier: a raw logit; of a merged reward adapter normalised."""

    def __init__(self, scorer: ClassifierScorer) -> None:
        self._scorer, self._classifier = scorer, scorer.classifier
        self.tokenizer, self.limit = scorer.classifier.tokenizer, scorer.classifier.limit

    def ids(self, prompt: str | Conversation, completion: str) -> TextIds:
        if self._scorer.scoring is not None:
            return _adapter_ids(self.tokenizer, self._scorer.scoring, prompt, completion)
        before, answer, after, special = self._scorer.parts(prompt, completion)
        whole = self._ids(before + answer + after, special=special)
        body = self._ids(before + answer + after, special=False)
        first = next((i for i in range(len(whole) - len(body) + 1) if whole[i : i + len(body)] == body), None)
        if first is None:
            what = f"its tokenizer adds tokens inside a text, so {answer[:30]!r} cannot be cut."
            raise ModelError(f"reward model {self._scorer.name}", what)
        # A token that is partly the prompt's counts as the completion's.
        begin = self._tokens_within(before + answer + after, len(before))
        stop = len(body) - (len(self._ids(after, special=False)) if after else 0)
        return TextIds(whole[:first], body[:begin], body[begin:stop], [*body[stop:], *whole[first + len(body) :]])

    def scores(self, rows: list[list[int]]) -> Tensor:
        filled = [row or [self._classifier.start] for row in rows]
        return self._normalised(self._classifier.logits(filled)[:, self._scorer.output])

    def decoder(self) -> nn.Module | None:
        model = self._classifier.model
        has_head = isinstance(getattr(model, "score", None), nn.Linear) and not model.config.is_encoder_decoder
        return model.base_model if has_head else None

    def read(self, states: Tensor) -> Tensor:
        return self._normalised(self._classifier.model.score(states)[:, self._scorer.output].float())

    def with_gradient(self, ids: Tensor) -> Tensor:
        logits = self._classifier.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        return self._normalised(logits[:, self._scorer.output].float())

    def body(self) -> PreTrainedModel:
        return self._classifier.model

    def active(self) -> AbstractContextManager[object]:
        return nullcontext()

    def _normalised(self, raw: Tensor) -> Tensor:
        return raw if self._scorer.scoring is None else self._scorer.scoring.normalised(raw)

    def _ids(self, text: str, special: bool) -> list[int]:
        return self.tokenizer([text], add_special_tokens=special, verbose=False)["input_ids"][0]

    def _tokens_within(self, text: str, length: int) -> int:
        """How many tokens of ``text`` end within its first ``length`` characters."""
        offsets = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return sum(end <= length for _, end in offsets)
