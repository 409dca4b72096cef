"""Agreement statistics: people with each other, with themselves and with known answers; and their speed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from pipeline.labelling.aggregate import pair_choices
from pipeline.labelling.items import PAIRWISE_CHOICES, RATING_CHOICES, THUMBS_CHOICES, Item, Mode, as_shown
from pipeline.results.stats import to_json
from pipeline.statistics.intervals import SMALLEST_BOOTSTRAP, wilson

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline.labelling.log.answers import Vote
    from pipeline.labelling.log.events import Event

CHOICES: dict[Mode, tuple[str, ...]] = {
    "pairwise": PAIRWISE_CHOICES,
    "thumbs": THUMBS_CHOICES,
    "rating": RATING_CHOICES,
    "ranking": ("a", "b", "tie"),
}
RESAMPLES = 200
SEED = 0

# More items than this are grouped at random, and the groups are resampled: the estimates are ratios of sums over
# items, so their spread is the same, and the work stays bounded.
MOST_UNITS = 2000


@dataclass(frozen=True)
class _Table:
    """Round-0 votes on items other than gold, as arrays. Q questions: an item, or each pair of a ranking.

    Attributes:
        vote, question, code: (A,) indices of each answer's vote, question and choice. A vote is one answer; a
            ranking is one per pair of its completions.
        item: (Q,) index in ``items`` of each question's item.
        counts: (Q, K) votes of each choice.
    """

    items: list[str]
    votes: list[Vote]
    choices: tuple[str, ...]
    vote: NDArray
    question: NDArray
    code: NDArray
    item: NDArray
    counts: NDArray


def summary(
    items: Mapping[str, Item],
    votes: Sequence[Vote],
    skips: Sequence[Event],
    flags: Sequence[Event],
    too_fast_ms: int,
) -> dict[str, Any]:
    """Statistics of the votes for the operator, as plain JSON, with 95 % intervals.

    Agreement is computed from first votes (round 0) on items other than gold. A ranking counts as a vote on each
    pair of its completions: better (a), worse (b) or equal.

    Args:
        items: by id, gold ones included; all of one mode.
        votes, skips, flags: current ones, in any order.
    Returns:
        - ``raw``: share of pairs of votes on the same item that agree; ``n`` pairs, ``items`` with such a pair.
          Bootstrap over items (none below 20).
        - ``alpha``: Krippendorff's alpha, ordinal for ratings, else nominal; number of votes ``n`` and of
          ``items``; ``reason`` where it is undefined. Bootstrap over items.
        - ``position_bias``: share of decided votes for the completion at place 0 (of a ranking: where it is above
          that of place 1); Wilson's interval. None for thumbs and ratings.
        - ``annotators``: by id; ``votes``, ``too_fast``, ``median_ms`` of all their votes; ``skips``; ``flags``;
          ``agreement_with_majority``: with the most frequent choice of the others, where it is unique (of a
          ranking: mean share of its pairs); ``gold``: share of known answers matched; ``self_agreement``: of
          repeats with the first vote; ``position_bias``.
        - ``choices``: votes of each.
        - ``disputed``: items with two or more votes of which less than 2/3 are for one choice (of a ranking: on
          any pair); of ratings, those at least two apart. Most disputed first.
    """
    mode: Mode = next(iter(items.values())).mode if items else "pairwise"
    table = _table(items, votes, mode)
    raw, alpha = agreement(table.counts, table.item, ordinal=mode == "rating")
    won = [_first_won(v.choice, tuple(v.order), mode) for v in table.votes]
    return {
        "raw": raw,
        "alpha": alpha,
        "position_bias": _position_bias(won, mode),
        "annotators": _annotators(items, votes, skips, flags, too_fast_ms, table, won),
        "choices": dict(zip(table.choices, table.counts.sum(0).tolist(), strict=True)),
        "disputed": _disputed(table, mode),
    }


def krippendorff_alpha(coincidences: NDArray, *, ordinal: bool = False) -> NDArray:
    """Krippendorff's alpha from matrices of coincidences (Computing Krippendorff's Alpha-Reliability, 2011).

    Args:
        coincidences: (..., K, K); entry (c, k) is the sum, over units of m > 1 values, of their ordered pairs
            (c, k) divided by m - 1.
    Returns:
        (...) alpha; NaN where all values are the same, which leaves chance agreement undefined.
    """
    import numpy as np

    totals = coincidences.sum(-1)
    n = totals.sum(-1)
    if ordinal:
        ranks = totals.cumsum(-1) - totals / 2
        distance = (ranks[..., :, None] - ranks[..., None, :]) ** 2
    else:
        distance = 1.0 - np.eye(coincidences.shape[-1])
    observed = (coincidences * distance).sum((-1, -2))
    expected = (totals[..., :, None] * totals[..., None, :] * distance).sum((-1, -2))
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 - (n - 1) * observed / expected


def _table(items: Mapping[str, Item], votes: Sequence[Vote], mode: Mode) -> _Table:
    import numpy as np

    place = {i: n for n, i in enumerate(i for i, item in items.items() if item.gold is None)}
    counted = [v for v in votes if v.round == 0 and v.item in place]
    where = np.fromiter((place[v.item] for v in counted), dtype=np.int64, count=len(counted))
    choices = CHOICES[mode]
    if mode == "ranking":
        sizes = np.array([len(items[i].completions) for i in place], dtype=np.int64)
        questions = sizes * (sizes - 1) // 2
        code = np.array([choices.index(c) for v in counted for c in pair_choices(v.choice)], dtype=np.int64)
        each = questions[where]
        starts = (questions.cumsum() - questions)[where]
        ends = each.cumsum()
        question = np.repeat(starts - ends + each, each) + np.arange(len(code))
        vote = np.repeat(np.arange(len(counted)), each)
        item = np.repeat(np.arange(len(place)), questions)
    else:
        codes = {c: n for n, c in enumerate(choices)}
        code = np.fromiter((codes[v.choice] for v in counted), dtype=np.int64, count=len(counted))
        question, vote, item = where, np.arange(len(counted)), np.arange(len(place))
    k = len(choices)
    counts = np.bincount(question * k + code, minlength=len(item) * k).reshape(-1, k)
    return _Table(list(place), counted, choices, vote, question, code, item, counts)


def agreement(counts: NDArray, item: NDArray, *, ordinal: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
    """``raw`` and ``alpha`` of :func:`summary`, both from sums over items.

    Args:
        counts: (Q, K) votes of each choice on each question.
        item: (Q,) index of each question's item.
    """
    import numpy as np

    k, several = counts.shape[1], counts.sum(1) > 1
    counts, m = counts[several].astype(float), counts[several].sum(1)
    with_several, unit = np.unique(item[several], return_inverse=True)
    n_items, n_units = len(with_several), min(len(with_several), MOST_UNITS)
    agreeing, pairs = (counts * (counts - 1)).sum(1) / 2, m * (m - 1) / 2
    both = counts[:, :, None] * (counts[:, None, :] - np.eye(k)) / (m - 1)[:, None, None]
    rng = np.random.default_rng(SEED)
    if n_items > n_units:
        unit = (rng.permutation(n_items) % n_units)[unit]
    columns = [agreeing, pairs, *both.reshape(-1, k * k).T]
    sums = np.stack([np.bincount(unit, weights=c, minlength=n_units) for c in columns], axis=1)

    def estimates(totals: NDArray) -> tuple[NDArray, NDArray]:
        coincidences = totals[..., 2:].reshape(*totals.shape[:-1], k, k)
        with np.errstate(invalid="ignore"):
            return totals[..., 0] / totals[..., 1], krippendorff_alpha(coincidences, ordinal=ordinal)

    raw, alpha = estimates(sums.sum(0))
    spread: tuple[NDArray | None, NDArray | None] = (None, None)
    if n_items >= SMALLEST_BOOTSTRAP:
        draws = rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=RESAMPLES)
        spread = estimates(draws @ sums)
    reason = None if np.isfinite(alpha) else "all votes are the same" if n_items else "no item has two votes"
    return (
        {**_value(raw, spread[0]), "n": int(pairs.sum()), "items": n_items},
        {**_value(alpha, spread[1]), "n": int(m.sum()), "items": n_items, "reason": reason},
    )


def _value(value: NDArray, resampled: NDArray | None) -> dict[str, float | None]:
    """The estimate with its percentile interval; resamples where it is undefined are dropped."""
    import numpy as np

    defined = resampled[np.isfinite(resampled)] if resampled is not None else np.empty(0)
    if not np.isfinite(value) or not len(defined):
        return {"value": float(value) if np.isfinite(value) else None, "low": None, "high": None}
    low, high = np.percentile(defined, [2.5, 97.5])
    return {"value": float(value), "low": float(low), "high": float(high)}


def _share(successes: float, n: int) -> dict[str, Any]:
    """With Wilson's interval; all None for n = 0."""
    return to_json(wilson(successes, n)) if n else {"value": None, "low": None, "high": None, "n": 0}


