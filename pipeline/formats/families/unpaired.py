"""Opinions on single completions, made into pairs: TRL's unpaired preferences, thumbs and ratings of our page.

They are held in memory: what a completion is paired with may stand in the file's last row.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from pipeline.formats.judged import JudgedRow, Refused, Row, Unusable, absent, judged, text, yes
from pipeline.formats.messages import is_conversation, last_answers, messages
from pipeline.formats.reading import Reading, annotator, as_given


@dataclass(frozen=True)
class Opinion:
    """One person's score of one completion.

    ``kind`` sets apart what is not compared: ratings of two people, opinions on two prompts.
    """

    prompt: str
    completion: str
    score: float
    who: str | None
    kind: str = ""


# Without a bound the likes and dislikes on 10,000 completions of one prompt would make up to 25,000,000 pairs.
MOST_OTHERS = 16

THUMBS = "thumbs"
"""The :attr:`Opinion.kind` of answers to an item. (Likes in TRL's files are no votes: a completion that won one
comparison and lost another is there as both.)"""

_EVEN = "as many like it as dislike it"

ByScore = dict[float, dict[Opinion, None]]
Read = Callable[[Row, Reading], "Opinion | list[JudgedRow | Unusable]"]


def pair_up(
    rows: Iterable[tuple[str, Row]], how: Reading, read: Read
) -> Iterator[tuple[str, JudgedRow | Unusable]]:
    """Each completion against each that had a lower score from the same prompt, after all rows are read.

    ``pairs: best_worst`` makes one pair a prompt; of many completions, each is compared with 16 others only.
    Several people's thumbs on one completion are votes: it is what most of them say.
    """
    opinions: list[tuple[str, Opinion]] = []
    for place, row in rows:
        try:
            found = read(row, how)
        except Refused as refused:
            yield place, refused.unusable
            continue
        if isinstance(found, Opinion):
            opinions.append((place, found))
        else:
            yield from ((place, one) for one in found)
    yield from paired(opinions, how)


def paired(
    opinions: Iterable[tuple[str, Opinion]], how: Reading, have_pairs: Collection[str] = ()
) -> Iterator[tuple[str, JudgedRow | Unusable]]:
    """The pairs of :func:`pair_up`, each at the place of the first opinion on its prompt.

    Args:
        have_pairs: prompts of which there are pairs already, so that opinions all alike are no loss.
    """
    groups: dict[tuple[str, str], ByScore] = {}
    places: dict[tuple[str, str], str] = {}
    for place, one in opinions:
        key = (one.prompt, one.kind)
        places.setdefault(key, place)
        groups.setdefault(key, {}).setdefault(one.score, {})[one] = None
    for key, by_score in groups.items():
        if key[1] == THUMBS:
            by_score, even = _by_majority(by_score)
            yield from itertools.repeat((places[key], Unusable(_EVEN, broken=False)), even)
        if len(by_score) < 2:
            if key[0] in have_pairs:
                continue
            yield places[key], Unusable("all opinions on the prompt are the same", broken=False)
        elif how.pairs == "all" and sum(len(scored) > MOST_OTHERS for scored in by_score.values()) > 1:
            yield places[key], Unusable(f"a prompt with more pairs than {MOST_OTHERS} a completion", broken=False)
        for pair in itertools.islice(_pairs(by_score), 1 if how.pairs == "best_worst" else None):
            yield places[key], _judged(*pair)


def _by_majority(by_score: ByScore) -> tuple[ByScore, int]:
    """(each completion once, with what most people say of it; how many are liked by as many as dislike them).

    As on the page: an opinion of several is nobody's in particular.
    """
    votes: dict[str, list[Opinion]] = {}
    for opinions in by_score.values():
        for one in opinions:
            votes.setdefault(one.completion.strip(), []).append(one)
    decided: ByScore = {}
    even = 0
    for given in votes.values():
        (score, most), *others = Counter(one.score for one in given).most_common(2)
        if others and others[0][1] == most:
            even += 1
            continue
        first = max(
            (one for one in given if one.score == score), key=lambda one: (len(one.completion), one.completion)
        )
        decided.setdefault(score, {})[replace(first, who=first.who if len(given) == 1 else None)] = None
    return decided, even


def _pairs(by_score: ByScore) -> Iterator[tuple[Opinion, Opinion]]:
    scores = sorted(by_score, reverse=True)
    for i, high in enumerate(scores):
        for low in scores[:i:-1]:  # the furthest apart first
            good, bad = list(by_score[high]), list(by_score[low])
            few, many = sorted((good, bad), key=len)
            for place, one in enumerate(many):
                for k in range(min(len(few), MOST_OTHERS)):
                    other = few[(place + k) % len(few)]
                    yield (one, other) if many is good else (other, one)


def _judged(good: Opinion, bad: Opinion) -> JudgedRow | Unusable:
    if good.completion.strip() == bad.completion.strip():
        return Unusable("the same completion, liked and disliked", broken=False)
    who = good.who if good.who == bad.who else None
    return judged(good.prompt, (good.completion, bad.completion), "a", annotator=who)


def trl_unpaired(row: Row, how: Reading) -> Opinion:
    """``prompt``, ``completion`` and ``label``: true is liked."""
    prompt, completion = row.get("prompt"), row.get("completion")
    if is_conversation(completion):
        said = messages(completion, "completion")
        prompt, (completion, _) = last_answers(
            messages(prompt, "prompt"), (said, said), how.render, ("completion", "completion")
        )
    else:
        prompt, (completion,) = as_given(prompt, [("completion", completion)], how)
    if absent(row.get("label")):
        raise Refused("no label")
    liked = yes(row["label"], "label")
    return opinion(prompt, completion, float(liked), annotator(row, how))


def opinion(prompt: str, completion: str, score: float, who: str | None, kind: str = "") -> Opinion:
    """Raises Refused where one of the texts is blank."""
    for name, said in (("prompt", prompt), ("completion", completion)):
        if not text(said, name).strip():
            raise Refused(f"empty {name}")
    return Opinion(prompt, completion, score, who, kind)
