"""Statistics of a log's votes for the operator: agreement, each person's figures, disputed items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from pipeline.labelling.aggregate import pair_choices
from pipeline.labelling.agreement import Alpha, RawAgreement, agreement
from pipeline.labelling.items import PAIRWISE_CHOICES, RATING_CHOICES, THUMBS_CHOICES, Item, Mode, as_shown
from pipeline.statistics.intervals import Estimate, wilson

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


@dataclass(frozen=True)
class PersonFigures:
    """One person's answers: shares with Wilson's interval, NaN where there is nothing to count.

    Attributes:
        agreement_with_majority: with the most frequent choice of the others, where it is unique (of a ranking:
            mean share of its pairs).
        gold: of known answers those matched.
        self_agreement: of repeats with the first vote.
        too_fast, median_ms: of all votes.
        position_bias: as in :class:`Summary`.
    """

    votes: int
    skips: int
    flags: int
    agreement_with_majority: Estimate
    gold: Estimate
    self_agreement: Estimate
    too_fast: Estimate
    median_ms: float | None
    position_bias: Estimate | None


@dataclass(frozen=True)
class Disputed:
    """An item whose voters differ, with the number of votes for each choice."""

    item: str
    votes: dict[str, int]


@dataclass(frozen=True)
class Summary:
    """Statistics of the votes for the operator, with 95 % intervals; see :func:`summary`.

    Attributes:
        raw, alpha: bootstrap over items (none below 20).
        position_bias: share of decided votes for the completion at place 0 (of a ranking: where it is above that
            of place 1); Wilson's interval. None for thumbs and ratings.
        annotators: by id.
        choices: votes of each.
        disputed: items with two or more votes of which less than 2/3 are for one choice (of a ranking: on any
            pair); of ratings, those at least two apart. Most disputed first.
    """

    raw: RawAgreement
    alpha: Alpha
    position_bias: Estimate | None
    annotators: dict[str, PersonFigures]
    choices: dict[str, int]
    disputed: list[Disputed]


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
) -> Summary:
    """Statistics of the votes.

    Agreement is computed from first votes (round 0) on items other than gold. A ranking counts as a vote on each
    pair of its completions: better (a), worse (b) or equal.

    Args:
        items: by id, gold ones included; all of one mode.
        votes, skips, flags: current ones, in any order.
    """
    mode: Mode = next(iter(items.values())).mode if items else "pairwise"
    table = _table(items, votes, mode)
    raw, alpha = agreement(table.counts, table.item, ordinal=mode == "rating")
    won = [_first_won(v.choice, tuple(v.order), mode) for v in table.votes]
    return Summary(
        raw,
        alpha,
        position_bias=_position_bias(won, mode),
        annotators=_annotators(items, votes, skips, flags, too_fast_ms, table, won),
        choices=dict(zip(table.choices, table.counts.sum(0).tolist(), strict=True)),
        disputed=_disputed(table, mode),
    )


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


def _position_bias(won: Sequence[bool | None], mode: Mode) -> Estimate | None:
    if mode in ("thumbs", "rating"):
        return None
    return wilson(won.count(True), won.count(True) + won.count(False))


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
) -> dict[str, PersonFigures]:
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
    rows: dict[str, PersonFigures] = {}
    for who, own in sorted(votes_of.items()):
        gold = [v.choice == golds[v.item] for v in own if v.item in golds and v.round == 0]
        repeats = _repeat_agreement([v for v in own if v.item not in golds], mode)
        times = np.array([v.ms for v in own if v.ms is not None])
        rows[who] = PersonFigures(
            len(own),
            skipped[who],
            flagged[who],
            agreement_with_majority=wilson(*with_majority.get(who, (0, 0))),
            gold=wilson(sum(gold), len(gold)),
            self_agreement=wilson(sum(repeats), len(repeats)),
            too_fast=wilson(int((times < too_fast_ms).sum()), len(times)),
            median_ms=float(np.median(times)) if len(times) else None,
            position_bias=_position_bias(places[who], mode),
        )
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


def _disputed(table: _Table, mode: Mode) -> list[Disputed]:
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
        return [Disputed(table.items[i], row) for i, row in zip(queue, rows, strict=True)]
    rankings: dict[str, dict[str, int]] = {table.items[i]: {} for i in queue}
    for v in table.votes:
        if v.item in rankings:
            rankings[v.item][v.choice] = rankings[v.item].get(v.choice, 0) + 1
    return [Disputed(item, dict(sorted(votes.items()))) for item, votes in rankings.items()]
