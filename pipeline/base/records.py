"""The records that cross floors: Comparison -> Annotation -> Preference, and their ids.

Text only. Token ids live with the rollout that made them and are never rebuilt from text.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from json.encoder import encode_basestring
from typing import Any, Literal, cast, get_args

Choice = Literal["a", "b", "tie", "both_bad"]
CHOICES: tuple[Choice, ...] = get_args(Choice)
LIKED: dict[tuple[bool, bool], Choice] = {
    (True, False): "a", (False, True): "b", (True, True): "tie", (False, False): "both_bad"
}  # fmt: skip
"""The choice between two completions that were liked or not, each by itself."""

# Columns of the datasets of ``collect``. ``completion_b`` is null where a completion stands alone.
PROMPTS = {"id": "string", "prompt": "string"}
COMPARISONS = {"id": "string", "prompt": "string", "completion_a": "string", "completion_b": "string"}
PREFERENCES = {
    "id": "string",
    "prompt": "string",
    "chosen": "string",
    "rejected": "string",
    "margin": "double",
    "annotator": "string",
    "comparison_id": "string",
}
PEOPLES_VOTES = {
    "id": "string",
    "comparison_id": "string",
    "item_id": "string",
    "mode": "string",
    "annotator": "string",
    "choice": "string",
    "shown": "string",
    "strength": "string",
    "tags": "string",
    "note": "string",
    "ms": "int64",
    "at": "string",
    "round": "int64",
    "gold": "string",
    "consent": "string",
    "reason": "string",
    "margin": "double",
    "score_a": "double",
    "score_b": "double",
    "count": "int64",
}
"""Schema of people's single answers.

``shown``: which completion stood where, as ``1,0``. ``tags``: a JSON list. ``consent``: sha256 of the text agreed
to. A skip has a ``reason`` and no ``choice``. ``count``: how many gave this answer, where a row stands for several
whose names are not known.
"""

_OF_ANY = ("id", "comparison_id", "annotator", "choice", "score_a", "score_b", "margin", "reason", "count")
VOTES = {column: PEOPLES_VOTES[column] for column in _OF_ANY}
"""Schema of the answers of annotators that are no people."""

PERSON_ID = re.compile(r"p_[0-9a-f]{10}")
"""The name of a person as an annotator: random, or a salted digest of the name in another tool's file."""

OUTCOMES = {
    "item_id": "string",
    "comparison_id": "string",
    "choice": "string",
    "share": "double",
    "votes": "int64",
    "confidence": "double",
    "adjudicated": "bool",
}
"""What the votes on each item come to: ties, bad pairs and even splits are kept as such."""


_JSON = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def canonical_json(value: object) -> str:
    """One spelling per value: sorted keys, no blanks, UTF-8 kept as it is."""
    if value.__class__ is list and {*map(type, texts := cast("list[str]", value))} == {str}:
        return f"[{','.join(map(encode_basestring, texts))}]"  # what the encoder gives, in two thirds of the time
    return _JSON.encode(value)


def digest(value: object) -> str:
    """sha256 (hex) of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def reader_of(annotator: str) -> str:
    """What versions call an annotator as a reader: a digest of their id, which no version's name may hold."""
    return f"r{digest(['reader', annotator])[:8]}"


def short_hash(*texts: str) -> bytes:
    """16 bytes of these texts, for telling many of them apart in little memory; never stored."""
    whole = hashlib.blake2b(digest_size=16)
    for text in texts:
        spelled = text.encode("utf-8", "surrogatepass")
        whole.update(b"%d:%b" % (len(spelled), spelled))
    return whole.digest()


def row_id(prompt: str, chosen: str, rejected: str) -> str:
    """Identity of a preference: the same three texts have the same id in every version."""
    return digest([prompt, chosen, rejected])


def bucket(text: str, salt: str = "split") -> float:
    """A number in [0, 1) that depends on ``text`` alone; splits are cut on it."""
    return int(hashlib.sha256(f"{salt}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()[:13], 16) / 16**13


def split_of(prompt: str, test_share: float) -> Literal["train", "test"]:
    """Split by the hash of the prompt, so that a prompt is on the same side in every version."""
    return "test" if bucket(prompt) < test_share else "train"


def selection_bucket(prompt: str) -> float:
    """A number in [0, 1), another one than :func:`split_of` goes by: which prompts choose a checkpoint."""
    return bucket(prompt, salt="select")


def turned(choice: Choice) -> Choice:
    """The same choice with the sides exchanged."""
    return "b" if choice == "a" else "a" if choice == "b" else choice


@dataclass(frozen=True)
class Comparison:
    """Two completions of one prompt, not judged yet."""

    prompt: str
    completion_a: str
    completion_b: str
    meta: dict[str, Any] = field(default_factory=dict[str, Any], compare=False)

    @property
    def id(self) -> str:
        # As functools.cached_property, which takes a lock every time (Python 3.11).
        known = self.__dict__.get("_id")
        if known is None:
            known = self.__dict__["_id"] = digest([self.prompt, self.completion_a, self.completion_b])
        return known

    def stored(self) -> tuple[Any, ...]:
        """Its texts, and what is derived from them and takes a while, for :meth:`restored`."""
        return self.prompt, self.completion_a, self.completion_b, self.id, self.alike()

    @classmethod
    def restored(cls, prompt: str, completion_a: str, completion_b: str, id: str, alike: Any) -> Comparison:
        """The comparison of which these are :meth:`stored`."""
        made = cls(prompt, completion_a, completion_b)
        made.__dict__.update(_id=id, _alike=alike)
        return made

    def alike(self) -> tuple[bytes, bool]:
        """(16 bytes that are equal for what people would call the same comparison, whether A is first in it).

        Which side is A, and blanks around the texts, make no difference to whoever compares them. Which completion
        is first is as good as a coin's toss: agreement beyond chance supposes that sides mean nothing.
        """
        known = self.__dict__.get("_alike")
        if known is None:
            a, b = self.completion_a.strip(), self.completion_b.strip()
            key = short_hash(self.prompt.strip(), *((a, b) if a <= b else (b, a)))
            known = self.__dict__["_alike"] = key, (a <= b) == (key[0] % 2 == 0)
        return known


@dataclass(frozen=True)
class Annotation:
    """One annotator's choice on one comparison.

    ``score_a`` and ``score_b`` are what the annotator thought of each completion, where it has such numbers;
    ``margin`` says by how much the choice was won (TRL's ``margin`` column), where that is known. ``count`` is how
    many chose so, where one row stands for several.
    """

    comparison_id: str
    annotator: str
    choice: Choice
    score_a: float | None = None
    score_b: float | None = None
    margin: float | None = None
    count: int = 1


@dataclass(frozen=True)
class Abstention:
    """An annotator that could not answer, with its reason. Never turned into a low score."""

    comparison_id: str
    annotator: str
    reason: str


@dataclass(frozen=True)
class Preference:
    """A training row in TRL's explicit-prompt format."""

    prompt: str
    chosen: str
    rejected: str
    annotator: str
    comparison_id: str
    margin: float | None = None

    @property
    def id(self) -> str:
        return row_id(self.prompt, self.chosen, self.rejected)


def preference_from(comparison: Comparison, annotation: Annotation) -> Preference | None:
    """The training row of a decided comparison; None for a tie or for two bad ones."""
    if annotation.choice not in ("a", "b"):
        return None
    pair = (comparison.completion_a, comparison.completion_b)
    chosen, rejected = pair if annotation.choice == "a" else pair[::-1]
    return Preference(comparison.prompt, chosen, rejected, annotation.annotator, comparison.id, annotation.margin)
