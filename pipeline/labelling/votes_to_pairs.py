"""Make preference pairs: within an item, between the items of a prompt, and from edits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from pipeline.base.records import Comparison, bucket, row_id
from pipeline.formats.families.unpaired import MOST_OTHERS
from pipeline.labelling.aggregate import Outcome, margin_of
from pipeline.labelling.items import Item
from pipeline.labelling.log.answers import Vote
from pipeline.labelling.log.event_checks import STRENGTHS
from pipeline.labelling.log.new_event import OPERATOR
from pipeline.labelling.settings import LabelSection

Row = dict[str, Any]
SplitRow = tuple[str, Row]


@dataclass(frozen=True)
class Decisions:
    """The aggregated votes.

    Attributes:
        items: all items by id, gold ones included.
        votes: first votes (round 0) by item.
        outcomes: by item, in the order of ``items``.
        counts: for the manifest; each step adds to it.
    """

    items: Mapping[str, Item]
    settings: LabelSection
    votes: Mapping[str, Sequence[Vote]]
    outcomes: Mapping[str, Outcome]
    counts: dict[str, int]

    def made_by(self, *item_ids: str) -> str:
        """The ``annotator`` of these items' rows: the only voter, else ``RULE:VOTES``."""
        settled = [i for i in item_ids if self.outcomes[i].adjudicated]
        votes = [v for i in item_ids if i not in settled for v in self.votes[i]]
        who = {v.annotator for v in votes} | ({OPERATOR} if settled else set())
        # A Bradley-Terry strength also depends on the votes on other pairs.
        if len(who) == 1 and (settled or self.settings.aggregate != "bradley_terry"):
            return who.pop()
        return f"{self.settings.aggregate}:{len(votes) + len(settled)}"


def preference_pairs(decisions: Decisions, edits: Iterable[SplitRow]) -> list[SplitRow]:
    """The distinct preference rows.

    Args:
        edits: rows of :data:`~pipeline.labelling.row_schemas.EDITS`.
    """
    pairs = [*_within_items(decisions), *_between_items(decisions), *_edit_pairs(decisions, edits)]
    return _once(pairs, decisions.counts)


def _within_items(decisions: Decisions) -> Iterator[SplitRow]:
    """Pairs decided within one item."""
    for item_id, outcome in decisions.outcomes.items():
        item = decisions.items[item_id]
        pairs = {(0, 1): outcome} if item.mode == "pairwise" else outcome.pairs
        for (i, j), pair in pairs.items():
            if pair.choice not in ("a", "b"):
                continue
            a, b = item.completions[i], item.completions[j]
            chosen, rejected = (a, b) if pair.choice == "a" else (b, a)
            margin, who = _margin(decisions, item_id, pair), decisions.made_by(item_id)
            yield item.split, _pair(Comparison(item.prompt, a, b), chosen, rejected, margin, who)


def _margin(decisions: Decisions, item_id: str, outcome: Outcome) -> float | None:
    votes = decisions.votes.get(item_id, [])
    strengths = ((v.choice, None if v.strength is None else STRENGTHS[v.strength]) for v in votes)
    return margin_of(outcome, decisions.settings.margin, strengths)


def _between_items(decisions: Decisions) -> Iterator[SplitRow]:
    """Pairs of completions of a prompt that differ in their likes or ratings."""
    groups: dict[tuple[str, str], list[tuple[Item, Outcome, float]]] = {}
    for item_id, outcome in decisions.outcomes.items():
        item = decisions.items[item_id]
        if item.mode in ("thumbs", "rating") and outcome.choice is not None:
            level = outcome.value if item.mode == "rating" else float(outcome.choice == "like")
            groups.setdefault((item.split, item.prompt), []).append((item, outcome, level or 0.0))
    for (split, _), group in groups.items():
        made = 0
        for i, j in _matches([item for item, _, _ in group]):
            (a, first, level_a), (b, second, level_b) = group[i], group[j]
            if level_a == level_b:
                continue
            made += 1
            chosen, rejected = (a, b) if level_a > level_b else (b, a)
            comparison = Comparison(a.prompt, a.completions[0], b.completions[0])
            margin = _distance(decisions, a, first, second)
            makers = decisions.made_by(a.id, b.id)
            yield split, _pair(comparison, chosen.completions[0], rejected.completions[0], margin, makers)
        same = Counter(level for _, _, level in group).values()
        decisions.counts["over_cap"] += _n_pairs(len(group)) - sum(map(_n_pairs, same)) - made


def _matches(items: Sequence[Item]) -> Iterator[tuple[int, int]]:
    """All pairs; of many items, each with the next eight in a ring ordered by a hash of the texts."""
    n = len(items)
    if n <= MOST_OTHERS + 1:
        yield from combinations(range(n), 2)
        return
    ring = sorted(range(n), key=lambda i: bucket(items[i].completions[0], salt="pairs"))
    for k in range(1, MOST_OTHERS // 2 + 1):
        for place, i in enumerate(ring):
            j = ring[(place + k) % n]
            yield min(i, j), max(i, j)


def _n_pairs(n: int) -> int:
    return n * (n - 1) // 2


def _distance(decisions: Decisions, item: Item, first: Outcome, second: Outcome) -> float | None:
    """The margin of two items' completions: the difference of ratings, or of shares of likes."""
    if decisions.settings.margin == "none" or first.value is None or second.value is None:
        return None
    likes = item.mode == "thumbs"
    if likes and (decisions.settings.margin != "share" or first.adjudicated or second.adjudicated):
        return None
    return abs(first.value - second.value)


def _edit_pairs(decisions: Decisions, edits: Iterable[SplitRow]) -> Iterator[SplitRow]:
    """Each edit as preferred to the completion it replaced."""
    for split, row in edits:
        replaced, text = decisions.items[row["item_id"]].completions[row["replaced"]], row["completion"]
        comparison = Comparison(row["prompt"], replaced, text)
        yield split, _pair(comparison, text, replaced, None, row["annotator"])


def _pair(comparison: Comparison, chosen: str, rejected: str, margin: float | None, annotator: str) -> Row:
    prompt = comparison.prompt
    row: Row = {"id": row_id(prompt, chosen, rejected), "prompt": prompt, "chosen": chosen, "rejected": rejected}
    return {**row, "margin": margin, "annotator": annotator, "comparison_id": comparison.id}


def _once(pairs: Iterable[SplitRow], counts: dict[str, int]) -> list[SplitRow]:
    """The first row of each pair; none of a pair that occurs in both directions."""
    first: dict[str, SplitRow] = {}
    for split, row in pairs:
        if row["id"] in first:
            counts["repeated"] += 1
        first.setdefault(row["id"], (split, row))
    kept = [(s, r) for s, r in first.values() if row_id(r["prompt"], r["rejected"], r["chosen"]) not in first]
    counts["contradictory"] += (len(first) - len(kept)) // 2
    return kept
