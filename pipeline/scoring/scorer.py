"""The scorer's interface: a protocol, and the samples that a scorer reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from torch import Tensor

from pipeline.modeling.tokens import decode, decode_all, encode_completions, text_ids
from pipeline.modeling.types import Tokenizer

Conversation = Sequence[dict[str, str]]
"""Messages ``{"role": ..., "content": ...}``."""


@dataclass(frozen=True)
class Samples:
    """B prompts with a completion each, as ids and as text.

    Attributes:
        prompt_ids, completion_ids: read and sampled by the policy, a sampled end-of-sequence token included.
        tokenizer: the policy's.
        sources: the user's prompts, texts or conversations; None where only ids are known.
    """

    prompt_ids: Sequence[Sequence[int]]
    completion_ids: Sequence[Sequence[int]]
    tokenizer: Tokenizer
    sources: Sequence[str | Conversation | None] | None = None

    def __len__(self) -> int:
        return len(self.prompt_ids)

    def at(self, rows: slice) -> Samples:
        """Some of the samples."""
        sources = self.sources and self.sources[rows]
        return Samples(self.prompt_ids[rows], self.completion_ids[rows], self.tokenizer, sources)

    @cached_property
    def as_given(self) -> list[str | Conversation]:
        """The user's prompts, else decoded without special tokens."""
        sources = self.sources if self.sources is not None else [None] * len(self)
        return [self._decode(ids) if s is None else s for s, ids in zip(sources, self.prompt_ids, strict=True)]

    @cached_property
    def prompts(self) -> list[str]:
        """The prompts as text; a conversation is decoded from the policy's ids."""
        pairs = zip(self.as_given, self.prompt_ids, strict=True)
        return [g if isinstance(g, str) else self._decode(ids) for g, ids in pairs]

    @cached_property
    def completions(self) -> list[str]:
        """The completions as text, up to the end-of-sequence token."""
        return [decode(self.tokenizer, ids) for ids in self.completion_ids]

    @cached_property
    def stored_ids(self) -> list[list[int]]:
        """The ids that the tokenizer gives the completions' texts, which a reward model is trained on.

        Sampled ids can differ: a policy may spell a word with other tokens than its tokenizer.
        """
        return encode_completions(self.tokenizer, self.completions)

    @cached_property
    def texts(self) -> list[str]:
        """Prompt and completion as one text.

        Decoded together: alone, a completion loses its leading space under some tokenizers (SentencePiece).
        """
        out: list[str] = []
        columns = zip(self.prompts, self.completions, self.prompt_ids, self.completion_ids, strict=True)
        for prompt, completion, prompt_ids, ids in columns:
            joined = [*prompt_ids, *text_ids(self.tokenizer, ids)]
            start, whole = (decode_all(self.tokenizer, row) for row in (prompt_ids, joined))
            out.append(prompt + (whole[len(start) :] if whole.startswith(start) else completion))
        return out

    def _decode(self, ids: Sequence[int]) -> str:
        # Unlike tokens.decode not up to the first end-of-sequence token: a conversation has one per turn.
        return decode_all(self.tokenizer, ids, without_special=True)


class Scorer(Protocol):
    """Anything that maps prompts and completions to numbers."""

    def __call__(self, samples: Samples) -> Tensor:
        """(B,) scores, higher is better, float32 on the CPU.

        A score may depend on the other samples (:mod:`pipeline.modeling.novelty`), so it is not cached by text.
        """
        ...
