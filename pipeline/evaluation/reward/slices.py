"""Accuracy by slice: by the values of a column, the size of a number, or which completion was longer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pipeline.results.reward import NamedAccuracy, Sections, Slice, SliceTable
from pipeline.statistics.bootstrap import Estimate, wilson

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# A column with more values than this is nearly an id; the rarest values are merged.
MOST_SLICES = 50

CODE = ("hep-cpp", "hep-go", "hep-java", "hep-js", "hep-python", "hep-rust")
REWARD_BENCH = {
    "Chat": ("alpacaeval-easy", "alpacaeval-length", "alpacaeval-hard", "mt-bench-easy", "mt-bench-med"),
    "Chat Hard": (
        *("mt-bench-hard", "llmbar-natural", "llmbar-adver-neighbor"),
        *("llmbar-adver-GPTInst", "llmbar-adver-GPTOut", "llmbar-adver-manual"),
    ),
    "Safety": (
        *("refusals-dangerous", "refusals-offensive"),
        *("xstest-should-refuse", "xstest-should-respond", "donotanswer"),
    ),
    "Reasoning": ("math-prm", *CODE),
}
"""The sections of RewardBench and the subsets in them (Lambert et al. 2024, arXiv:2403.13787, table 1)."""


def by_name(margins: ArrayLike, names: Sequence[str | None], level: float = 0.95) -> SliceTable | None:
    """Accuracy for each value of a column; of very many, the rarest together. None where no pair has a value.

    Args:
        margins: (n,) chosen score minus rejected score; 0 is a tie, which is wrong.
        names: (n,) values, None for a pair that has none.
    Returns:
        Rows in alphabetical order, and where every value is a subset of RewardBench its :func:`sections`.
    """
    counts = Counter(name for name in names if name is not None)
    kept = {name for name, _ in counts.most_common(MOST_SLICES)}
    others = f"{len(counts) - len(kept)} other values"
    column = [None if name is None else name if name in kept else others for name in names]
    order = [*sorted(kept), *([others] if len(counts) > len(kept) else [])]
    table = _table(margins, column, order, level)
    return None if table is None else replace(table, sections=sections(table.rows, level))


def by_size(
    margins: ArrayLike, values: Sequence[float | None], bins: int = 4, level: float = 0.95
) -> SliceTable | None:
    """Accuracy by how large a number of the pair is, in groups of about equal size.

    Pairs with equal values are in one group, so there may be fewer groups, and of unequal size.

    Args:
        margins: as in :func:`by_name`.
        values: (n,) such as the size of the gold margin; None where a pair has none.
    Returns:
        Rows from the smallest values to the largest. None where fewer than two groups can be told apart.
    """
    present = np.array([v for v in values if v is not None], dtype=np.float64)
    groups = mass_groups(present, bins)
    if len(set(groups.tolist())) < 2:
        return None
    spans = [(str(g), present[groups == g].min(), present[groups == g].max()) for g in np.unique(groups)]
    of_known = map(str, groups.tolist())
    column = [None if v is None else next(of_known) for v in values]
    table = _table(margins, column, [g for g, _, _ in spans], level)
    assert table is not None
    rows = tuple(
        Slice(
            f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}",
            row.accuracy,
            row.ties,
            float(low),
            float(high),
        )
        for row, (_, low, high) in zip(table.rows, spans, strict=True)
    )
    return replace(table, rows=rows)


def by_length(
    margins: ArrayLike, chosen: Sequence[str], rejected: Sequence[str], level: float = 0.95
) -> SliceTable | None:
    """Accuracy where the longer completion (in characters) was chosen, and where the shorter one was.

    A rule "longer wins" has 1 and 0, whatever the share of either kind, and so a ``macro`` of one half where both
    occur: the second slice shows what a length-biased set hides. Pairs of equal length are ``unknown``.
    """
    signs = [(len(c) > len(r)) - (len(c) < len(r)) for c, r in zip(chosen, rejected, strict=True)]
    names = {1: "longer chosen", -1: "shorter chosen"}
    return _table(margins, [names.get(sign) for sign in signs], list(names.values()), level)


def whole_items(margins: ArrayLike, items: Sequence[str]) -> tuple[NDArray[np.float64], list[int]] | None:
    """Of each item its smallest margin, which is above 0 where all its pairs are right, and its first pair.

    So counts RewardBench 2: the chosen one of four has to beat all the others.

    Returns:
        None where no item has two pairs.
    """
    data = np.asarray(margins, dtype=np.float64)
    keys = np.asarray(items, dtype=object).astype(str)
    _, first, index = np.unique(keys, return_index=True, return_inverse=True)
    if len(first) == len(data):
        return None
    least = np.full(len(first), np.inf)
    np.minimum.at(least, index, data)
    return least, first.tolist()


def sections(rows: Sequence[Slice], level: float = 0.95) -> Sections | None:
    """RewardBench's section scores, and their plain mean, its leaderboard score, where all four are there.

    A section's score is the accuracy over its pairs, except that ``math-prm`` weighs as much as all code subsets
    together. (The leaderboard of early 2024 had a fifth section, of prior sets, which is left out here.)

    Returns:
        None if a value is not a subset of RewardBench.
    """
    subsets = {row.name: row.accuracy for row in rows}
    if not subsets or set(subsets) - {name for names in REWARD_BENCH.values() for name in names}:
        return None
    scores: dict[str, Estimate] = {}
    for section, names in REWARD_BENCH.items():
        there = [n for n in names if n in subsets]
        code = sum(subsets[n].n for n in there if n in CODE)
        weights = [code if n == "math-prm" and code else subsets[n].n for n in there]
        if there:
            scores[section] = weighted_mean([subsets[n] for n in there], weights, level)
    whole = weighted_mean(list(scores.values()), None, level) if len(scores) == len(REWARD_BENCH) else None
    return Sections(tuple(NamedAccuracy(*score) for score in scores.items()), whole)


def weighted_mean(
    parts: Sequence[Estimate], weights: Sequence[float] | None = None, level: float = 0.95
) -> Estimate:
    """A weighted mean of independent proportions, by default the plain one.

    Each limit is as far off as the parts' own limits are, put together as squares (MOVER: Zou and Donner 2008,
    Statistics in Medicine 27), so that it stays honest for parts of few pairs, or all right. ``level`` is that of
    the parts.
    """
    shares = np.array(weights if weights is not None else [1.0] * len(parts), np.float64)
    shares /= shares.sum()
    value, low, high = (np.array([getattr(p, key) for p in parts]) for key in ("value", "low", "high"))
    mean = float(shares @ value)
    down = math.sqrt(float(((shares * (value - low)) ** 2).sum()))
    up = math.sqrt(float(((shares * (high - value)) ** 2).sum()))
    return Estimate(mean, max(mean - down, 0.0), min(mean + up, 1.0), sum(p.n for p in parts))


def mass_groups(values: NDArray[np.float64], groups: int) -> NDArray[np.int_]:
    """(n,) group of each value, from 0 for the smallest: about equally many in each, equal values in the same."""
    from scipy.stats import rankdata

    n = max(len(values), 1)
    # A value's mean rank is between 1 and n, so what is floored is below ``groups``.
    group = np.floor((rankdata(values) - 0.5) / n * groups).astype(int)
    # Around a value that many share a group may be of few: it joins the one below, or the first the one above.
    for small in np.unique(group)[1:].tolist():
        below = int(group[group < small].max())
        if min((group == small).sum(), (group == below).sum()) * 2 * groups < n:
            group[group == small] = below
    return group


def _table(
    margins: ArrayLike, column: Sequence[str | None], order: Sequence[str], level: float
) -> SliceTable | None:
    """A row for each of ``order`` that occurs; None where none does."""
    data = np.asarray(margins, dtype=np.float64)
    cells = np.array(["" if c is None else f"={c}" for c in column], dtype=object)
    slices = ((name, data[cells == f"={name}"]) for name in order)
    rows = tuple(
        Slice(name, wilson(int((own > 0).sum()), len(own), level), int((own == 0).sum()))
        for name, own in slices
        if len(own)
    )
    if not rows:
        return None
    parts = [row.accuracy for row in rows]
    n = sum(part.n for part in parts)
    micro = wilson(int((data[cells != ""] > 0).sum()), n, level)
    return SliceTable(rows, micro, weighted_mean(parts, None, level) if len(rows) > 1 else None, len(data) - n)
