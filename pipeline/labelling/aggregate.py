"""Aggregate several people's votes on an item into one outcome. Even votes are undecided, never drawn by lot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING

from pipeline.formats.read_options import Aggregation, Margin
from pipeline.labelling.items import Item, ranking
from pipeline.labelling.vote_models import Answers, Key, dawid_skene, strengths

if TYPE_CHECKING:
    from pipeline.labelling.log.answers import Vote

# Strengths and posteriors closer than this differ by rounding alone.
EQUAL = 1e-6

Pair = tuple[int, int]
Sides = Callable[[Key], tuple[Hashable, Hashable]]


@dataclass(frozen=True)
class Outcome:
    """The aggregated result of the votes on an item, or on one pair of a ranking.

    Attributes:
        choice: as :func:`items.parse_choice` spells it; the mean of ratings, as text; None: no decision.
        share: share of the votes for ``choice``, or for the most frequent choice without a decision. Of a
            ranking: the lowest share of a pair. None without votes.
        n: number of votes.
        confidence: posterior probability of ``choice`` (Dawid-Skene); of a ranking, of its least certain pair.
        margin: the winner's lead: votes for it minus votes for the loser, as a share of all votes; under
            Dawid-Skene, where votes differ, of the posteriors; under Bradley-Terry, of the strengths. None
            without a winning completion and after an adjudication.
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


def aggregate(
    votes: Mapping[str, Sequence[Vote]], items: Mapping[str, Item], how: Aggregation
) -> dict[str, Outcome]:
    """Aggregate the votes of every item that has any, except repeats (round 1) and gold items.

    - ``majority``: the choice with more votes than any other; a draw is no decision. Of a ranking, each pair of
      completions separately. Of ratings, the mean.
    - ``dawid_skene``: the most probable choice, see :func:`dawid_skene`; of ratings, the posterior's mean.
      Unanimous votes stand, whatever the model estimates of their annotators.
    - ``bradley_terry``: the stronger completion, see :func:`strengths`. A majority for ``both_bad`` stands.

    Args:
        votes: by item id, in any order.
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
    return outcomes | {i: _ranked(of_item, len(items[i].completions)) for i, of_item in pairs.items()}


def aggregate_pairs(
    answers: Mapping[str, Sequence[tuple[str, str]]],
    how: Aggregation,
    sides: Callable[[str], tuple[Hashable, Hashable]],
) -> dict[str, Outcome]:
    """:func:`aggregate` for comparisons given by id.

    Args:
        answers: (annotator, choice) of every vote, by comparison, in a canonical order: the order of a sum
            changes its last digits.
        sides: identifiers of a comparison's two completions, A's first; equal in comparisons that share one.
            Only ``bradley_terry`` calls it.
    """
    questions = {(comparison, 0): of_comparison for comparison, of_comparison in answers.items()}
    decided = _decided(questions, how, lambda key: sides(key[0]))
    return {comparison: outcome for (comparison, _), outcome in decided.items()}


def margin_of(outcome: Outcome, how: Margin, votes: Iterable[tuple[str, float | None]]) -> float | None:
    """The margin of a pair: the winner's lead (``share``), or the mean strength of the votes for it.

    Args:
        votes: (choice, strength) of every vote; None without a strength.
    """
    if how != "strength":
        return outcome.margin if how == "share" else None
    strengths = [strength for choice, strength in votes if choice == outcome.choice and strength is not None]
    if len(set(strengths)) == 1:
        return strengths[0]  # sum / n could differ from it in the last digit
    return sum(strengths) / len(strengths) if strengths else None


def adjudicated(item: Item, choice: str, votes: Sequence[Vote]) -> Outcome:
    """The outcome of an item that the operator decided, whatever its ``votes``."""
    share = sum(v.choice == choice for v in votes) / len(votes) if votes else None
    pairs: dict[Pair, Outcome] = {}
    if item.mode == "ranking":
        settled = zip(_pairs(len(item.completions)), pair_choices(choice), strict=True)
        pairs = {pair: Outcome(c, share, len(votes), adjudicated=True) for pair, c in settled}
    value = {"thumbs": float(choice == "like"), "rating": float(choice) if choice.isdigit() else None}
    return Outcome(choice, share, len(votes), value=value.get(item.mode), pairs=pairs, adjudicated=True)


@cache
def pair_choices(choice: str) -> tuple[str, ...]:
    """A ranking's choice on each pair ``(i, j)``, ``i < j``, in the order (0, 1), (0, 2), ...: a, b or tie."""
    rank_of = {i: rank for rank, tied in enumerate(ranking(choice)) for i in tied}
    differences = (rank_of[i] - rank_of[j] for i, j in _pairs(len(rank_of)))
    return tuple("a" if d < 0 else "b" if d > 0 else "tie" for d in differences)


