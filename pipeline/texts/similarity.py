"""Similarity of completions, of one prompt and of different prompts, by the words they share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.texts.words import words

MOST_COMPARED = 2000
"""Completions that are compared with each other, evenly spaced where there are more: a table of n * n."""


def similarity(first: str, second: str) -> float:
    """How alike two texts are, 0 to 1: Dice's coefficient of their sets of word pairs (Dice 1945, Ecology 26).

    The beginning and the end of a text count as words, so that a text of one word, or of none, has pairs too.
    Equal texts have 1. It is symmetric, unlike BLEU, and has no zeros for want of one four-gram.
    """
    a, b = _pairs(first), _pairs(second)
    return 2 * len(a & b) / (len(a) + len(b))


def mean_similarity(
    completions: Sequence[str], groups: NDArray[np.int64] | Sequence[int]
) -> tuple[float | None, float | None]:
    """Mean :func:`similarity` of two completions (of one group, of different groups); None where there are none.

    Every pair counts; of more than ``MOST_COMPARED`` completions every pair of as many, of evenly spaced groups.
    """
    within, across = similarity_by_group(completions, groups)
    return (float(within.mean()) if len(within) else None, float(across.mean()) if len(across) else None)


def similarity_by_group(
    completions: Sequence[str], groups: NDArray[np.int64] | Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each group: the mean similarity (within it, with all others); without groups that have no pair."""
    of = np.asarray(groups, np.int64)
    kept = _spread(of)
    table = pairwise_similarity([completions[int(i)] for i in kept])
    return means_by_group(table, of[kept])


def pairwise_similarity(completions: Sequence[str]) -> NDArray[np.float32]:
    """(n, n) :func:`similarity` of every two texts."""
    from scipy.sparse import csr_matrix  # pyright: ignore[reportMissingTypeStubs]

    kinds: dict[tuple[str, str], int] = {}
    sets = [_pairs(text) for text in completions]
    columns = [kinds.setdefault(pair, len(kinds)) for pairs in sets for pair in pairs]
    starts = np.cumsum([0, *map(len, sets)])
    held: Any = csr_matrix((np.ones(len(columns), np.float32), columns, starts), (len(sets), len(kinds)))
    sizes = np.array([len(pairs) for pairs in sets], np.float32)
    return 2 * (held @ held.T).toarray() / (sizes[:, None] + sizes[None, :])


def means_by_group(
    table: NDArray[np.float32], groups: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each group, the mean of a symmetric table's entries (of two of its members, of one and an outsider)."""
    within: list[float] = []
    across: list[float] = []
    rows = table.sum(1, dtype=np.float64)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        block = table[np.ix_(members, members)].astype(np.float64)
        n, outsiders = len(members), len(groups) - len(members)
        if n > 1:
            within.append(float((block.sum() - np.trace(block)) / (n * (n - 1))))
        if outsiders:
            across.append(float((rows[members].sum() - block.sum()) / (n * outsiders)))
    return np.array(within), np.array(across)


def _pairs(text: str) -> set[tuple[str, str]]:
    return set(pairwise(["\x02", *words(text), "\x03"]))


def _spread(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of the completions that are compared: whole groups, evenly spaced."""
    if len(groups) <= MOST_COMPARED:
        return np.arange(len(groups))
    every = math.ceil(len(groups) / MOST_COMPARED)
    kept = np.flatnonzero(groups % every == 0)
    return kept[:MOST_COMPARED]
