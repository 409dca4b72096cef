"""What a scorer is and what it sees. Who scores, and how, is in the modules beside this one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from torch import Tensor

from pipeline.modeling.tokens import decode, decode_all, encode_completions, said_ids
from pipeline.modeling.types import Tokenizer

Conversation = Sequence[dict[str, str]]
"""Messages ``{"role": ..., "content": ...}``."""


@dataclass(frozen=True)
class Samples:
    """B prompts with a completion each, as ids and as text.

    Attributes:
        prompt_ids, completion_ids: what the policy read and sampled, an end-of-sequence token included where it
            was sampled.
        tokenizer: the policy's.
        given: the prompts as the user gave them, texts or conversations; None where only ids are known.
    """

    prompt_ids: Sequence[Sequence[int]]
    completion_ids: Sequence[Sequence[int]]
    tokenizer: Tokenizer
    given: Sequence[str | Conversation | None] | None = None

    def __len__(self) -> int:
        return len(self.prompt_ids)

    @cached_property
    def as_given(self) -> list[str | Conversation]:
        """The prompts as the user gave them, else decoded without special tokens."""
        given = self.given if self.given is not None else [None] * len(self)
        return [self._decode(ids) if g is None else g for g, ids in zip(given, self.prompt_ids, strict=True)]

    @cached_property
    def prompts(self) -> list[str]:
        """The prompts as text; a conversation is decoded from what the policy read."""
        pairs = zip(self.as_given, self.prompt_ids, strict=True)
        return [g if isinstance(g, str) else self._decode(ids) for g, ids in pairs]

    @cached_property
    def completions(self) -> list[str]:
        """The completions as text, up to the end-of-sequence token."""
        return [decode(self.tokenizer, ids) for ids in self.completion_ids]

    @cached_property
    def stored_ids(self) -> list[list[int]]:
        """The completions' ids as they are once the text has been stored: what a reward model is trained on.

        Sampled ids can differ from them: a policy may spell a word with other tokens than its tokenizer does.
        """
        return encode_completions(self.tokenizer, self.completions)

    @cached_property
    def texts(self) -> list[str]:
        """Prompt and completion as one text.

        Decoded together: alone, a completion loses the space it begins with under some tokenizers (SentencePiece).
        """
        out: list[str] = []
        columns = zip(self.prompts, self.completions, self.prompt_ids, self.completion_ids, strict=True)
        for prompt, completion, prompt_ids, ids in columns:
            body = said_ids(self.tokenizer, ids)
            before, whole = (decode_all(self.tokenizer, row) for row in (prompt_ids, [*prompt_ids, *body]))
            out.append(prompt + (whole[len(before) :] if whole.startswith(before) else completion))
        return out

    def _decode(self, ids: Sequence[int]) -> str:
        # Unlike tokens.decode it does not end at the first end-of-sequence token: a conversation has one per turn.
        return decode_all(self.tokenizer, ids, without_special=True)


class Scorer(Protocol):
    """Anything that maps prompts and completions to numbers."""

    def __call__(self, samples: Samples) -> Tensor:
        """(B,) scores, higher is better, float32 on the CPU.

        A sample's score does not depend on the others, unless it is meant to (:mod:`pipeline.modeling.novelty`):
        so no score is kept by its text.
        """
        ...
