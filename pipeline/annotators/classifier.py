"""A Hugging Face classification or reward model as an annotator: the completion with the higher score wins."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.annotators import Annotator, Context
from pipeline.base.records import Abstention, Annotation, Choice, Comparison, bucket

if TYPE_CHECKING:
    from pipeline.scoring.classifiers import SequenceClassifier

_KEY = "collect.annotator_args"
_GOOD_LABELS = ("positive", "pos", "good", "better", "chosen", "preferred", "helpful", "acceptable")


@dataclass(frozen=True)
class Options:
    """The model and its input.

    Args:
        model: a Hub id or a local directory, with safetensors weights and a sequence-classification head.
        label: the label whose probability is the score; by default one called positive, good ... or else the last.
            A model with one output (a reward model) has no labels: its raw logit is the score.
        on: score the prompt and the completion together, or the completion alone.
        max_length: tokens read. Longer texts lose their start where ``on`` is ``both``, else their end.
        temperature: 0 chooses the higher score; above, P(a) = sigmoid((score_a - score_b) / temperature).
        min_difference: abstain where the scores differ by less.
        batch_size: texts per forward pass.
        revision: of a Hub id.
        device: by default the first CUDA device, else the CPU.
    """

    model: str
    label: str | None = None
    on: Literal["both", "completion"] = "both"
    batch_size: int = 16
    max_length: int = 512
    temperature: float = 0.0
    min_difference: float = 0.0
    revision: str | None = None
    device: str | None = None


def build(options: Options, context: Context) -> Annotator:
    """Load the model.

    Raises:
        ModelError: no such model, no safetensors weights, no trained classification head, no tokenizer.
        ConfigError: ``label`` is not one of the model's.
    """
    return Classifier(options, context)


class Classifier:
    """See :class:`Options`. ``score_a`` and ``score_b`` are probabilities, or logits of a one-output model."""

    name: str

    def __init__(self, options: Options, context: Context) -> None:
        local = Path(options.model).expanduser()
        # Rows carry a directory's name, not its path, which is private.
        self.name = f"classifier:{local.resolve().name if local.is_dir() else options.model}"
        self._options, self._seed = options, context.seed
        self._classifier = _load(options, context.where)
        self._label = _label_index(self._classifier.names, options.label, context.where)

    def annotate(self, comparison: Comparison) -> Annotation | Abstention:
        return self._judge([comparison])[0]

    def annotate_all(self, comparisons: Sequence[Comparison]) -> Iterator[Annotation | Abstention]:
        from tqdm import tqdm

        size = max(1, self._options.batch_size // 2)
        with tqdm(total=len(comparisons), desc=self.name, unit="comparison", disable=None) as bar:
            for start in range(0, len(comparisons), size):
                batch = self._judge(comparisons[start : start + size])
                bar.update(len(batch))
                yield from batch

    def _judge(self, comparisons: Sequence[Comparison]) -> list[Annotation | Abstention]:
        readable = [c for c in comparisons if c.completion_a.strip() and c.completion_b.strip()]
        together = self._options.on == "both"
        texts = [
            c.prompt + completion if together else completion
            for c in readable
            for completion in (c.completion_a, c.completion_b)
        ]
        scores = iter(self._scores(texts)) if texts else iter(())
        judged: list[Annotation | Abstention] = []
        for c in comparisons:
            if not (c.completion_a.strip() and c.completion_b.strip()):
                judged.append(Abstention(c.id, self.name, "empty completion"))
            else:
                judged.append(self._decide(c.id, next(scores), next(scores)))
        return judged

    def _decide(self, comparison_id: str, a: float, b: float) -> Annotation | Abstention:
        if not (math.isfinite(a) and math.isfinite(b)):
            return Abstention(comparison_id, self.name, "score is not a number")
        if a == b:
            return Abstention(comparison_id, self.name, "equal scores")
        if abs(a - b) < self._options.min_difference:
            return Abstention(comparison_id, self.name, f"scores differ by < {self._options.min_difference}")
        choice: Choice = "a" if a > b else "b"
        if self._options.temperature > 0:
            p_a = 0.5 + 0.5 * math.tanh((a - b) / self._options.temperature / 2)
            choice = "a" if bucket(comparison_id, salt=f"classifier:{self._seed}") < p_a else "b"
        return Annotation(comparison_id, self.name, choice, a, b)

    def _scores(self, texts: list[str]) -> list[float]:
        rows = self._classifier.encode(texts, max_length=self._options.max_length)
        # A tokenizer without special tokens can return no token, which has no score.
        readable = [i for i, row in enumerate(rows) if row]
        logits = self._classifier.logits([rows[i] for i in readable], self._options.batch_size)
        logits = logits.double()  # probabilities near 1 saturate sooner in float32
        if self._label is None:
            values = logits[:, 0]
        elif self._classifier.model.config.problem_type == "multi_label_classification":
            values = logits.sigmoid()[:, self._label]
        else:
            values = logits.softmax(-1)[:, self._label]
        scores = [math.nan] * len(texts)
        for i, score in zip(readable, values.tolist(), strict=True):
            scores[i] = score
        return scores


def _load(options: Options, where: str) -> SequenceClassifier:
    import torch

    from pipeline.scoring.classifiers import load_classifier

    return load_classifier(
        options.model,
        revision=options.revision,
        device=options.device or ("cuda" if torch.cuda.is_available() else "cpu"),
        where=where,
        key=_KEY,
        truncation_side="left" if options.on == "both" else "right",
    )


def _label_index(names: list[str], label: str | None, where: str) -> int | None:
    """The index of the output that is the score; None for a model with a single output."""
    from pipeline.scoring.classifiers import label_index

    if label is not None:
        return label_index(names, label, where, _KEY)
    if len(names) == 1:
        return None
    return next((i for i, name in enumerate(names) if name.lower() in _GOOD_LABELS), len(names) - 1)
