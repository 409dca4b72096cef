"""Compute the values of the operator's page as rounded numbers and sentences, for its template."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.labelling.agreement import Alpha
from pipeline.labelling.conversation import turns
from pipeline.labelling.items import PAIRWISE_CHOICES, RATING_CHOICES, THUMBS_CHOICES, Item
from pipeline.labelling.log.events import Event
from pipeline.labelling.log.people import Person
from pipeline.labelling.log.queue import PersonCounts
from pipeline.labelling.log_rows import publishable_rows
from pipeline.labelling.vote_summary import Summary, summary
from pipeline.labelling.web.context import Site
from pipeline.labelling.wording import (
    CHOICE_WORDS,
    LETTERS,
    ago,
    choice_words,
    estimate,
    excludes,
    percent,
    seconds,
    to_letters,
)
from pipeline.statistics.intervals import Estimate, has_value
from pipeline.statistics.spelling import interval

QUEUE_SHOWN = 10
FLAGS_SHOWN = 30

EXCERPT = 90
TOO_MANY_FAST = 0.2

_ROWS = {
    "pairs": "preference pairs",
    "unpaired": "completions liked or disliked",
    "edits": "better answers that people wrote",
    "votes": "single answers, kept beside the rows",
}
_ITEMS = {
    "decided": "decided",
    "ties": "equally good",
    "both_bad": "both bad",
    "split_votes": "votes split: no row",
    "unanswered": "not answered yet",
    "fewer_votes": "of all these, answered by too few so far",
    "without_consent": "answers left out: nobody agreed to a text",
    "personal_data": "items left out: flagged as personal data",
}
_CHOICES: dict[str, Sequence[str]] = {
    "pairwise": PAIRWISE_CHOICES,
    "thumbs": THUMBS_CHOICES,
    "rating": RATING_CHOICES,
}


@dataclass(frozen=True)
class _Statistics:
    """What costs a pass over all answers, kept between requests; ``batch`` to ``newest`` date it."""

    votes: Summary
    counts: Mapping[str, int]
    at: str
    skips: list[tuple[str, int]]
    batch: str | None
    people: list[str]
    newest: int


def values(site: Site, address: str) -> dict[str, object]:
    """Everything that ``operator.html.jinja`` shows.

    Args:
        address: scheme and host for the links.
    """
    log, settings = site.log, site.settings
    statistics = site.state.statistics(lambda: _statistics(site), lambda old: _changed(site, old))
    ready = log.batches.ready(settings.votes, settings.enough)
    people = log.people.all()
    counts = {c.annotator: c for c in log.queue.counts()}
    names = {p.id: p.name for p in people}
    settled = log.answers.adjudications()
    disputed = [d for d in statistics.votes.disputed if d.item not in settled]
    flagged_items, flagged = _flagged(site, names)
    return {
        "title": site.title,
        "mode": settings.mode,
        "votes": settings.votes,
        "at": statistics.at,
        "about": log.batches.about,
        "ready": ready,
        "whole": log.batches.whole,
        "answers": sum(c.answered for c in counts.values()),
        "people": [_person(site, p, counts.get(p.id), statistics.votes, address) for p in people],
        "agreement": _agreement(statistics.votes),
        "choices": _choices(statistics.votes),
        "queue": [_disputed(log.batches.item(d.item), d.votes) for d in disputed[:QUEUE_SHOWN]],
        "disputed": len(disputed),
        "settled": len(settled),
        "skips": statistics.skips,
        "flags": Counter(e.payload["reason"] or "no reason" for e in log.answers.flags()).most_common(),
        "flagged_items": flagged_items,
        "flagged": flagged,
        "guidelines": site.guidelines,
        "consent": site.consent,
        "agreed": sum(log.answers.consent_of(p.id) == site.consent.sha256 for p in people if p.active),
        "can_publish": site.publish is not None,
        "rows": _named(statistics.counts, _ROWS),
        "items": _named(statistics.counts, _ITEMS),
        "publishing": site.state.publishing.locked(),
        "last": site.state.last,
    }


def _statistics(site: Site) -> _Statistics:
    log, answers, batch = site.log, site.log.answers, site.log.batches.current
    votes, skips, flags, edits = answers.votes(), answers.skips(), answers.flags(), answers.edits()
    items = {item.id: item for item in log.batches.items()}
    return _Statistics(
        summary(items, votes, skips, flags, site.settings.too_fast_ms),
        publishable_rows(log, site.settings).counts,
        at=time.strftime("%H:%M:%S"),
        skips=Counter(e.payload["reason"] or "no reason" for e in skips).most_common(),
        batch=batch,
        people=[p.id for p in log.people.all()],
        newest=max((e.seq for listed in (votes, skips, flags, edits) for e in listed), default=0),
    )


def _changed(site: Site, old: _Statistics) -> bool:
    # An undo as the newest event counts as a change each time: harmless.
    people = [p.id for p in site.log.people.all()]  # one fewer after an erasure
    newer = next(iter(site.log.events.read(since=old.newest)), None)
    return (site.log.batches.current, people) != (old.batch, old.people) or newer is not None


def _person(
    site: Site, person: Person, counts: PersonCounts | None, statistics: Summary, address: str
) -> dict[str, object]:
    own = statistics.annotators.get(person.id)
    answered, left = site.log.queue.answered_and_left(person.id, site.settings.votes)
    bias, fast = own and own.position_bias, own and own.too_fast
    return {
        "id": person.id,
        "name": person.name,
        "active": person.active,
        "link": f"{address}/join/{person.token}",
        "answered": answered,
        "left": left if person.active else 0,
        "skipped": counts.skipped if counts else 0,
        "flagged": counts.flagged if counts else 0,
        "majority": estimate(own and own.agreement_with_majority),
        "gold": estimate(own and own.gold),
        "self": estimate(own and own.self_agreement),
        "too_fast": percent(fast),
        "hurries": has_value(fast) and fast.value > TOO_MANY_FAST,
        "median": seconds(own and own.median_ms),
        "bias": estimate(bias),
        "leans": excludes(bias, 0.5),
        "seen": ago(counts.last_at if counts else None),
    }


def _agreement(statistics: Summary) -> list[tuple[str, str, str]]:
    """(label, number with its interval, explanation)."""
    raw, alpha, bias = statistics.raw, statistics.alpha, statistics.position_bias
    pairs = f"two people, same item; {raw.n:,} pairs" if raw.n else "no item has two answers yet"
    rows = [
        ("Pairs of answers that agree", interval(raw), pairs),
        ("Krippendorff’s alpha", interval(alpha), _read_alpha(alpha)),
    ]
    if bias is not None:
        rows.append(("First place chosen", interval(bias), _read_bias(bias)))
    return rows


def _read_alpha(alpha: Alpha) -> str:
    if not has_value(alpha):
        return alpha.reason or "not defined yet"
    value = alpha.value
    # The bars are those of Krippendorff, Content Analysis (2004), p. 241.
    if value >= 0.8:
        verdict = "people agree reliably"
    elif value >= 0.667:
        verdict = "enough for tentative conclusions"
    elif value > 0:
        verdict = "below 0.667: taste differs, or the guidelines leave too much open"
    else:
        verdict = "no more than chance: read the disputed items before you continue"
    return f"1 is perfect, 0 is chance; {verdict}"


def _read_bias(bias: Estimate) -> str:
    if not has_value(bias):
        return "no decided answer yet"
    if not excludes(bias, 0.5):
        return "0.5 means no preference for either place"
    place = "first" if bias.value > 0.5 else "second"
    return f"people prefer the {place} place; places are random, so this adds noise, not bias, to the data"


def _choices(statistics: Summary) -> list[tuple[str, int, str]]:
    """(choice, count, share). Which side won means nothing, so both are one line."""
    counts: Counter[str] = Counter()
    for choice, n in statistics.choices.items():
        counts["one is better" if choice in ("a", "b") else CHOICE_WORDS.get(choice, f"{choice} of 5")] += n
    total = sum(counts.values()) or 1
    return [(words, n, f"{100 * n / total:.0f} %") for words, n in counts.items() if n]


def _disputed(item: Item | None, votes: Mapping[str, int]) -> dict[str, object]:
    assert item is not None  # the statistics are of the same log
    choices = _CHOICES.get(item.mode) or sorted(votes, key=lambda c: -votes[c])
    names = [to_letters(c) if item.mode == "ranking" else c for c in choices]
    buttons = [(n, choice_words(c, item.mode), votes.get(c, 0)) for n, c in zip(names, choices, strict=True)]
    return {**_shown(item), "mode": item.mode, "buttons": buttons}


def _flagged(site: Site, names: Mapping[str, str]) -> tuple[int, list[dict[str, object]]]:
    """The number of flagged items, and the first of them."""
    by_item: dict[str, list[Event]] = defaultdict(list)
    for event in site.log.answers.flags():
        by_item[str(event.item)].append(event)
    flagged: list[dict[str, object]] = []
    for item_id, events in list(by_item.items())[:FLAGS_SHOWN]:
        if (item := site.log.batches.item(item_id)) is not None:
            why = [(e.payload["reason"], e.payload["note"], names.get(e.annotator, e.annotator)) for e in events]
            flagged.append({**_shown(item), "excerpt": _excerpt(item), "why": why})
    return len(by_item), flagged


def _excerpt(item: Item) -> str:
    """The start of the prompt's last turn, on one line."""
    prompt = " ".join(turns(item.prompt)[-1][1].split())
    return prompt if len(prompt) <= EXCERPT else f"{prompt[:EXCERPT].rstrip()}…"


def _named(counts: Mapping[str, int], names: Mapping[str, str]) -> list[tuple[str, int]]:
    return [(words, counts[key]) for key, words in names.items() if counts.get(key)]


def _shown(item: Item) -> dict[str, object]:
    return {
        "id": item.id,
        "turns": turns(item.prompt),
        "completions": list(zip(LETTERS, item.completions, strict=False)),
    }
