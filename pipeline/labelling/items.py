"""What one person answers at a time: two completions to compare, one to like or rate, or several to rank.

Which completion stands where on the page is decided here too, so that nobody can tell which is which.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Literal, get_args

from pipeline.base.records import bucket, digest

Mode = Literal["pairwise", "thumbs", "rating", "ranking"]
MODES: tuple[Mode, ...] = get_args(Mode)

PAIRWISE_CHOICES = ("a", "b", "tie", "both_bad")
THUMBS_CHOICES = ("like", "dislike")
RATING_CHOICES = ("1", "2", "3", "4", "5")


@dataclass(frozen=True)
class Item:
    """A prompt and its completions, in an order that says nothing: that of the comparison, or of the text.

    Attributes:
        completions: two for ``pairwise``, one for ``thumbs`` and ``rating``, two or more for ``ranking``.
        split: the side of the split that its rows go to.
        gold: the known answer, in the words of :func:`parse_choice`; what people answer is then a test of them and
            never a training row.
    """

    prompt: str
    completions: tuple[str, ...]
    mode: Mode = "pairwise"
    split: str = "train"
    gold: str | None = None

    @cached_property
    def id(self) -> str:
        """A pairwise item has its comparison's id, so that a vote on it is a vote on the comparison."""
        texts = [self.prompt, *self.completions]
        return digest(texts if self.mode == "pairwise" else [self.mode, *texts])


def order_of(item_id: str, annotator: str, salt: str, n: int) -> tuple[int, ...]:
    """What is shown where: place ``i`` of the page shows ``completions[order[i]]``.

    The same for the same person and item, independent between people; every order is equally likely.
    """
    return tuple(sorted(range(n), key=lambda i: bucket(f"{item_id}\0{annotator}\0{i}", salt=f"order:{salt}")))


def items_from(
    comparisons: Iterable[tuple[str, Mapping[str, Any]]], mode: Mode, rank_up_to: int = 4
) -> Iterator[Item]:
    """The items of a set of comparisons, each once, in the set's order; see :func:`items_of`.

    Args:
        comparisons: (split, row of ``prompt``, ``completion_a``, ``completion_b``); None where there is only one.
    """
    groups = (
        (split, row["prompt"], [row[side] for side in ("completion_a", "completion_b") if row[side] is not None])
        for split, row in comparisons
    )
    return items_of(groups, mode, rank_up_to)


def items_of(groups: Iterable[tuple[str, str, Sequence[str]]], mode: Mode, rank_up_to: int = 4) -> Iterator[Item]:
    """The items of completions that stand together, each once, in the order of coming.

    A pairwise item is two completions of one group, and comes as soon as its group does. The other modes take all
    completions of a prompt together.

    Args:
        groups: (split, prompt, completions).
        rank_up_to: most completions of one ranking; a prompt with more makes several rankings.
    """
    if mode == "pairwise":
        pairs = (Item(p, two, mode, split) for split, p, group in groups for two in combinations(group, 2))
        yield from unique(pairs)
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
        yield {
            "id": item.id,
            "mode": item.mode,
            "prompt": item.prompt,
            "completions": completions,
            "gold": item.gold,
        }


def items_from_rows(rows: Iterable[Mapping[str, Any]], split: str) -> Iterator[Item]:
    """The reverse of :func:`item_rows`."""
    for row in rows:
        yield Item(row["prompt"], tuple(json.loads(row["completions"])), row["mode"], split, row["gold"])


def parse_choice(choice: str, mode: Mode, n: int) -> str:
    """``choice`` in its one spelling.

    ``a b tie both_bad`` for pairwise, ``like dislike``, ``1`` to ``5``; a ranking is written best first with the
    completions' numbers, ``2>0=1>3``, equal ones joined by ``=`` and in ascending order.

    Raises:
        ValueError: it is none of the mode's choices.
    """
    choices = {"pairwise": PAIRWISE_CHOICES, "thumbs": THUMBS_CHOICES, "rating": RATING_CHOICES}.get(mode)
    if choices is not None:
        if choice not in choices:
            raise ValueError(f"choice {choice!r} is none of {', '.join(choices)}")
        return choice
    ranks = ranking(choice)
    if sorted(i for rank in ranks for i in rank) != list(range(n)):
        raise ValueError(f"choice {choice!r} does not rank each of {n} completions once")
    return ">".join("=".join(map(str, sorted(rank))) for rank in ranks)


def ranking(choice: str) -> list[list[int]]:
    """``2>0=1`` as ``[[2], [0, 1]]``, best first. Raises ValueError where it is no ranking."""
    try:
        return [[int(i) for i in rank.split("=")] for rank in choice.split(">")]
    except ValueError:
        raise ValueError(f"choice {choice!r} is no ranking such as 1>0=2") from None


def as_shown(choice: str, mode: Mode, order: Sequence[int]) -> str:
    """A choice in the words of the item, in the words of the page: ``a`` is place 1 where it was shown first."""
    return _renamed(choice, mode, {i: place for place, i in enumerate(order)})


def as_meant(choice: str, mode: Mode, order: Sequence[int]) -> str:
    """The reverse of :func:`as_shown`: what somebody chose on the page, in the words of the item."""
    return _renamed(choice, mode, dict(enumerate(order)))


def _renamed(choice: str, mode: Mode, places: Mapping[int, int]) -> str:
    if mode == "pairwise" and choice in ("a", "b"):
        return "ab"[places["ab".index(choice)]]
    if mode == "ranking":
        ranks = [sorted(places[i] for i in rank) for rank in ranking(choice)]
        return ">".join("=".join(map(str, rank)) for rank in ranks)
    return choice