def _position_bias(won: Sequence[bool | None], mode: Mode) -> dict[str, Any] | None:
    if mode in ("thumbs", "rating"):
        return None
    return _share(won.count(True), won.count(True) + won.count(False))


@cache
def _first_won(choice: str, order: tuple[int, ...], mode: Mode) -> bool | None:
    """Whether place 0 won (of a ranking: over place 1, so that chance is 1/2); None for a tie."""
    shown = as_shown(choice, mode, order)
    return {"a": True, "b": False}.get(pair_choices(shown)[0] if mode == "ranking" else shown)


def _annotators(
    items: Mapping[str, Item],
    votes: Sequence[Vote],
    skips: Sequence[Event],
    flags: Sequence[Event],
    too_fast_ms: int,
    table: _Table,
    won: Sequence[bool | None],
) -> dict[str, dict[str, Any]]:
    import numpy as np

    mode: Mode = next(iter(items.values())).mode if items else "pairwise"
    golds = {i: item.gold for i, item in items.items() if item.gold is not None}
    votes_of: dict[str, list[Vote]] = {e.annotator: [] for e in (*skips, *flags)}
    for v in votes:
        votes_of.setdefault(v.annotator, []).append(v)
    places: dict[str, list[bool | None]] = {who: [] for who in votes_of}
    for v, first in zip(table.votes, won, strict=True):
        places[v.annotator].append(first)
    skipped, flagged = Counter(e.annotator for e in skips), Counter(e.annotator for e in flags)
    with_majority = _with_majority(table)
    rows: dict[str, dict[str, Any]] = {}
    for who, own in sorted(votes_of.items()):
        gold = [v.choice == golds[v.item] for v in own if v.item in golds and v.round == 0]
        repeats = _repeat_agreement([v for v in own if v.item not in golds], mode)
        times = np.array([v.ms for v in own if v.ms is not None])
        rows[who] = {
            "votes": len(own),
            "skips": skipped[who],
            "flags": flagged[who],
            "agreement_with_majority": _share(*with_majority.get(who, (0, 0))),
            "gold": _share(sum(gold), len(gold)),
            "self_agreement": _share(sum(repeats), len(repeats)),
            "too_fast": _share(int((times < too_fast_ms).sum()), len(times)),
            "median_ms": float(np.median(times)) if len(times) else None,
            "position_bias": _position_bias(places[who], mode),
        }
    return rows


