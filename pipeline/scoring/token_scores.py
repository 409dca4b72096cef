"""Score a text after every token of its completion, and attribute its score to its tokens.

The score after a token is the one that the reward model gives the text cut there, so the last one is the score of
the whole text. A model that reads left to right has them all in one forward: where it reads its score on an end
token, or at the end of a chat template, every cut text gets such an end of its own, which sees that text and no
other end. Others read each cut text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pipeline.base.errors import ConfigError, ModelError
from pipeline.modeling.roles import active_adapter, hidden_states, language_model
from pipeline.modeling.tokens import decode_all, eos_id, pad_id
from pipeline.modeling.types import Tokenizer
from pipeline.scoring.foreign_reward_models import AdapterScorer, ClassifierScorer, encode_separately
from pipeline.scoring.reward_adapter import RewardRole, Scoring, score_rows
from pipeline.scoring.scorer import Conversation, Scorer
from pipeline.texts.score_course import Scores, changes_of

MOST_CUTS = 256
"""Most cut texts that are scored; of a longer completion several tokens go together."""

AT_ONCE = 16
"""Texts that are read together, between two calls of ``between``."""

STEPS = (64, 256, 1024)
"""Steps of integrated gradients: the next number where the attributions do not add up."""

CLOSE = 0.02
"""Largest residual that is not tried again with more steps, as a share of the score difference."""

APART = 0.05
"""A score that differs more from a text's stored one is another reading: other precision, a shortened prompt."""

Between = Callable[[], object]
"""Called between parts of a long computation; what it raises ends the computation."""


@dataclass(frozen=True)
class TokenScores(Scores):
    """The course of a score over a completion.

    Attributes:
        before: the score of the prompt alone.
        pieces: the completion's tokens as text, together the completion; part of a character goes with the next.
        scores: of the text up to the end of each piece; of no piece, ``before`` is the score.
    """

    @property
    def score(self) -> float:
        """Of the whole text."""
        return self.scores[-1] if self.scores else self.before

    @property
    def changes(self) -> list[float]:
        """What each piece added to the score before it."""
        return changes_of(self)


@dataclass(frozen=True)
class Attribution:
    """The difference of a score to that of a reference text, divided over the tokens by integrated gradients.

    The reference text has padding in the place of every token of prompt and completion (Sundararajan et al. 2017,
    arXiv:1703.01365).

    Attributes:
        prompt, completion: (token as text, attribution) in order.
        score, reference: the two scores.
        steps: of the integral.
    """

    prompt: Sequence[tuple[str, float]]
    completion: Sequence[tuple[str, float]]
    score: float
    reference: float
    steps: int

    @property
    def residual(self) -> float:
        """The sum of all attributions less the difference of the two scores; 0 for an exact integral."""
        total = math.fsum(value for _, value in (*self.prompt, *self.completion))
        return total - (self.score - self.reference)

    @property
    def adds_up(self) -> bool:
        return abs(self.residual) <= CLOSE * max(abs(self.score - self.reference), CLOSE)


@dataclass(frozen=True)
class Row:
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


class _Reader(Protocol):
    """A reward model whose score can be followed token by token."""

    tokenizer: Tokenizer
    limit: int

    def row(self, prompt: str | Conversation, completion: str) -> Row: ...
    def scores(self, rows: list[list[int]]) -> Tensor: ...
    def decoder(self) -> Any: ...
    def read(self, states: Tensor) -> Tensor: ...
    def with_gradient(self, ids: Tensor) -> Tensor: ...
    def body(self) -> Any: ...
    def active(self) -> Any: ...


def followable(scorer: Scorer | None, tokenizer: Tokenizer) -> AdapterScorer | ClassifierScorer | None:
    """The scorer as one that :func:`token_scores` reads; None for a function, and for several models.

    Args:
        tokenizer: of a role that reads the policy's tokens.
    """
    if isinstance(scorer, RewardRole):
        return AdapterScorer(scorer, tokenizer)
    return scorer if isinstance(scorer, AdapterScorer | ClassifierScorer) else None


def same_score(score: float, stored: float) -> bool:
    """Whether a score is the one stored with the text, up to rounding."""
    return abs(score - stored) <= APART * max(1.0, abs(stored))


def token_scores(
    scorer: Scorer, prompt: str | Conversation, completion: str, between: Between | None = None
) -> TokenScores:
    """The score after every token of ``completion``.

    Args:
        between: see :data:`Between`; called where every cut text is read by itself.
    Raises:
        ConfigError: the scorer reads no tokens, as a function does, or is several models.
        ModelError: the text is longer than the model can read.
    """
    reader = _reader(scorer)
    row = _fitting(reader, prompt, completion)
    every = _in_one_forward(reader, row)
    ends, pieces = _pieces(reader.tokenizer, row.completion, MOST_CUTS if every is None else len(row.completion))
    lengths = [0, *ends]
    if every is not None:
        scores = every[lengths].tolist()
    else:
        scores = list[float]()
        for first in range(0, len(lengths), AT_ONCE):
            scores += reader.scores([row.cut(n) for n in lengths[first : first + AT_ONCE]]).tolist()
            if between is not None:
                between()
    return TokenScores(scores[0], pieces, scores[1:])


