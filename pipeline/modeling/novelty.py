"""Novelty rewards: functions for ``ppo.reward``, beside a reward model.

Each is minus the share of the batch's *other* completions that say the same: 0 for a unique completion, -1 for one
that all share. Leaving the completion itself out makes the mean independent of the batch size, so a weight tuned
with 64 completions means the same with 512. With several processes each compares the share that it sampled.

Unlike other scores these depend on the batch. They do not read prompts: where many prompts have one right answer,
they punish that answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from typing import Any

from pipeline.texts.sentences import closing, same, sentences
from pipeline.texts.words import ngrams


def closings(completions: Sequence[str], **_: Any) -> list[float]:
    """Minus the share of the others that end with the same sentence; of a cut text, the last whole one."""
    return [-max(shared, default=0.0) for shared in _shares([_ending(text) for text in completions])]


def common_sentences(completions: Sequence[str], **_: Any) -> list[float]:
    """Minus the share of the others that hold the same sentence, for the most common sentence of each completion.

    Not their mean, in which one favourite would hide among new sentences.
    """
    sentence_sets = [{same(sentence) for sentence in sentences(text)} for text in completions]
    return [-max(shared, default=0.0) for shared in _shares(sentence_sets)]


def trigrams(completions: Sequence[str], **_: Any) -> list[float]:
    """Minus the mean over a completion's distinct word trigrams of the share of the others that hold them.

    For texts without sentences. A trigram of the language itself ("one of the") costs a little in every text.
    """
    trigram_sets = [set(ngrams(text, 3)) for text in completions]
    return [-sum(shared) / len(shared) if shared else 0.0 for shared in _shares(trigram_sets)]


def _ending(text: str) -> set[str]:
    last = same(closing(text, ended=False))
    return {last} if last else set()


def _shares(batch: Sequence[Collection[Hashable]]) -> list[list[float]]:
    """For each item of each text, the share of the other texts that hold it; 0 where there are no others."""
    counts = Counter(item for items in batch for item in items)
    others = max(len(batch) - 1, 1)
    return [[(counts[item] - 1) / others for item in items] for items in batch]
