"""Score a text after every token of its completion.

The score after a token is the one that the reward model gives the text cut there, so the last one is the score of
the whole text. A model that reads left to right has them all in one forward: where it reads its score on an end
token, or at the end of a chat template, every cut text gets such an end of its own, which sees that text and no
other end. Others read each cut text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.modeling.tokens import decode_all
from pipeline.modeling.types import Tokenizer
from pipeline.scoring.followable_models import (
    AT_ONCE,
    Between,
    FollowableModel,
    TextIds,
    fitting_ids,
    followable_model,
)
from pipeline.scoring.scorer import Conversation, Scorer
from pipeline.texts.score_course import Scores, changes_of

MOST_CUTS = 256
"""Most cut texts that are scored; of a longer completion several tokens go together."""

APART = 0.05
"""A score that differs more from a text's stored one is another reading: other precision, a shortened prompt."""


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
    model = followable_model(scorer)
    text = fitting_ids(model, prompt, completion)
    every = _in_one_forward(model, text)
    ends, pieces = _pieces(model.tokenizer, text.completion, MOST_CUTS if every is None else len(text.completion))
    lengths = [0, *ends]
    if every is not None:
        scores = every[lengths].tolist()
    else:
        scores = list[float]()
        for first in range(0, len(lengths), AT_ONCE):
            scores += model.scores([text.cut(n) for n in lengths[first : first + AT_ONCE]]).tolist()
            if between is not None:
                between()
    return TokenScores(scores[0], pieces, scores[1:])


@torch.no_grad()
def _in_one_forward(model: FollowableModel, text: TextIds) -> Tensor | None:
    """(T + 1,) scores of the text cut after 0 to T tokens; None where the model has to read each cut text.

    Three of them are compared with the cut texts' own: for a model that reads both ways, or that makes masks and
    positions of its own, this would be wrong.
    """
    decoder, cuts = model.decoder(), len(text.completion) + 1
    if decoder is None or not text.before:
        return None
    device = next(decoder.parameters()).device
    ids = torch.tensor([[*text.start, *text.prompt, *text.completion, *text.end * cuts]], device=device)
    more: dict[str, Tensor] = {}
    if text.end:
        mask, positions = _ends_apart(text)
        dtype = next(decoder.parameters()).dtype
        hidden = torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)
        more = {"attention_mask": hidden[None, None].to(device), "position_ids": positions[None].to(device)}
    try:
        with model.active():
            states = decoder(input_ids=ids, use_cache=False, **more).last_hidden_state[0]
    except (TypeError, ValueError, RuntimeError):  # its forward takes no such mask, or no positions
        return None
    last = torch.arange(cuts, device=device)
    last = text.before - 1 + last if not text.end else text.before + cuts - 2 + (last + 1) * len(text.end)
    scores = model.read(states[last]).float().cpu()
    some = sorted({0, cuts // 2, cuts - 1})
    alike = torch.allclose(scores[some], model.scores([text.cut(n) for n in some]), rtol=1e-2, atol=1e-2)
    return scores if alike else None


def _ends_apart(text: TextIds) -> tuple[Tensor, Tensor]:
    """(L, L) what each token sees, and (L,) positions, where the end of every cut text stands after the text."""
    length, width, cuts = text.before + len(text.completion), len(text.end), len(text.completion) + 1
    mask = torch.ones(length + cuts * width, length + cuts * width, dtype=torch.bool).tril()
    mask[length:, :] = False
    positions = torch.arange(len(mask))
    for cut in range(cuts):
        first = length + cut * width
        own = slice(first, first + width)
        mask[own, : text.before + cut] = True
        mask[own, own] = torch.ones(width, width, dtype=torch.bool).tril()
        positions[own] = text.before + cut + torch.arange(width)
    return mask, positions


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
