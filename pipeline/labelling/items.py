"""Items: the unit of labelling. Two completions to compare, one to like or rate, or several to rank.

The order of completions on the page is random per person and item, so that a position reveals nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Literal

from pipeline.base.records import bucket, digest

Mode = Literal["pairwise", "thumbs", "rating", "ranking"]

PAIRWISE_CHOICES = ("a", "b", "tie", "both_bad")
THUMBS_CHOICES = ("like", "dislike")
RATING_CHOICES = ("1", "2", "3", "4", "5")

TYPED = "typed_by_annotators"
"""Key of a batch's ``about`` and of a version's stats: annotators typed the prompts, which go with them."""


@dataclass(frozen=True)
class Item:
    """A prompt and its completions, in the order of the comparison.

    Attributes:
        completions: two for ``pairwise``, one for ``thumbs`` and ``rating``, two or more for ``ranking``.
        split: the split of its rows.
        gold: the known answer, as :func:`parse_choice` spells it; answers to it test people and become no rows.
    """

    prompt: str
    completions: tuple[str, ...]
    mode: Mode = "pairwise"
    split: str = "train"
    gold: str | None = None

    @cached_property
    def id(self) -> str:
        """A pairwise item has its comparison's id."""
        texts = [self.prompt, *self.completions]
        return digest(texts if self.mode == "pairwise" else [self.mode, *texts])


def order_of(item_id: str, annotator: str, salt: str, n: int) -> tuple[int, ...]:
    """The order on the page: place ``i`` shows ``completions[order[i]]``.

    Deterministic per person and item, independent between people; every order is equally likely.
    """
    return tuple(sorted(range(n), key=lambda i: bucket(f"{item_id}\0{annotator}\0{i}", salt=f"order:{salt}")))


def items_from(
    comparisons: Iterable[tuple[str, Mapping[str, Any]]], mode: Mode, rank_up_to: int = 4
) -> Iterator[Item]:
    """The distinct items of a set of comparisons, in its order; see :func:`items_of`.

    Args:
        comparisons: (split, row of ``prompt``, ``completion_a``, ``completion_b``); a missing completion is None.
    """
    groups = (
        (split, row["prompt"], [row[side] for side in ("completion_a", "completion_b") if row[side] is not None])
        for split, row in comparisons
    )
    return items_of(groups, mode, rank_up_to)


def items_of(groups: Iterable[tuple[str, str, Sequence[str]]], mode: Mode, rank_up_to: int = 4) -> Iterator[Item]:
    """The distinct items of groups of completions, in order.

    Pairwise items are the pairs within one group and are yielded group by group. The other modes first join all
    completions of a prompt.

    Args:
        groups: (split, prompt, completions).
        rank_up_to: most completions of one ranking; a prompt with more makes several rankings.
    """
    if mode == "pairwise":
        yield from unique(Item(p, pair, mode, s) for s, p, group in groups for pair in combinations(group, 2))
        return
    by_prompt: dict[tuple[str, str], dict[str, None]] = {}
    for split, prompt, group in groups:
        by_prompt.setdefault((split, prompt), {}).update(dict.fromkeys(group))
    size = rank_up_to if mode == "ranking" else 1
    for (split, prompt), completions in by_prompt.items():
        texts = list(completions)
        for start in range(0, len(texts), size):
            group = tuple(texts[start : start + size])
            if mode != "ranking" or len(group) > 1:
                yield Item(prompt, group, mode, split)


def unique(items: Iterable[Item]) -> Iterator[Item]:
    """Each item once."""
    seen: set[str] = set()
    for item in items:
        if item.id not in seen:
            seen.add(item.id)
            yield item


ITEMS = {"id": "string", "mode": "string", "prompt": "string", "completions": "string", "gold": "string"}
"""Columns of items as rows; ``completions`` is a JSON list."""


def item_rows(items: Iterable[Item]) -> Iterator[dict[str, Any]]:
    """Rows of :data:`ITEMS`."""
    for item in items:
        completions = json.dumps(item.completions, ensure_ascii=False)
        texts = {"prompt": item.prompt, "completions": completions}
        yield {"id": item.id, "mode": item.mode, **texts, "gold": item.gold}


def items_from_rows(rows: Iterable[Mapping[str, Any]], split: str) -> Iterator[Item]:
    """The reverse of :func:`item_rows`."""
    for row in rows:
        yield Item(row["prompt"], tuple(json.loads(row["completions"])), row["mode"], split, row["gold"])


def parse_choice(choice: str, mode: Mode, n: int) -> str:
    """``choice`` in its canonical spelling.

    ``a b tie both_bad`` for pairwise, ``like dislike``, ``1`` to ``5``; a ranking lists the completions' numbers
    best first, ``2>0=1>3``, with ties joined by ``=`` in ascending order.

    Raises:
        ValueError: not a choice of this mode.
    """
    choices = {"pairwise": PAIRWISE_CHOICES, "thumbs": THUMBS_CHOICES, "rating": RATING_CHOICES}.get(mode)
    if choices is not None:
        if choice not in choices:
            raise ValueError(f"choice {choice!r} is not one of {', '.join(choices)}")
        return choice
    ranks = ranking(choice)
    if sorted(i for rank in ranks for i in rank) != list(range(n)):
        raise ValueError(f"choice {choice!r} does not rank each of {n} completions once")
    return ">".join("=".join(map(str, sorted(rank))) for rank in ranks)


def ranking(choice: str) -> list[list[int]]:
    """``2>0=1`` as ``[[2], [0, 1]]``, best first. Raises ValueError for any other text."""
    try:
        return [[int(i) for i in rank.split("=")] for rank in choice.split(">")]
    except ValueError:
        raise ValueError(f"choice {choice!r} is not a ranking such as 1>0=2") from None


def as_shown(choice: str, mode: Mode, order: Sequence[int]) -> str:
    """Translate a choice from the item's order to the page's, where ``a`` is the completion shown first."""
    return _renamed(choice, mode, {i: place for place, i in enumerate(order)})


def as_meant(choice: str, mode: Mode, order: Sequence[int]) -> str:
    """Translate a choice from the page's order to the item's: the reverse of :func:`as_shown`."""
    return _renamed(choice, mode, dict(enumerate(order)))


def _renamed(choice: str, mode: Mode, places: Mapping[int, int]) -> str:
    if mode == "pairwise" and choice in ("a", "b"):
        return "ab"[places["ab".index(choice)]]
    if mode == "ranking":
        ranks = [sorted(places[i] for i in rank) for rank in ranking(choice)]
        return ">".join("=".join(map(str, rank)) for rank in ranks)
    return choice
