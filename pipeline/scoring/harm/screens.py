"""Flag texts by a short list of words, or by a classifier: a rate to compare, never a judgement of one text.

The list flags no word for a group of people: lists that do flag "I am a proud gay man", and still miss hostility
in polite words. How far either screen is right is measured on :func:`probe`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, Protocol

import torch

from pipeline.base.errors import ConfigError
from pipeline.modeling.types import Device
from pipeline.scoring.classifiers import SequenceClassifier, label_index, load_classifier

FOLDER = Path(__file__).parent
WORDS = "words"


class Screen(Protocol):
    """Something that flags texts."""

    name: str
    kind: Literal["words", "classifier"]
    labels: Sequence[str]
    threshold: float | None

    @property
    def truncated(self) -> int:
        """Texts so far that were longer than it reads."""
        ...

    def flags(self, texts: Sequence[str]) -> Mapping[str, list[bool]]:
        """Of each label, (n,) whether it holds."""
        ...


@dataclass(frozen=True)
class Probe:
    """A text whose truth is known."""

    harmful: bool
    kind: str
    text: str


def probe() -> list[Probe]:
    """The texts of ``probe.tsv``, written before there was a screen."""
    return [Probe(row["truth"] == "harmful", row["kind"], row["text"]) for row in _rows("probe.tsv")]


class WordScreen:
    """The words and phrases of ``words.tsv``, as whole words in any case."""

    name: str = WORDS
    kind: Literal["words", "classifier"] = "words"
    threshold: float | None = None
    truncated = 0

    def __init__(self) -> None:
        self._patterns = _patterns()
        self.labels: Sequence[str] = list(self._patterns)

    def flags(self, texts: Sequence[str]) -> Mapping[str, list[bool]]:
        """See :class:`Screen`."""
        return {
            label: [pattern.search(text) is not None for text in texts]
            for label, pattern in self._patterns.items()
        }


class ClassifierScreen:
    """A sequence classifier's labels, from a probability on.

    A label's probability is the sigmoid of its logit where the model has one output, or several that do not
    exclude each other (``problem_type: multi_label_classification``); else the softmax.
    """

    kind: Literal["words", "classifier"] = "classifier"

    def __init__(
        self, classifier: SequenceClassifier, name: str, labels: Sequence[str], threshold: float, where: str
    ) -> None:
        """Raises ConfigError: no label is named though there are several, or one that the model does not have."""
        self.name, self._classifier = name, classifier
        self.threshold: float | None = threshold
        self._least = threshold
        names = classifier.names
        if not labels and len(names) > 1:
            what = f'"{name}" has the labels {", ".join(names)}.'
            raise ConfigError(where, what, "Say which count as harm: --labels " + " ".join(names[:2]))
        self._outputs = [label_index(names, label, where, "--labels") for label in labels] if labels else [0]
        self.labels: Sequence[str] = [names[i] for i in self._outputs]

    @classmethod
    def load(
        cls,
        source: str,
        *,
        revision: str | None,
        labels: Sequence[str],
        threshold: float,
        device: Device,
        name: str,
    ) -> ClassifierScreen:
        """Load a directory or Hub id.

        Raises:
            ModelError: see :func:`pipeline.scoring.classifiers.load_classifier`.
            ConfigError: see above.
        """
        dtype = "auto" if torch.device(device).type != "cpu" else torch.float32
        where, key = "command line", "--classifier"
        classifier = load_classifier(
            source, revision=revision, device=device, where=where, key=key, truncation_side="right", dtype=dtype
        )
        return cls(classifier, name, labels, threshold, where)

    @property
    def truncated(self) -> int:
        """See :class:`Screen`."""
        return self._classifier.truncated

    def flags(self, texts: Sequence[str]) -> Mapping[str, list[bool]]:
        """See :class:`Screen`."""
        probabilities = self.probabilities(texts)
        return {label: (probabilities[:, i] >= self._least).tolist() for i, label in enumerate(self.labels)}

    def probabilities(self, texts: Sequence[str]) -> torch.Tensor:
        """(N, labels) of the labels that count. An empty text is read as the token that a document starts with."""
        rows = [row or [self._classifier.start] for row in self._classifier.encode(texts)]
        logits = self._classifier.logits(rows)
        several = self._classifier.model.config.problem_type == "multi_label_classification"
        every = logits.sigmoid() if several or logits.shape[1] == 1 else logits.softmax(-1)
        return every[:, self._outputs]


@cache
def _patterns() -> dict[str, re.Pattern[str]]:
    by_label: dict[str, list[str]] = {}
    for row in _rows("words.tsv"):
        phrase = r"\s+".join(re.escape(word) for word in row["words"].split())
        by_label.setdefault(row["label"], []).append(phrase)
    return {
        label: re.compile(rf"(?<!\w)(?:{'|'.join(phrases)})(?!\w)", re.IGNORECASE)
        for label, phrases in by_label.items()
    }


def _rows(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
