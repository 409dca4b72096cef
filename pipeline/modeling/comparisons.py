"""Sample comparisons to label: several completions of each prompt, from the base or from a policy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, cycle
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from pipeline.base.records import Comparison, bucket
from pipeline.modeling import tokens
from pipeline.modeling.decoding import generation
from pipeline.modeling.precision import note_slow_bf16, precision_name
from pipeline.modeling.roles import load_policy, merged_adapter
from pipeline.modeling.types import Device


class Pairing:
    """Makes comparisons of each prompt's completions, every two of them, and counts.

    Equal completions of a prompt are not compared, and no comparison is repeated.

    Args:
        opponents: for each prompt the texts that its completions are compared with instead, in turn. Which side
            they stand on depends on the texts alone.
    """

    def __init__(
        self, prompts: Sequence[str], per_prompt: int, opponents: Sequence[Sequence[str]] | None = None
    ) -> None:
        self.prompts, self.per_prompt, self.opponents = prompts, per_prompt, opponents
        self.pairs = self.kept = 0
        self._seen: set[str] = set()

    def of(self, texts: Iterable[str | None]) -> Iterator[tuple[int, Comparison]]:
        """``(index of the prompt, comparison)`` from the completions in the order of the prompts.

        Args:
            texts: None where there is none; it is in no comparison.
        """
        group: list[str | None] = []
        for i, text in enumerate(texts):
            group.append(text)
            if len(group) < self.per_prompt:
                continue
            index = i // self.per_prompt
            for a, b in self._compared(index, [t for t in group if t is not None]):
                self.pairs += 1
                comparison = Comparison(self.prompts[index], a, b)
                if a != b and comparison.id not in self._seen:
                    self._seen.add(comparison.id)
                    self.kept += 1
                    yield index, comparison
            group = []

    def _compared(self, index: int, completions: Sequence[str]) -> Iterator[tuple[str, str]]:
        if self.opponents is None:
            yield from combinations(completions, 2)
            return
        for text, opponent in zip(completions, cycle(self.opponents[index]), strict=False):
            swapped = bucket(f"{text}\0{opponent}", salt="side") < 0.5
            yield (opponent, text) if swapped else (text, opponent)

    def report(self) -> dict[str, Any]:
        """Counts for the manifest: pairs sampled, and those equal or repeated."""
        return {"sampled": self.pairs, "identical_or_repeated": self.pairs - self.kept}


class Sampling:
    """An iterable, for one pass, of ``(index of the prompt, comparison)``, each as soon as it is sampled.

    Args:
        base: directory or Hub id, and revision.
        policy: directory of an adapter or a model to sample from instead.
        per_prompt: completions of each prompt; every two of them are a comparison.
        device: to sample on.
        dtype: of all weights and activations.
        at_a_time: least number of completions sampled before the first comparison is yielded; by default all.
            It changes no comparison: all randomness is drawn beforehand.
        opponents: see :class:`Pairing`.
    """

    def __init__(
        self,
        base: tuple[str, str | None],
        policy: Path | None,
        prompts: Sequence[str],
        *,
        completion_tokens: int,
        per_prompt: int,
        temperature: float,
        batch_size: int,
        seed: int,
        device: Device = "cpu",
        dtype: torch.dtype = torch.float32,
        at_a_time: int | None = None,
        opponents: Sequence[Sequence[str]] | None = None,
    ) -> None:
        self._device, self._dtype = device, dtype
        self._base, self._policy, self._prompts = base, policy, prompts
        self._tokens, self._per_prompt = completion_tokens, per_prompt
        self._temperature, self._batch_size, self._seed = temperature, batch_size, seed
        # Whole batches: fewer completions than fill one take as long.
        self._rows = -(-(at_a_time or 10**12) // batch_size) * batch_size
        self._pairing = Pairing(prompts, per_prompt, opponents)
        self._ended = self._sampled = 0

    @property
    def total(self) -> int:
        """Completions to sample."""
        return len(self._prompts) * self._per_prompt

    def report(self) -> dict[str, Any]:
        """See :meth:`Pairing.report`; the share that ended; the precision."""
        return {
            **self._pairing.report(),
            "ended_share": round(self._ended / max(self._sampled, 1), 4),
            "precision": precision_name(self._dtype),
        }

    def __iter__(self) -> Iterator[tuple[int, Comparison]]:
        return self._pairing.of(self._completions())

    def _completions(self) -> Iterator[str]:
        from tqdm import tqdm

        model, tokenizer = load_policy(*self._base, self._policy, self._dtype)
        cast("nn.Module", model).to(self._device)
        if self._dtype == torch.bfloat16:
            note_slow_bf16("collect", model, self._device)
        limit = tokens.prompt_limit(model, self._tokens)
        repeated = [p for p in self._prompts for _ in range(self._per_prompt)]
        prompt_ids = tokens.encode_prompts(tokenizer, repeated, limit)
        generator = torch.Generator().manual_seed(self._seed)
        noise = generation.uniforms(self.total, self._tokens, generator)
        with tqdm(total=self.total, desc="sampling", unit="completion") as bar:
            for start in range(0, self.total, self._rows):
                part = slice(start, start + self._rows)
                with merged_adapter(model, self._policy and "policy"):
                    sampled = generation.generate(
                        model,
                        prompt_ids[part],
                        max_new_tokens=self._tokens,
                        eos_id=tokens.eos_id(tokenizer),
                        temperature=self._temperature,
                        noise=noise[part],
                        batch_size=self._batch_size,
                        progress=bar.update,
                    )
                self._sampled += len(sampled.lengths)
                self._ended += int(sampled.ended.sum())
                yield from (tokens.decode(tokenizer, row) for row in sampled.rows())
