"""Rewards for writing what the rest of the batch does not: functions for ``ppo.reward``, beside a reward model.

Each gives a completion minus the share of the batch's *other* completions that say the same: 0 for what nobody
else wrote, -1 for what all wrote. Leaving the completion itself out makes the mean independent of the batch's
size, so a weight that was tried with 64 completions means the same with 512. With several processes each compares
the share that it sampled.

Unlike other scores these depend on the batch: the same text scores differently among others. They know no
prompts: where many prompts have one right answer, they punish that answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from typing import Any

from pipeline.texts.sentences import closing, same, sentences
from pipeline.texts.words import ngrams


def closings(completions: Sequence[str], **_: Any) -> list[float]:
    """Minus the share of the others that end with the same sentence; of a cut text, its last whole one."""
    return [-max(shared, default=0.0) for shared in _shares([_ending(text) for text in completions])]


def common_sentences(completions: Sequence[str], **_: Any) -> list[float]:
    """Minus the share of the others that hold the same sentence, for the most common sentence of each completion.

    The most common and not their mean: one favourite would hide among sentences that are new.
    """
    found = [{same(sentence) for sentence in sentences(text)} for text in completions]
    return [-max(shared, default=0.0) for shared in _shares(found)]


def trigrams(completions: Sequence[str], **_: Any) -> list[float]:
    """Minus the mean over a completion's distinct word trigrams of the share of the others that hold them.

    For texts without sentences. A trigram of the language itself ("one of the") costs a little in every text.
    """
    found = [set(ngrams(text, 3)) for text in completions]
    return [-sum(shared) / len(shared) if shared else 0.0 for shared in _shares(found)]


def _ending(text: str) -> set[str]:
    last = same(closing(text, ended=False))
    return {last} if last else set()


def _shares(batch: Sequence[Collection[Hashable]]) -> list[list[float]]:
    """For each item of each text, the share of the other texts that hold it; 0 where there are no others."""
    counts = Counter(item for items in batch for item in items)
    others = max(len(batch) - 1, 1)
    return [[(counts[item] - 1) / others for item in items] for items in batch]
