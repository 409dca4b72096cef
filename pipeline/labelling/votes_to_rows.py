"""Make rows from votes: preferences, liked and disliked completions, edits, single votes. Names never appear.

:mod:`pipeline.labelling.rows_to_votes` is the reverse.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from pipeline.base.records import PEOPLES_VOTES, digest
from pipeline.labelling.aggregate import Outcome, adjudicated, aggregate
from pipeline.labelling.items import Item
from pipeline.labelling.log.answers import Vote
from pipeline.labelling.log.events import Event
from pipeline.labelling.row_schemas import SPLITS
from pipeline.labelling.settings import LabelSection
from pipeline.labelling.votes_to_pairs import Decisions, Row, SplitRow, preference_pairs

COUNTS = (
    "items", "done", "decided", "ties", "both_bad", "split_votes", "unanswered", "fewer_votes", "adjudicated",
    "votes", "gold_votes", "repeats", "skipped", "flagged", "without_consent", "unknown_item",
    "pairs", "unpaired", "edits", "repeated", "contradictory", "over_cap", "without_margin", "middling",
)  # fmt: skip

# Mean ratings at or above which a completion counts as liked, at or below which as disliked.
LIKED, DISLIKED = 4.0, 2.0

Answer = TypeVar("Answer", Vote, Event)


@dataclass(frozen=True)
class Labelled:
    """The items, the rows of each kind by split, and counts for the manifest.

    Of ``items`` (without gold ones), ``done`` have as many votes as required or are ``adjudicated``; by outcome
    they are ``decided``, ``ties``, ``both_bad``, ``split_votes`` or ``unanswered``. Items with ``fewer_votes``
    than required make rows too. ``votes`` include ``gold_votes`` and ``repeats``; ``flagged`` counts items;
    ``without_consent`` and ``unknown_item`` count dropped votes, skips and edits.

    ``pairs``, ``unpaired`` and ``edits`` are rows. Dropped pairs: ``repeated`` ones, ``contradictory`` ones (in
    both directions), and those ``over_cap`` (a completion is compared with at most 16 others of its prompt).
    ``without_margin``: pairs that lack the requested margin. ``middling``: mean ratings between 2 and 4.
    """

    items: Sequence[Item]
    preferences: dict[str, list[Row]]
    votes: dict[str, list[Row]]
    unpaired: dict[str, list[Row]]
    edits: dict[str, list[Row]]
    outcomes: dict[str, list[Row]]
    counts: dict[str, int]


@dataclass(frozen=True)
class Labelling:
    """The items and the answers to them.

    Attributes:
        items: gold ones included; they give the rows' order.
        votes: current ones, gold and repeats included; in any order, like ``edits`` and ``skips``.
        adjudications: choice by item id; they override the votes.
        consents: sha256 of the text agreed to last, by annotator; by default that of the newest vote.
    """

    items: Sequence[Item]
    settings: LabelSection
    votes: Sequence[Vote] = ()
    skips: Sequence[Event] = ()
    edits: Sequence[Event] = ()
    flags: Sequence[Event] = ()
    adjudications: Mapping[str, str] = field(default_factory=dict[str, str])
    consents: Mapping[str, str] = field(default_factory=dict[str, str])


def labelled(labelling: Labelling) -> Labelled:
    """Make the rows. Gold items and repeats make no training rows; answers without consent are dropped."""
    counts: dict[str, int] = dict.fromkeys(COUNTS, 0)
    items = {i.id: i for i in labelling.items}
    agreed = _consents(labelling)
    votes = _usable(labelling.votes, items, counts, lambda v: v.consent)
    skips = _usable(labelling.skips, items, counts, lambda e: _consent(e, agreed))
    edits = _usable(labelling.edits, items, counts, lambda e: _consent(e, agreed))
    decisions = _decide(labelling, items, votes, counts)
    answers = [(v.seq, items[v.item].split, _vote_row(v, items[v.item])) for v in votes]
    answers += [(e.seq, items[e.item or ""].split, _skip_row(e, items[e.item or ""], agreed)) for e in skips]
    edit_rows = [row for e in edits for row in _edit_rows(e, items[e.item or ""], agreed)]
    pairs = preference_pairs(decisions, edit_rows)
    unpaired = _by_split(_unpaired_rows(decisions))
    counts |= {
        **_counts_by_outcome(decisions),
        "votes": len(votes),
        "gold_votes": sum(items[v.item].gold is not None for v in votes),
        "repeats": sum(v.round > 0 for v in votes),
        "skipped": len(skips),
        "flagged": len({f.item for f in labelling.flags}),
        "pairs": len(pairs),
        "unpaired": sum(map(len, unpaired.values())),
        "edits": len(edit_rows),
    }
    if labelling.settings.margin != "none":
        counts["without_margin"] = sum(row["margin"] is None for _, row in pairs)
    return Labelled(
        items=labelling.items,
        preferences=_by_split(pairs),
        votes=_by_split((split, row) for _, split, row in sorted(answers, key=lambda a: a[0])),
        unpaired=unpaired,
        edits=_by_split(edit_rows),
        outcomes=_by_split(_outcome_rows(decisions)),
        counts=counts,
    )


def answered_only(rows: Labelled) -> Labelled:
    """Without items that have no vote, skip or edit: where people typed them, these are nobody's to publish."""
    answered = {row["item_id"] for of in (rows.votes, rows.edits) for split in of.values() for row in split}
    items = [item for item in rows.items if item.id in answered]
    gone = len(rows.items) - len(items)
    counts = {**rows.counts, "items": rows.counts["items"] - gone, "unanswered": rows.counts["unanswered"] - gone}
    return replace(rows, items=items, counts=counts)