def _repeat_agreement(own: Sequence[Vote], mode: Mode) -> list[float]:
    """How far each repeat agrees with the same person's first vote; of a ranking, the share of equal pairs."""
    first = {v.item: v.choice for v in own if v.round == 0}
    repeats = [(v.choice, first[v.item]) for v in own if v.round > 0 and v.item in first]
    if mode != "ranking":
        return [float(a == b) for a, b in repeats]
    pairs = [list(zip(pair_choices(a), pair_choices(b), strict=True)) for a, b in repeats]
    return [sum(x == y for x, y in of_vote) / len(of_vote) for of_vote in pairs]


def _with_majority(table: _Table) -> dict[str, tuple[float, int]]:
    """(agreeing, votes) of each person against the others' most frequent choice, where it is unique."""
    import numpy as np

    others = table.counts[table.question]
    others[np.arange(len(others)), table.code] -= 1
    most = others.max(1, initial=0)
    clear = (others == most[:, None]).sum(1) == 1
    met = clear & (others[np.arange(len(others)), table.code] == most)
    n = len(table.votes)
    answers = np.bincount(table.vote, weights=clear, minlength=n)
    agreeing = np.bincount(table.vote, weights=met, minlength=n)
    number = {who: i for i, who in enumerate(dict.fromkeys(v.annotator for v in table.votes))}
    who = np.fromiter((number[v.annotator] for v in table.votes), dtype=np.int64, count=n)
    counted = answers > 0
    sums = np.bincount(who, weights=agreeing / np.maximum(answers, 1), minlength=len(number))
    votes = np.bincount(who, weights=counted, minlength=len(number))
    return {name: (float(sums[i]), int(votes[i])) for name, i in number.items()}


def _disputed(table: _Table, mode: Mode) -> list[dict[str, Any]]:
    import numpy as np

    counts, n = table.counts, len(table.items)
    m, most = counts.sum(1), counts.max(1, initial=0)
    if mode == "rating":
        numbers = np.arange(counts.shape[1])
        held = counts > 0
        apart = np.where(held, numbers, -1).max(1) - np.where(held, numbers, len(numbers)).min(1)
        dispute = np.where(apart >= 2, apart, 0).astype(float)
    else:
        dispute = np.where(3 * most < 2 * m, 1 - most / np.maximum(m, 1), 0.0)
    worst, size = np.zeros(n), np.zeros(n, dtype=np.int64)
    np.maximum.at(worst, table.item, dispute)
    np.maximum.at(size, table.item, m)
    queue = np.lexsort((np.arange(n), -size, -worst))[: int((worst > 0).sum())].tolist()
    if mode != "ranking":
        rows = [{c: n for c, n in zip(table.choices, row, strict=True) if n} for row in counts[queue].tolist()]
        return [{"item": table.items[i], "votes": row} for i, row in zip(queue, rows, strict=True)]
    rankings: dict[str, dict[str, int]] = {table.items[i]: {} for i in queue}
    for v in table.votes:
        if v.item in rankings:
            rankings[v.item][v.choice] = rankings[v.item].get(v.choice, 0) + 1
    return [{"item": item, "votes": dict(sorted(votes.items()))} for item, votes in rankings.items()]
