"""From votes to rows: preferences, liked and disliked answers, edits, every single vote; and back to votes.

Texts, ids and choices only: the log is read and versions are written elsewhere, and no name ever comes here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, TypeVar

from pipeline.base.records import OUTCOMES as OUTCOMES
from pipeline.base.records import PEOPLES_VOTES, Comparison, bucket, digest, row_id
from pipeline.labelling.aggregate import Outcome, adjudicated, aggregate, margin_of
from pipeline.labelling.items import Item
from pipeline.labelling.log.answers import Vote
from pipeline.labelling.log.events import Event
from pipeline.labelling.log.new_event import OPERATOR, STRENGTHS
from pipeline.labelling.settings import LabelSection

UNPAIRED = {"id": "string", "prompt": "string", "completion": "string", "label": "bool", "annotator": "string"}
"""Schema of liked and disliked completions: TRL's unpaired preferences."""

EDITS = {
    "id": "string",
    "prompt": "string",
    "completion": "string",
    "annotator": "string",
    "item_id": "string",
    "replaced": "int64",
    "consent": "string",
}
"""Schema of what people wrote: TRL's prompt and completion, and the place in the item of what it replaced."""

COUNTS = (
    "items", "done", "decided", "ties", "both_bad", "split_votes", "unanswered", "fewer_votes", "adjudicated",
    "votes", "gold_votes", "repeats", "skipped", "flagged", "without_consent", "unknown_item",
    "pairs", "unpaired", "edits", "repeated", "contradictory", "over_cap", "without_margin", "middling",
)  # fmt: skip
SPLITS = ("train", "test")

# Mean ratings from and up to which a completion counts as liked and as disliked.
LIKED, DISLIKED = 4.0, 2.0

# Without a bound the thumbs on 1,000 completions of one prompt would make up to 250,000 pairs of 1,000 votes.
MOST_OTHERS = 16

Row = dict[str, Any]
SplitRow = tuple[str, Row]
Answer = TypeVar("Answer", Vote, Event)


@dataclass(frozen=True)
class Labelled:
    """The rows of each kind by split, and counts for the manifest.

    Of ``items`` (gold ones apart), ``done`` have as many votes as asked for or are ``adjudicated``; by outcome
    they are ``decided``, ``ties``, ``both_bad``, ``split_votes`` or ``unanswered``. Those with ``fewer_votes``
    than asked for make rows as well. ``votes`` include ``gold_votes`` and ``repeats``; ``flagged`` are items;
    ``without_consent`` and ``unknown_item`` are votes, skips and edits that are left out.

    ``pairs``, ``unpaired`` and ``edits`` are rows. ``repeated`` pairs had come up before, ``contradictory`` ones
    came up both ways round, ``over_cap`` ones are left out, as a completion is compared with at most 16 others of
    its prompt; ``without_margin``: though margins were asked for. ``middling`` are mean ratings between 2 and 4.
    """

    preferences: dict[str, list[Row]]
    votes: dict[str, list[Row]]
    unpaired: dict[str, list[Row]]
    edits: dict[str, list[Row]]
    outcomes: dict[str, list[Row]]
    counts: dict[str, int]


@dataclass
class _Work:
    """What the steps of :func:`labelled` share; ``votes`` are the first ones (round 0), by item."""

    items: dict[str, Item]
    settings: LabelSection
    counts: dict[str, int]
    votes: dict[str, list[Vote]] = field(default_factory=dict[str, list[Vote]])
    outcomes: dict[str, Outcome] = field(default_factory=dict[str, Outcome])


