"""Divide a reward model's score over the tokens of a text by integrated gradients.

The reference text has padding in the place of every token of prompt and completion (Sundararajan et al. 2017,
arXiv:1703.01365).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from pipeline.base.errors import ConfigError
from pipeline.modeling.tokens import decode_all, pad_id
from pipeline.scoring.followable_models import AT_ONCE, Between, fitting_ids, followable_model
from pipeline.scoring.scorer import Conversation, Scorer

STEPS = (64, 256, 1024)
"""Steps of the integral: the next number where the attributions do not add up."""

CLOSE = 0.02
"""Largest residual that is not tried again with more steps, as a share of the score difference."""


@dataclass(frozen=True)
class Attribution:
    """The difference of a score to that of a reference text, divided over the tokens by integrated gradients.

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
    model = followable_model(scorer)
    text = fitting_ids(model, prompt, completion)
    device = next(model.body().parameters()).device
    ids = torch.tensor([text.cut(len(text.completion))], device=device)
    padding = torch.full_like(ids, pad_id(model.tokenizer))
    first, last = len(text.start), text.before + len(text.completion)
    reference = torch.cat([ids[:, :first], padding[:, first:last], ids[:, last:]], 1)
    with model.active(), torch.no_grad():
        score, of_reference = (float(model.with_gradient(tokens)) for tokens in (ids, reference))
    attribution: Attribution | None = None
    forward = model.with_gradient if between is None else _pausing(model.with_gradient, between)
    for steps in STEPS:
        with model.active():
            gradients = layer_gradients(forward, model.body().get_input_embeddings())
            at_once = AT_ONCE if between is None else 2
            parts = gradients.attribute(ids, reference, n_steps=steps, internal_batch_size=at_once)
        values = parts.detach().double().sum(-1)[0].tolist()
        named = [
            (decode_all(model.tokenizer, [token]), value)
            for token, value in zip(ids[0].tolist(), values, strict=True)
        ]
        attribution = Attribution(
            named[first : text.before], named[text.before : last], score, of_reference, steps
        )
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