def _consents(labelling: Labelling) -> dict[str, str]:
    by_vote = {v.annotator: v.consent for v in sorted(labelling.votes, key=lambda v: v.seq) if v.consent}
    return by_vote | dict(labelling.consents)


def _usable(
    answers: Iterable[Answer],
    items: Mapping[str, Item],
    counts: dict[str, int],
    consent: Callable[[Answer], str | None],
) -> list[Answer]:
    """The answers with consent to known items, by ``seq``."""
    kept: list[Answer] = []
    for answer in sorted(answers, key=lambda a: a.seq):
        if consent(answer) is None:
            counts["without_consent"] += 1
        elif answer.item not in items:
            counts["unknown_item"] += 1
        else:
            kept.append(answer)
    return kept


def _consent(event: Event, agreed: Mapping[str, str]) -> str | None:
    """Only events read back from rows carry their own."""
    return event.payload.get("consent") or agreed.get(event.annotator)


def _decide(
    labelling: Labelling, items: Mapping[str, Item], votes: Iterable[Vote], counts: dict[str, int]
) -> Decisions:
    first: dict[str, list[Vote]] = {}
    for vote in votes:
        if vote.round == 0:
            first.setdefault(vote.item, []).append(vote)
    outcomes = aggregate(first, items, labelling.settings.aggregate)
    for item_id, choice in labelling.adjudications.items():
        item = items.get(item_id)
        if item is not None and item.gold is None:
            outcomes[item_id] = adjudicated(item, choice, first.get(item_id, []))
    in_order = {item_id: outcomes[item_id] for item_id in items if item_id in outcomes}
    return Decisions(items, labelling.settings, first, in_order, counts)


def _edit_rows(event: Event, item: Item, agreed: Mapping[str, str]) -> Iterator[SplitRow]:
    text, place = event.payload["text"], event.payload["completion"]
    if item.gold is None and text != item.completions[place]:
        row: Row = {"prompt": item.prompt, "completion": text, "annotator": event.annotator, "item_id": item.id}
        row_key = digest([item.id, event.annotator, place, text])
        yield item.split, {"id": row_key, **row, "replaced": place, "consent": _consent(event, agreed)}


def _unpaired_rows(decisions: Decisions) -> Iterator[SplitRow]:
    for item_id, outcome in decisions.outcomes.items():
        item = decisions.items[item_id]
        if item.mode not in ("thumbs", "rating") or outcome.choice is None or outcome.value is None:
            continue
        if item.mode == "thumbs":
            label = outcome.choice == "like"
        elif DISLIKED < outcome.value < LIKED:
            decisions.counts["middling"] += 1
            continue
        else:
            label = outcome.value >= LIKED
        texts: Row = {"prompt": item.prompt, "completion": item.completions[0]}
        row = {"id": digest([*texts.values(), label]), **texts, "label": label}
        yield item.split, {**row, "annotator": decisions.made_by(item_id)}


def _vote_row(vote: Vote, item: Item) -> Row:
    return {
        **_answer_row(vote, item, vote.consent),
        "choice": vote.choice,
        "shown": ",".join(map(str, vote.order)),
        "strength": vote.strength,
        "tags": json.dumps(vote.tags, ensure_ascii=False),
        "note": vote.note,
    }


def _skip_row(event: Event, item: Item, agreed: Mapping[str, str]) -> Row:
    content = {"reason": event.payload["reason"], "note": event.payload["note"]}
    return {**_answer_row(event, item, _consent(event, agreed)), **content}


def _answer_row(answer: Vote | Event, item: Item, consent: str | None) -> Row:
    return {
        **dict.fromkeys(PEOPLES_VOTES),
        "id": digest([item.id, answer.annotator, answer.round]),
        "comparison_id": item.id if item.mode == "pairwise" else None,
        "item_id": item.id,
        "mode": item.mode,
        "annotator": answer.annotator,
        "ms": answer.ms,
        "at": answer.at,
        "round": answer.round,
        "gold": item.gold,
        "consent": consent,
    }


def _outcome_rows(decisions: Decisions) -> Iterator[SplitRow]:
    for item_id, o in decisions.outcomes.items():
        item = decisions.items[item_id]
        row: Row = {"item_id": item_id, "comparison_id": item_id if item.mode == "pairwise" else None}
        numbers = {"share": o.share, "votes": o.n, "confidence": o.confidence, "adjudicated": o.adjudicated}
        yield item.split, {**row, "choice": o.choice, **numbers}


def _counts_by_outcome(decisions: Decisions) -> dict[str, int]:
    """Items by outcome."""
    total = sum(i.gold is None for i in decisions.items.values())
    kinds = Counter(_kind(o) for o in decisions.outcomes.values())
    done = sum(o.adjudicated or o.n >= decisions.settings.votes for o in decisions.outcomes.values())
    return {
        "items": total,
        "done": done,
        "unanswered": total - len(decisions.outcomes),
        "fewer_votes": len(decisions.outcomes) - done,
        "adjudicated": sum(o.adjudicated for o in decisions.outcomes.values()),
        **{k: kinds[k] for k in ("decided", "ties", "both_bad", "split_votes")},
    }


def _kind(outcome: Outcome) -> str:
    if outcome.choice is None:
        return "split_votes"
    if outcome.choice == "both_bad":
        return "both_bad"
    equal = outcome.pairs and ">" not in outcome.choice
    return "ties" if equal or outcome.choice == "tie" else "decided"


def _by_split(rows: Iterable[SplitRow]) -> dict[str, list[Row]]:
    by_split: dict[str, list[Row]] = {split: [] for split in SPLITS}
    for split, row in rows:
        by_split.setdefault(split, []).append(row)
    return by_split