def labelled(
    items: Sequence[Item],
    votes: Sequence[Vote],
    edits: Sequence[Event],
    adjudications: Mapping[str, str],
    settings: LabelSection,
    skips: Sequence[Event] = (),
    flags: Sequence[Event] = (),
    consents: Mapping[str, str] | None = None,
) -> Labelled:
    """The rows that follow from what people answered.

    Gold items and repeats make no training rows. Nothing of a person who agreed to no text is used.

    Args:
        items: gold ones included; rows come in their order.
        votes: current ones, gold and repeats included; like ``edits`` and ``skips`` in any order.
        adjudications: choice by item id; they override whatever the votes say.
        consents: sha256 of the text agreed to last, by annotator; that of the newest vote where it does not say.
    """
    work = _Work({i.id: i for i in items}, settings, dict.fromkeys(COUNTS, 0))
    agreed = {v.annotator: v.consent for v in sorted(votes, key=lambda v: v.seq) if v.consent}
    agreed |= consents or {}
    given = _usable(work, votes, lambda v: v.consent)
    skipped = _usable(work, skips, lambda e: _consent(e, agreed))
    edited = _usable(work, edits, lambda e: _consent(e, agreed))
    for vote in given:
        if vote.round == 0:
            work.votes.setdefault(vote.item, []).append(vote)
    work.outcomes = _outcomes(work, adjudications)
    answers = [(v.seq, work.items[v.item].split, _vote_row(v, work.items[v.item])) for v in given]
    for e in skipped:
        item = work.items[str(e.item)]
        answers.append((e.seq, item.split, _skip_row(e, item, _consent(e, agreed))))
    sft = [row for e in edited for row in _edit_rows(e, work.items[str(e.item)], _consent(e, agreed))]
    pairs = _once([*_decided(work), *_between_items(work), *_edit_pairs(work, sft)], work.counts)
    result = Labelled(
        preferences=_by_split(pairs),
        votes=_by_split((split, row) for _, split, row in sorted(answers, key=lambda a: a[0])),
        unpaired=_by_split(_unpaired_rows(work)),
        edits=_by_split(sft),
        outcomes=_by_split(_outcome_rows(work)),
        counts=work.counts,
    )
    work.counts |= {
        **_tally(work),
        "votes": len(given),
        "gold_votes": sum(work.items[v.item].gold is not None for v in given),
        "repeats": sum(v.round > 0 for v in given),
        "skipped": len(skipped),
        "flagged": len({f.item for f in flags}),
        "pairs": len(pairs),
        "unpaired": sum(map(len, result.unpaired.values())),
        "edits": len(sft),
        "without_margin": sum(row["margin"] is None for _, row in pairs) if settings.margin != "none" else 0,
    }
    return result


def votes_from_rows(rows: Iterable[Mapping[str, Any]]) -> tuple[list[Vote], list[Event]]:
    """Votes and skips from rows of :data:`PEOPLES_VOTES`; :func:`labelled` makes the same rows of them again."""
    votes: list[Vote] = []
    skips: list[Event] = []
    for seq, r in enumerate(rows, start=1):
        if r["choice"] is None:
            payload = {"reason": r["reason"], "note": r["note"], "consent": r["consent"]}
            skips.append(
                Event(seq, r["id"], "skip", r["annotator"], r["item_id"], payload, r["ms"], r["at"], r["round"])
            )
            continue
        order, tags = tuple(map(int, r["shown"].split(","))), tuple(json.loads(r["tags"]))
        said = (r["item_id"], r["annotator"], r["choice"], order, r["strength"], tags, r["note"])
        votes.append(Vote(seq, *said, r["ms"], r["at"], r["round"], r["consent"]))
    return votes, skips


def edits_from_rows(rows: Iterable[Mapping[str, Any]]) -> list[Event]:
    """Edits from rows of :data:`EDITS`, without the times, which these do not hold."""
    edits: list[Event] = []
    for seq, r in enumerate(rows, start=1):
        payload = {"completion": r["replaced"], "text": r["completion"], "consent": r["consent"]}
        edits.append(Event(seq, r["id"], "edit", r["annotator"], r["item_id"], payload, None, "", 0))
    return edits