@torch.no_grad()
def _in_one_forward(reader: _Reader, row: Row) -> Tensor | None:
    """(T + 1,) scores of the text cut after 0 to T tokens; None where the model has to read each cut text.

    Three of them are compared with the cut texts' own: for a model that reads both ways, or that makes masks and
    positions of its own, this would be wrong.
    """
    decoder, cuts = reader.decoder(), len(row.completion) + 1
    if decoder is None or not row.before:
        return None
    device = next(decoder.parameters()).device
    ids = torch.tensor([[*row.start, *row.prompt, *row.completion, *row.end * cuts]], device=device)
    more: dict[str, Tensor] = {}
    if row.end:
        mask, positions = _ends_apart(row)
        dtype = next(decoder.parameters()).dtype
        hidden = torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)
        more = {"attention_mask": hidden[None, None].to(device), "position_ids": positions[None].to(device)}
    try:
        with reader.active():
            states = decoder(input_ids=ids, use_cache=False, **more).last_hidden_state[0]
    except (TypeError, ValueError, RuntimeError):  # its forward takes no such mask, or no positions
        return None
    last = torch.arange(cuts, device=device)
    last = row.before - 1 + last if not row.end else row.before + cuts - 2 + (last + 1) * len(row.end)
    scores = reader.read(states[last]).float().cpu()
    some = sorted({0, cuts // 2, cuts - 1})
    alike = torch.allclose(scores[some], reader.scores([row.cut(n) for n in some]), rtol=1e-2, atol=1e-2)
    return scores if alike else None


def _ends_apart(row: Row) -> tuple[Tensor, Tensor]:
    """(L, L) what each token sees, and (L,) positions, where the end of every cut text stands after the text."""
    length, width, cuts = row.before + len(row.completion), len(row.end), len(row.completion) + 1
    mask = torch.ones(length + cuts * width, length + cuts * width, dtype=torch.bool).tril()
    mask[length:, :] = False
    positions = torch.arange(len(mask))
    for cut in range(cuts):
        first = length + cut * width
        own = slice(first, first + width)
        mask[own, : row.before + cut] = True
        mask[own, own] = torch.ones(width, width, dtype=torch.bool).tril()
        positions[own] = row.before + cut + torch.arange(width)
    return mask, positions


def can_attribute() -> bool:
    """Whether captum is installed."""
    return find_spec("captum") is not None


def attribute(
    scorer: Scorer, prompt: str | Conversation, completion: str, between: Between | None = None
) -> Attribution:
    """Divide the score of a text over its tokens by captum's integrated gradients over the embedding.

    Args:
        between: see :data:`Between`; called before the gradient of every few steps.
    Raises:
        ConfigError: captum is not installed; or see :func:`token_scores`.
        ModelError: the text is longer than the model can read.
    """
    layer_gradients = _captum()
    reader = _reader(scorer)
    row = _fitting(reader, prompt, completion)
    device = next(reader.body().parameters()).device
    ids = torch.tensor([row.cut(len(row.completion))], device=device)
    padding = torch.full_like(ids, pad_id(reader.tokenizer))
    first, last = len(row.start), row.before + len(row.completion)
    reference = torch.cat([ids[:, :first], padding[:, first:last], ids[:, last:]], 1)
    with reader.active(), torch.no_grad():
        score, of_reference = (float(reader.with_gradient(text)) for text in (ids, reference))
    attribution: Attribution | None = None
    forward = reader.with_gradient if between is None else _pausing(reader.with_gradient, between)
    for steps in STEPS:
        with reader.active():
            gradients = layer_gradients(forward, reader.body().get_input_embeddings())
            at_once = AT_ONCE if between is None else 2
            parts = gradients.attribute(ids, reference, n_steps=steps, internal_batch_size=at_once)
        values = parts.detach().double().sum(-1)[0].tolist()
        named = [
            (decode_all(reader.tokenizer, [token]), value)
            for token, value in zip(ids[0].tolist(), values, strict=True)
        ]
        attribution = Attribution(named[first : row.before], named[row.before : last], score, of_reference, steps)
        if attribution.adds_up:
            break
    assert attribution is not None
    return attribution


def _pausing(forward: Callable[[Tensor], Tensor], between: Between) -> Callable[[Tensor], Tensor]:
    """``forward``, with a call of ``between`` before its gradient is computed.

    Then captum's hooks are off the embedding, which would replace what others read from it.
    """

    def pause(_gradient: Tensor) -> None:
        between()

    def run(ids: Tensor) -> Tensor:
        scores = forward(ids)
        if scores.requires_grad:
            scores.register_hook(pause)
        return scores

    return run


def _captum() -> Callable[..., Any]:
    try:
        from captum.attr import LayerIntegratedGradients
    except ImportError as err:
        mend = 'Install it: pip install "rlhf-pipeline[explain]", or pip install captum'
        raise ConfigError("--attribution", "needs captum, which is not installed.", mend) from err
    return LayerIntegratedGradients


def _reader(scorer: Scorer) -> _Reader:
    if isinstance(scorer, AdapterScorer):
        return _AdapterReader(scorer)
    if isinstance(scorer, ClassifierScorer):
        return _ClassifierReader(scorer)
    mend = "Name one reward model: a version, a directory or a Hub id."
    raise ConfigError(type(scorer).__name__, "has no score after each token.", mend)


def _fitting(reader: _Reader, prompt: str | Conversation, completion: str) -> Row:
    row = reader.row(prompt, completion)
    length = len(row.cut(len(row.completion)))
    if length > reader.limit:
        raise ModelError("the text", f"has {length} tokens, the model reads {reader.limit}.", "Shorten it.")
    return row


def _pieces(tokenizer: Tokenizer, ids: Sequence[int], most: int) -> tuple[list[int], list[str]]:
    """Where the completion is cut, as numbers of tokens, and the text between the cuts."""
    count = min(len(ids), most)
    candidates = sorted({round(len(ids) * (i + 1) / count) for i in range(count)})
    ends, pieces, text = list[int](), list[str](), ""
    for end in candidates:
        longer = decode_all(tokenizer, ids[:end])
        # The bytes of a character may be several tokens; alone they decode to U+FFFD.
        if longer.startswith(text) and (not longer.endswith("\ufffd") or end == len(ids)):
            ends.append(end)
            pieces.append(longer[len(text) :])
            text = longer
    if candidates and (not ends or ends[-1] != len(ids)):
        ends.append(len(ids))
        pieces.append(decode_all(tokenizer, ids)[len(text) :])
    return ends, pieces


def _scored_row(tokenizer: Tokenizer, scoring: Scoring, prompt: str | Conversation, completion: str) -> Row:
    """The ids as a reward adapter reads them."""
    (prompt_ids,), (ids,) = encode_separately(tokenizer, [prompt], [completion])
    end = eos_id(tokenizer)
    ids = ids[: ids.index(end)] if end in ids else ids
    return Row([], prompt_ids, ids, [end] if scoring.score_position == "eos" else [])


class _AdapterReader:
    """A reward adapter of this pipeline."""

    def __init__(self, scorer: AdapterScorer) -> None:
        self.role, self.tokenizer = scorer.role, scorer.tokenizer
        self.limit = getattr(self.role.model.config, "max_position_embeddings", None) or 10**9

    def row(self, prompt: str | Conversation, completion: str) -> Row:
        return _scored_row(self.tokenizer, self.role.scoring, prompt, completion)

    def scores(self, rows: list[list[int]]) -> Tensor:
        with self.active():
            return self.role.scoring.normalised(score_rows(self.role.model, self._head(), rows))

    def decoder(self) -> Any:
        return self.body().base_model

    def read(self, states: Tensor) -> Tensor:
        head = self._head()
        return self.role.scoring.normalised((states.to(head.dtype) @ head.T).squeeze(-1).float())

    def with_gradient(self, ids: Tensor) -> Tensor:
        return self.read(hidden_states(self.role.model, ids)[:, -1])

    def body(self) -> Any:
        return language_model(self.role.model)

    def active(self) -> Any:
        return active_adapter(self.role.model, self.role.adapter)

    def _head(self) -> Tensor:
        return self.role.head.to(self.role.model.device)


class _ClassifierReader:
    """A sequence classifier: a raw logit; of a merged reward adapter normalised."""

    def __init__(self, scorer: ClassifierScorer) -> None:
        self._scorer, self._classifier = scorer, scorer.classifier
        self.tokenizer, self.limit = scorer.classifier.tokenizer, scorer.classifier.limit

    def row(self, prompt: str | Conversation, completion: str) -> Row:
        if self._scorer.scoring is not None:
            return _scored_row(self.tokenizer, self._scorer.scoring, prompt, completion)
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
        return Row(whole[:first], body[:begin], body[begin:stop], [*body[stop:], *whole[first + len(body) :]])

    def scores(self, rows: list[list[int]]) -> Tensor:
        filled = [row or [self._classifier.start] for row in rows]
        return self._normalised(self._classifier.logits(filled)[:, self._scorer.output])

    def decoder(self) -> Any:
        model = self._classifier.model
        has_head = isinstance(getattr(model, "score", None), nn.Linear) and not model.config.is_encoder_decoder
        return model.base_model if has_head else None

    def read(self, states: Tensor) -> Tensor:
        return self._normalised(self._classifier.model.score(states)[:, self._scorer.output].float())

    def with_gradient(self, ids: Tensor) -> Tensor:
        logits = self._classifier.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        return self._normalised(logits[:, self._scorer.output].float())

    def body(self) -> Any:
        return self._classifier.model

    def active(self) -> Any:
        return nullcontext()

    def _normalised(self, raw: Tensor) -> Tensor:
        return raw if self._scorer.scoring is None else self._scorer.scoring.normalised(raw)

    def _ids(self, text: str, special: bool) -> list[int]:
        return self.tokenizer([text], add_special_tokens=special, verbose=False)["input_ids"][0]

    def _tokens_within(self, text: str, length: int) -> int:
        """How many tokens of ``text`` end within its first ``length`` characters."""
        offsets = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return sum(end <= length for _, end in offsets)
