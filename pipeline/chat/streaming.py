"""Write one completion token by token: a cached loop over a batch of one.

For the same uniforms its tokens are those of :func:`pipeline.modeling.decoding.generation.generate`, up to
rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from pipeline.modeling.decoding.cache import roomy_cache
from pipeline.modeling.decoding.drawing import draw
from pipeline.modeling.roles import Role, language_model
from pipeline.modeling.tokens import decode
from pipeline.modeling.types import Tokenizer

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""How a text ends whose last character is written by more tokens than there are yet."""


class Stream:
    """A completion that grows by a token at each :meth:`step`, taken while its role is active.

    Args:
        noise: (T,) uniforms; T is the most tokens.
    Attributes:
        ids: the tokens so far, the end-of-sequence token included.
        ended: whether the model ended it, rather than the length.
    """

    def __init__(
        self, role: Role, tokenizer: Tokenizer, prompt_ids: Sequence[int], noise: Tensor, temperature: float
    ) -> None:
        self.role, self.tokenizer, self.prompt_ids = role, tokenizer, list(prompt_ids)
        self.noise, self.temperature = noise, temperature
        self.lm = language_model(role.model)
        self.head = cast("nn.Linear", self.lm.get_output_embeddings())
        self.cache = roomy_cache(self.lm.config, len(self.prompt_ids) + len(noise))
        self.ids: list[int] = []
        self.ended = False

    @property
    def over(self) -> bool:
        return self.ended or len(self.ids) == len(self.noise)

    @torch.no_grad()
    def step(self) -> None:
        """Draw the next token; the first step reads the prompt."""
        device, held = self.head.weight.device, len(self.prompt_ids) + len(self.ids) - 1
        new, start = (self.ids[-1:], held) if self.ids else (self.prompt_ids, 0)
        states = self.lm.base_model(
            input_ids=torch.tensor([new], device=device),
            position_ids=torch.arange(start, start + len(new), device=device)[None],
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        uniform = self.noise[len(self.ids)][None].to(device)
        self.ids.append(int(draw(self.head(states).float(), uniform, self.temperature)[0]))
        self.ended = self.ids[-1] == self.tokenizer.eos_token_id

    def text(self) -> str:
        """The completion so far, without a last character that is not whole yet."""
        text = decode(self.tokenizer, self.ids)
        return text if self.over else text.rstrip(UNFINISHED)