def _decided(answers: Answers, how: Aggregation, sides: Sides | None) -> dict[Key, Outcome]:
    """By question. ``sides`` is None where completions are judged one at a time."""
    if how == "majority":
        return {key: _majority(_choices(votes)) for key, votes in answers.items()}
    if how == "dawid_skene":
        posteriors = dawid_skene(answers, sides=sides is not None) if answers else {}
        return {key: _most_probable(_choices(answers[key]), posterior) for key, posterior in posteriors.items()}
    assert sides is not None or not answers, "LabelSection refuses bradley_terry without comparisons"
    return _by_bradley_terry(answers, sides) if sides is not None else {}


def _answers(votes: Mapping[str, Sequence[Vote]], items: Mapping[str, Item]) -> Answers:
    """(annotator, choice) by question (an item, or a numbered pair of a ranking), sorted.

    The order of a sum changes its last digits.
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
    """Of the winner over the loser; None without a winner."""
    if choice not in ("a", "b"):
        return None
    return shares[choice] - shares.get("b" if choice == "a" else "a", 0.0)


def _most_probable(choices: Sequence[str], posterior: Mapping[str, float]) -> Outcome:
    plain = _majority(choices)
    if len(set(choices)) == 1:
        return replace(plain, confidence=posterior[choices[0]])
    best, second, *_ = sorted(posterior, key=lambda c: -posterior[c])
    if best.isdigit():
        # Posteriors are not more precise, and 4.9999 should equal 5.
        mean = round(sum(int(c) * p for c, p in posterior.items()), 2)
        return replace(plain, choice=f"{mean:.6g}", value=mean, confidence=posterior[best])
    choice = best if posterior[best] - posterior[second] > EQUAL else None
    return Outcome(
        choice,
        plain.share if choice is None else choices.count(choice) / len(choices),
        len(choices),
        confidence=posterior[best],
        margin=_lead(posterior, choice),
        value=None if plain.value is None else posterior["like"],
    )


def _by_bradley_terry(answers: Answers, sides: Sides) -> dict[Key, Outcome]:
    number: dict[Hashable, int] = {}
    places: dict[Key, Pair] = {}
    games: list[tuple[int, int, float]] = []
    for key, votes in answers.items():
        a, b = (number.setdefault(side, len(number)) for side in sides(key))
        places[key] = (a, b)
        won = {"a": [(a, b, 1.0)], "b": [(b, a, 1.0)], "tie": [(a, b, 0.5), (b, a, 0.5)]}
        for choice in _choices(votes):
            games += won.get(choice, [])
    winners, losers, weights = zip(*games, strict=True) if games else ((), (), ())
    x = strengths(winners, losers, weights, len(number))
    decided: dict[Key, Outcome] = {}
    for key, (a, b) in places.items():
        choices = _choices(answers[key])
        plain, lead = _majority(choices), float(x[a] - x[b])
        if plain.choice == "both_bad":
            decided[key] = plain
        elif abs(lead) <= EQUAL:
            decided[key] = replace(plain, choice="tie" if plain.choice == "tie" else None, margin=None)
        else:
            choice = "a" if lead > 0 else "b"
            decided[key] = Outcome(choice, choices.count(choice) / len(choices), len(choices), margin=abs(lead))
    return decided


def _ranked(pairs: Mapping[Pair, Outcome], n: int) -> Outcome:
    """The ranking that agrees with the outcome of every pair; no choice where the pairs form a cycle."""
    wins = Counter(pair["ab".index(o.choice)] for pair, o in pairs.items() if o.choice in ("a", "b"))
    levels = sorted({wins[i] for i in range(n)}, reverse=True)
    choice = ">".join("=".join(str(i) for i in range(n) if wins[i] == level) for level in levels)
    agrees = all(c == pairs[pair].choice for pair, c in zip(_pairs(n), pair_choices(choice), strict=True))
    share = min(o.share for o in pairs.values() if o.share is not None)
    confidence = min((o.confidence for o in pairs.values() if o.confidence is not None), default=None)
    votes = max(o.n for o in pairs.values())
    return Outcome(choice if agrees else None, share, votes, confidence=confidence, pairs=pairs)


@cache
def _pairs(n: int) -> tuple[Pair, ...]:
    return tuple(combinations(range(n), 2))


def _choices(votes: Sequence[tuple[str, str]]) -> list[str]:
    return [choice for _, choice in votes]
