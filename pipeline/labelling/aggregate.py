"""Several people's votes on an item become one outcome. Which rows follow from it is decided in rows.py.

No outcome is ever drawn by lot: where the votes are even there is no choice, and a person has to decide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING

from pipeline.formats.read_options import Aggregation, Margin
from pipeline.labelling.items import Item, ranking

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline.labelling.log.answers import Vote

EM_ITERATIONS = 100
PRIOR_PRECISION = 1.0
MOST_STEPS = 10_000
# Strengths and posteriors closer than this differ by rounding alone.
EQUAL = 1e-6

Pair = tuple[int, int]
Key = tuple[str, int]
Answers = Mapping[Key, Sequence[tuple[str, str]]]
Sides = Callable[[Key], tuple[Hashable, Hashable]]


@dataclass(frozen=True)
class Outcome:
    """What the votes on an item, or on one pair of a ranking, come to.

    Attributes:
        choice: in the words of :func:`items.parse_choice`; the mean of ratings, as text; None: no decision.
        share: of the votes, those for ``choice``, or for the most frequent one where there is none. Of a ranking:
            that of the pair agreed on least. None where nobody voted.
        n: votes.
        confidence: posterior probability of ``choice`` (Dawid-Skene); of a ranking, of its least sure pair.
        margin: the winner's lead: its votes less the loser's, as a share of all votes; where votes differ under
            Dawid-Skene, of the posteriors; under Bradley-Terry, of the strengths. None where no completion won or
            an adjudication decided.
        value: share of likes (or its posterior, as with ``margin``), or mean rating; None for comparisons.
        pairs: of a ranking, the outcome of each pair ``(i, j)``, ``i < j``, where ``a`` is completion ``i``.
    """

    choice: str | None
    share: float | None
    n: int
    confidence: float | None = None
    margin: float | None = None
    value: float | None = None
    pairs: Mapping[Pair, Outcome] = field(default_factory=dict)
    adjudicated: bool = False

    @property
    def reason(self) -> str | None:
        """Why there is no choice."""
        return "split" if self.choice is None else None


def aggregate(
    votes: Mapping[str, Sequence[Vote]], items: Mapping[str, Item], how: Aggregation
) -> dict[str, Outcome]:
    """The outcome of every item with a vote. Repeats (round 1) and gold items are left out.

    - ``majority``: the choice with more votes than any other; several such: no decision. Of a ranking, each pair
      of completions on its own. Of ratings, the mean.
    - ``dawid_skene``: the most probable choice, see :func:`dawid_skene`; of ratings, the posterior's mean.
      Unanimous votes stand, a single one too, however little the model thinks of who gave them.
    - ``bradley_terry``: the completion of greater strength, see :func:`strengths`. A pair that most call bad on
      both sides stays so.

    Args:
        votes: by item id. Their order does not matter.
        items: all of one mode.
    """

    def sides(key: Key) -> tuple[Hashable, Hashable]:
        item = items[key[0]]
        i, j = _pairs(len(item.completions))[key[1]]
        return (item.prompt, item.completions[i]), (item.prompt, item.completions[j])

    answers = _answers(votes, items)
    compared = bool(answers) and items[next(iter(answers))[0]].mode in ("pairwise", "ranking")
    outcomes: dict[str, Outcome] = {}
    pairs: dict[str, dict[Pair, Outcome]] = {}
    for (item_id, number), outcome in _decided(answers, how, sides if compared else None).items():
        if items[item_id].mode == "ranking":
            pair = _pairs(len(items[item_id].completions))[number]
            pairs.setdefault(item_id, {})[pair] = outcome
        else:
            outcomes[item_id] = outcome
    return outcomes | {i: _ranked(some, len(items[i].completions)) for i, some in pairs.items()}


def aggregate_pairs(
    answers: Mapping[str, Sequence[tuple[str, str]]],
    how: Aggregation,
    sides: Callable[[str], tuple[Hashable, Hashable]],
) -> dict[str, Outcome]:
    """:func:`aggregate` of comparisons whose texts and people are elsewhere.

    Args:
        answers: (annotator, choice) of every vote, by comparison, in an order that does not depend on that of
            reading: sums in another order are other numbers in their last digits.
        sides: what stands for the two completions of a comparison, A's first; equal in two comparisons that share
            one. Only ``bradley_terry`` asks.
    """
    asked = {(comparison, 0): given for comparison, given in answers.items()}
    decided = _decided(asked, how, lambda key: sides(key[0]))
    return {comparison: outcome for (comparison, _), outcome in decided.items()}


def margin_of(outcome: Outcome, how: Margin, said: Iterable[tuple[str, float | None]]) -> float | None:
    """By how much a pair was won: the winner's lead (``share``), or the mean of what the votes for it say.

    Args:
        said: (choice, strength) of every vote; None where it says none.
    """
    if how != "strength":
        return outcome.margin if how == "share" else None
    known = [strength for choice, strength in said if choice == outcome.choice and strength is not None]
    if len(set(known)) == 1:
        return known[0]  # whose mean, as a sum divided, may be another number in its last digit
    return sum(known) / len(known) if known else None


def adjudicated(item: Item, choice: str, votes: Sequence[Vote]) -> Outcome:
    """The outcome of an item that somebody was asked to settle, whatever the ``votes`` on it say."""
    share = sum(v.choice == choice for v in votes) / len(votes) if votes else None
    pairs: dict[Pair, Outcome] = {}
    if item.mode == "ranking":
        settled = zip(_pairs(len(item.completions)), pair_choices(choice), strict=True)
        pairs = {pair: Outcome(c, share, len(votes), adjudicated=True) for pair, c in settled}
    value = {"thumbs": float(choice == "like"), "rating": float(choice) if choice.isdigit() else None}
    return Outcome(choice, share, len(votes), value=value.get(item.mode), pairs=pairs, adjudicated=True)


@cache
def pair_choices(choice: str) -> tuple[str, ...]:
    """What a ranking says of each pair ``(i, j)``, ``i < j``, in the order (0, 1), (0, 2), ...: a, b or tie."""
    place = {i: rank for rank, some in enumerate(ranking(choice)) for i in some}
    return tuple(
        "tie" if place[i] == place[j] else "a" if place[i] < place[j] else "b" for i, j in _pairs(len(place))
    )


def dawid_skene(answers: Mapping[Key, Sequence[tuple[str, str]]], *, sides: bool) -> dict[Key, dict[str, float]]:
    """Posterior of each choice, where each person has a confusion matrix of their own (Dawid and Skene 1979).

    Crowd-kit's EM from the majority's shares: at most 100 iterations, until the evidence lower bound per vote
    rises by less than 1e-5. Nothing in it is random.

    Args:
        answers: (annotator, choice) of every question.
        sides: whether the choices ``a`` and ``b`` are sides of a comparison, whose naming means nothing. Every
            question is then also asked the other way round; without that, a greater share of ``a`` among all
            comparisons would decide the even ones.
    """
    import pandas as pd
    from crowdkit.aggregation import DawidSkene

    keys = list(answers)
    swapped = {"a": "b", "b": "a"}
    asked = [(2 * n, who, choice) for n, key in enumerate(keys) for who, choice in answers[key]]
    if sides:
        asked += [(n + 1, who, swapped.get(choice, choice)) for n, who, choice in asked]
    frame = pd.DataFrame(asked, columns=["task", "worker", "label"])
    found = DawidSkene(n_iter=EM_ITERATIONS).fit_predict_proba(frame).sort_index()
    labels = [str(label) for label in found.columns]
    rows = found.to_numpy()[:: 2 if sides else 1]
    return {key: dict(zip(labels, map(float, row), strict=True)) for key, row in zip(keys, rows, strict=True)}


def strengths(winners: Sequence[int], losers: Sequence[int], weights: Sequence[float], n: int) -> NDArray:
    """Strengths ``x`` with P(i beats j) = 1 / (1 + exp(x_j - x_i)) (Bradley and Terry 1952), centred on 0.

    The most probable ones under independent N(0, 1) priors: a completion that won every game has no finite
    maximum-likelihood strength. Completions that are not linked by games do not influence each other.

    Found by Newton's method with the Hessian's upper bound, which needs no step size, as every step climbs
    (Böhning and Lindsay 1988); all tournaments at once. (choix, one tournament after the other, takes 0.5 ms each;
    crowd-kit's Bradley-Terry has no prior and wants every completion to have lost once.)

    Args:
        winners: index of the winner of each game.
        weights: of each game; a draw is half a game won by either side.
        n: completions.
    Returns:
        (n,) strengths, to 1e-8 or so.
    """
    import numpy as np
    from scipy.sparse import csc_array, diags_array, eye_array
    from scipy.sparse.linalg import splu
    from scipy.special import expit

    games = np.arange(len(winners))
    ones = np.ones(len(winners))
    places = (np.concatenate([games, games]), np.concatenate([winners, losers]).astype(int))
    played = csc_array((np.concatenate([ones, -ones]), places), shape=(len(winners), n))
    weight = np.asarray(weights, dtype=float)
    bound = played.T @ diags_array(weight / 4) @ played + PRIOR_PRECISION * eye_array(n)
    solver = splu(csc_array(bound))
    x = np.zeros(n)
    for _ in range(MOST_STEPS):
        step = solver.solve(played.T @ (weight * expit(-(played @ x))) - PRIOR_PRECISION * x)
        x += step
        if np.abs(step).max(initial=0.0) < 1e-10:
            break
    return x


def _decided(answers: Answers, how: Aggregation, sides: Sides | None) -> dict[Key, Outcome]:
    """By question. ``sides``: None where completions are judged one at a time."""
    if how == "majority":
        return {key: _majority(_choices(given)) for key, given in answers.items()}
    if how == "dawid_skene":
        return _by_dawid_skene(answers, sides is not None)
    assert sides is not None or not answers, "LabelSection refuses bradley_terry without comparisons"
    return _by_bradley_terry(answers, sides) if sides is not None else {}


def _answers(votes: Mapping[str, Sequence[Vote]], items: Mapping[str, Item]) -> Answers:
    """(annotator, choice) by question: an item, or a pair of a ranking by its number.

    Sorted, as sums in another order are other numbers in their last digits.
    """
    answers: dict[Key, list[tuple[str, str]]] = {}
    for item_id in sorted(votes):
        item = items.get(item_id)
        if item is None or item.gold is not None:
            continue
        for vote in sorted(votes[item_id], key=lambda v: v.annotator):
            if vote.round == 0:
                choices = pair_choices(vote.choice) if item.mode == "ranking" else (vote.choice,)
                for number, choice in enumerate(choices):
                    answers.setdefault((item_id, number), []).append((vote.annotator, choice))
    return answers


def _majority(choices: Sequence[str]) -> Outcome:
    counts, n = Counter(choices), len(choices)
    (best, most), *others = counts.most_common(2)
    choice = None if others and others[0][1] == most else best
    if best.isdigit():
        mean = sum(map(int, choices)) / n
        return Outcome(f"{mean:.6g}", most / n, n, value=mean)
    shares = {c: counts[c] / n for c in counts}
    value = shares.get("like", 0.0) if best in ("like", "dislike") else None
    return Outcome(choice, most / n, n, margin=_lead(shares, choice), value=value)


def _lead(shares: Mapping[str, float], choice: str | None) -> float | None:
    """Of the winner over the loser, where a side won."""
    if choice not in ("a", "b"):
        return None
    return shares[choice] - shares.get("b" if choice == "a" else "a", 0.0)


def _by_dawid_skene(answers: Answers, sides: bool) -> dict[Key, Outcome]:
    if not answers:
        return {}
    return {
        key: _most_probable(_choices(answers[key]), posterior)
        for key, posterior in dawid_skene(answers, sides=sides).items()
    }


def _most_probable(given: Sequence[str], posterior: Mapping[str, float]) -> Outcome:
    plain = _majority(given)
    if len(set(given)) == 1:
        return replace(plain, confidence=posterior[given[0]])
    best, second, *_ = sorted(posterior, key=lambda c: -posterior[c])
    if best.isdigit():
        # Posteriors are no sharper, and 4.9999 should not be worse than 5.
        mean = round(sum(int(c) * p for c, p in posterior.items()), 2)
        return replace(plain, choice=f"{mean:.6g}", value=mean, confidence=posterior[best])
    choice = best if posterior[best] - posterior[second] > EQUAL else None
    return Outcome(
        choice,
        plain.share if choice is None else given.count(choice) / len(given),
        len(given),
        confidence=posterior[best],
        margin=_lead(posterior, choice),
        value=None if plain.value is None else posterior["like"],
    )


def _by_bradley_terry(answers: Answers, sides: Sides) -> dict[Key, Outcome]:
    number: dict[Hashable, int] = {}
    places: dict[Key, Pair] = {}
    games: list[tuple[int, int, float]] = []
    for key, given in answers.items():
        a, b = (number.setdefault(side, len(number)) for side in sides(key))
        places[key] = (a, b)
        won = {"a": [(a, b, 1.0)], "b": [(b, a, 1.0)], "tie": [(a, b, 0.5), (b, a, 0.5)]}
        for choice in _choices(given):
            games += won.get(choice, [])
    winners, losers, weights = zip(*games, strict=True) if games else ((), (), ())
    x = strengths(winners, losers, weights, len(number))
    decided: dict[Key, Outcome] = {}
    for key, (a, b) in places.items():
        given = _choices(answers[key])
        plain, lead = _majority(given), float(x[a] - x[b])
        if plain.choice == "both_bad":
            decided[key] = plain
        elif abs(lead) <= EQUAL:
            decided[key] = replace(plain, choice="tie" if plain.choice == "tie" else None, margin=None)
        else:
            choice = "a" if lead > 0 else "b"
            decided[key] = Outcome(choice, given.count(choice) / len(given), len(given), margin=abs(lead))
    return decided


def _ranked(pairs: Mapping[Pair, Outcome], n: int) -> Outcome:
    """The ranking that says of every pair what was decided on it; none where pairs go round in circles."""
    wins = Counter(pair["ab".index(o.choice)] for pair, o in pairs.items() if o.choice in ("a", "b"))
    levels = sorted({wins[i] for i in range(n)}, reverse=True)
    choice = ">".join("=".join(str(i) for i in range(n) if wins[i] == level) for level in levels)
    agrees = all(said == pairs[pair].choice for pair, said in zip(_pairs(n), pair_choices(choice), strict=True))
    shares = [o.share for o in pairs.values() if o.share is not None]
    sure = [o.confidence for o in pairs.values() if o.confidence is not None]
    return Outcome(
        choice if agrees else None,
        min(shares),
        max(o.n for o in pairs.values()),
        confidence=min(sure) if sure else None,
        pairs=pairs,
    )


@cache
def _pairs(n: int) -> tuple[Pair, ...]:
    return tuple(combinations(range(n), 2))


def _choices(given: Sequence[tuple[str, str]]) -> list[str]:
    return [choice for _, choice in given]