def adjudications_from_rows(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Adjudications from rows of :data:`OUTCOMES`."""
    return {r["item_id"]: r["choice"] for r in rows if r["adjudicated"]}


def _usable(work: _Work, answers: Iterable[Answer], consent: Callable[[Answer], str | None]) -> list[Answer]:
    """In the order they came in."""
    kept: list[Answer] = []
    for answer in sorted(answers, key=lambda a: a.seq):
        if consent(answer) is None:
            work.counts["without_consent"] += 1
        elif answer.item not in work.items:
            work.counts["unknown_item"] += 1
        else:
            kept.append(answer)
    return kept


def _consent(event: Event, agreed: Mapping[str, str]) -> str | None:
    """Only events made of rows hold their own."""
    return event.payload.get("consent") or agreed.get(event.annotator)


def _outcomes(work: _Work, adjudications: Mapping[str, str]) -> dict[str, Outcome]:
    outcomes = aggregate(work.votes, work.items, work.settings.aggregate)
    for item_id, choice in adjudications.items():
        item = work.items.get(item_id)
        if item is not None and item.gold is None:
            outcomes[item_id] = adjudicated(item, choice, work.votes.get(item_id, []))
    return {item_id: outcomes[item_id] for item_id in work.items if item_id in outcomes}


def _decided(work: _Work) -> Iterator[SplitRow]:
    """Pairs decided within one item."""
    for item_id, outcome in work.outcomes.items():
        item = work.items[item_id]
        pairs = {(0, 1): outcome} if item.mode == "pairwise" else outcome.pairs
        for (i, j), one in pairs.items():
            if one.choice not in ("a", "b"):
                continue
            a, b = item.completions[i], item.completions[j]
            chosen, rejected = (a, b) if one.choice == "a" else (b, a)
            comparison = Comparison(item.prompt, a, b)
            yield (
                item.split,
                _pair(comparison, chosen, rejected, _margin(work, item_id, one), _made_by(work, item_id)),
            )


def _margin(work: _Work, item_id: str, outcome: Outcome) -> float | None:
    votes = work.votes.get(item_id, [])
    said = ((v.choice, None if v.strength is None else STRENGTHS[v.strength]) for v in votes)
    return margin_of(outcome, work.settings.margin, said)


def _between_items(work: _Work) -> Iterator[SplitRow]:
    """Pairs of completions that people liked and disliked, or rated differently, each on its own."""
    groups: dict[tuple[str, str], list[tuple[Item, Outcome, float]]] = {}
    for item_id, outcome in work.outcomes.items():
        item = work.items[item_id]
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
            margin = _distance(work, a, first, second)
            makers = _made_by(work, a.id, b.id)
            yield split, _pair(comparison, chosen.completions[0], rejected.completions[0], margin, makers)
        same = Counter(level for _, _, level in group).values()
        work.counts["over_cap"] += _n_pairs(len(group)) - sum(map(_n_pairs, same)) - made


def _matches(items: Sequence[Item]) -> Iterator[tuple[int, int]]:
    """All pairs; of many items, each with the next eight in a ring, whose order is that of a hash of the texts."""
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


def _distance(work: _Work, item: Item, first: Outcome, second: Outcome) -> float | None:
    """The margin of two items' completions: of their ratings, or of their shares of likes."""
    if work.settings.margin == "none" or first.value is None or second.value is None:
        return None
    likes = item.mode == "thumbs"
    if likes and (work.settings.margin != "share" or first.adjudicated or second.adjudicated):
        return None
    return abs(first.value - second.value)


def _made_by(work: _Work, *item_ids: str) -> str:
    """Who decided: the one person whose votes did, else how and from how many votes."""
    settled = [i for i in item_ids if work.outcomes[i].adjudicated]
    votes = [v for i in item_ids if i not in settled for v in work.votes[i]]
    who = {v.annotator for v in votes} | ({OPERATOR} if settled else set())
    # A strength comes from the votes on other pairs too.
    if len(who) == 1 and (settled or work.settings.aggregate != "bradley_terry"):
        return who.pop()
    return f"{work.settings.aggregate}:{len(votes) + len(settled)}"


def _edit_rows(event: Event, item: Item, consent: str | None) -> Iterator[SplitRow]:
    text, place = event.payload["text"], event.payload["completion"]
    if item.gold is None and text != item.completions[place]:
        row: Row = {"prompt": item.prompt, "completion": text, "annotator": event.annotator, "item_id": item.id}
        row_key = digest([item.id, event.annotator, place, text])
        yield item.split, {"id": row_key, **row, "replaced": place, "consent": consent}


def _edit_pairs(work: _Work, edits: Iterable[SplitRow]) -> Iterator[SplitRow]:
    """What somebody wrote, over what it replaced."""
    for split, row in edits:
        replaced, text = work.items[row["item_id"]].completions[row["replaced"]], row["completion"]
        comparison = Comparison(row["prompt"], replaced, text)
        yield split, _pair(comparison, text, replaced, None, row["annotator"])


def _pair(comparison: Comparison, chosen: str, rejected: str, margin: float | None, annotator: str) -> Row:
    prompt = comparison.prompt
    row: Row = {"id": row_id(prompt, chosen, rejected), "prompt": prompt, "chosen": chosen, "rejected": rejected}
    return {**row, "margin": margin, "annotator": annotator, "comparison_id": comparison.id}


def _once(pairs: Iterable[SplitRow], counts: dict[str, int]) -> list[SplitRow]:
    """Each pair as it came up first; none that came up both ways round."""
    found: dict[str, SplitRow] = {}
    for split, row in pairs:
        if row["id"] in found:
            counts["repeated"] += 1
        found.setdefault(row["id"], (split, row))
    kept = [(s, r) for s, r in found.values() if row_id(r["prompt"], r["rejected"], r["chosen"]) not in found]
    counts["contradictory"] += (len(found) - len(kept)) // 2
    return kept


def _unpaired_rows(work: _Work) -> Iterator[SplitRow]:
    for item_id, outcome in work.outcomes.items():
        item = work.items[item_id]
        if item.mode not in ("thumbs", "rating") or outcome.choice is None or outcome.value is None:
            continue
        if item.mode == "thumbs":
            label = outcome.choice == "like"
        elif DISLIKED < outcome.value < LIKED:
            work.counts["middling"] += 1
            continue
        else:
            label = outcome.value >= LIKED
        completion = item.completions[0]
        row: Row = {
            "id": digest([item.prompt, completion, label]),
            "prompt": item.prompt,
            "completion": completion,
        }
        yield item.split, {**row, "label": label, "annotator": _made_by(work, item_id)}


def _vote_row(vote: Vote, item: Item) -> Row:
    return {
        **_answer_row(vote, item, vote.consent),
        "choice": vote.choice,
        "shown": ",".join(map(str, vote.order)),
        "strength": vote.strength,
        "tags": json.dumps(vote.tags, ensure_ascii=False),
        "note": vote.note,
    }


def _skip_row(event: Event, item: Item, consent: str | None) -> Row:
    said = {"reason": event.payload["reason"], "note": event.payload["note"]}
    return {**_answer_row(event, item, consent), **said}


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


def _outcome_rows(work: _Work) -> Iterator[SplitRow]:
    for item_id, o in work.outcomes.items():
        item = work.items[item_id]
        row: Row = {"item_id": item_id, "comparison_id": item_id if item.mode == "pairwise" else None}
        numbers = {"share": o.share, "votes": o.n, "confidence": o.confidence, "adjudicated": o.adjudicated}
        yield item.split, {**row, "choice": o.choice, **numbers}


def _tally(work: _Work) -> dict[str, int]:
    """Items by outcome."""
    total = sum(i.gold is None for i in work.items.values())
    kinds = Counter(_kind(o) for o in work.outcomes.values())
    settled = sum(o.adjudicated for o in work.outcomes.values())
    done = sum(o.adjudicated or o.n >= work.settings.votes for o in work.outcomes.values())
    return {
        "items": total,
        "done": done,
        "unanswered": total - len(work.outcomes),
        "fewer_votes": len(work.outcomes) - done,
        "adjudicated": settled,
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
    found: dict[str, list[Row]] = {split: [] for split in SPLITS}
    for split, row in rows:
        found.setdefault(split, []).append(row)
    return found
