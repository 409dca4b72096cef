"""Any Hugging Face text-classification or reward model as an annotator: the completion it scores higher wins.

Generative judges are left out on purpose: they answer in prose, and can refuse.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.annotators import Annotator, Context
from pipeline.core.errors import ConfigError, ModelError
from pipeline.core.records import Abstention, Annotation, Choice, Comparison, bucket

_GOOD_LABELS = ("positive", "pos", "good", "better", "chosen", "preferred", "helpful", "acceptable")


@dataclass(frozen=True)
class Options:
    """Which model judges, and what it reads.

    Args:
        model: a Hub id or a local directory, with safetensors weights and a sequence-classification head.
        label: whose probability is "better"; by default one called positive, good ... or else the last.
            A model with one output (a reward model) has no labels: its raw logit counts.
        on: score the prompt and the completion together, or the completion alone.
        max_length: tokens read. What is longer loses its start where ``on`` is ``both``, else its end.
        temperature: 0 chooses the higher score; above, P(a) = sigmoid((score_a - score_b) / temperature).
        min_difference: abstain where the scores differ by less.
        batch_size: texts per forward pass.
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

    def __post_init__(self) -> None:
        for key in ("batch_size", "max_length"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} = {getattr(self, key)} should be 1 or more.")
        for key in ("temperature", "min_difference"):
            if not (math.isfinite(getattr(self, key)) and getattr(self, key) >= 0):
                raise ValueError(f"{key} = {getattr(self, key)} should be 0 or more.")


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
        # A directory's path is nobody else's business; rows carry its name.
        self.name = f"classifier:{local.resolve().name if local.is_dir() else options.model}"
        self._options, self._seed = options, context.seed
        self._model, self._tokenizer = _load(options, context.where)
        self._label = _label_index(self._model.config, options, context.where)

    def annotate(self, comparison: Comparison) -> Annotation | Abstention:
        return self._judge([comparison])[0]

    def annotate_all(self, comparisons: Sequence[Comparison]) -> Iterator[Annotation | Abstention]:
        from tqdm import tqdm

        size = max(1, self._options.batch_size // 2)
        with tqdm(total=len(comparisons), desc=self.name, unit="comparison", disable=None) as bar:
            for start in range(0, len(comparisons), size):
                some = self._judge(comparisons[start : start + size])
                bar.update(len(some))
                yield from some

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
        import torch

        size = self._options.batch_size
        scores: list[float] = []
        for start in range(0, len(texts), size):
            batch = self._tokenizer(
                texts[start : start + size],
                return_tensors="pt",
                padding=True,
                truncation=True,
                max_length=self._max_length(),
            ).to(self._model.device)
            with torch.inference_mode():
                logits = self._model(**batch).logits.double()  # a sure model saturates sooner in float32
            if self._label is None:
                score = logits[:, 0]
            elif self._model.config.problem_type == "multi_label_classification":
                score = logits.sigmoid()[:, self._label]
            else:
                score = logits.softmax(-1)[:, self._label]
            # A tokenizer without special tokens can turn a text into nothing; the model's answer is then noise.
            unread = batch["attention_mask"].sum(-1) == 0
            scores += score.masked_fill(unread, math.nan).tolist()
        return scores

    def _max_length(self) -> int:
        limits = [self._options.max_length, self._tokenizer.model_max_length]
        positions = getattr(self._model.config, "max_position_embeddings", None)
        if isinstance(positions, int) and positions > 0:
            limits.append(positions)
        return min(limits)


def _load(options: Options, where: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    _check_local(options.model, where)
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    given = {"revision": options.revision or "main", "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(options.model, **given)
        model, info = AutoModelForSequenceClassification.from_pretrained(
            options.model, use_safetensors=True, output_loading_info=True, **given
        )
        model = model.to(device).eval()
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as err:
        said = (str(err).strip().splitlines() or [type(err).__name__])[0][:200]
        raise ModelError(
            where,
            f'cannot load classifier "{options.model}": {said}',
            "Give a local directory or a Hub id whose weights are safetensors.",
        ) from err
    if info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"])[:3])
        raise ModelError(
            where,
            f'classifier "{options.model}" lacks trained weights: {missing}.',
            "It is not a sequence classifier; its answers would be random. Choose a fine-tuned one.",
        )
    _prepare_padding(model, tokenizer, options, where)
    tokenizer.truncation_side = "left" if options.on == "both" else "right"
    return model, tokenizer


def _check_local(model: str, where: str) -> None:
    path = Path(model).expanduser()
    if not path.is_dir() and (path.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1):
        raise ModelError(
            where,
            f'no model directory "{model}".',
            "Check collect.annotator_args.model; a Hub model is written org/name.",
        )


def _prepare_padding(model: Any, tokenizer: Any, options: Options, where: str) -> None:
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token_id is None:
        raise ModelError(
            where,
            f'the tokenizer of "{options.model}" has neither a padding nor an end token.',
            "Set pad_token in its tokenizer_config.json.",
        )
    tokenizer.padding_side = "right"
    # GPT-2 style heads read the last token that is not this one; without it they refuse a batch.
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id


def _label_index(config: Any, options: Options, where: str) -> int | None:
    """Which output is "better"; None for a model with a single one."""
    names = [str(config.id2label[i]) for i in range(config.num_labels)]
    if options.label is not None:
        matching = [i for i, name in enumerate(names) if name.lower() == options.label.lower()]
        if not matching or len(names) == 1:
            there = "one output and no labels" if len(names) == 1 else f"the labels {', '.join(names)}"
            raise ConfigError(
                where,
                f'collect.annotator_args.label "{options.label}": the model has {there}.',
                "Remove label." if len(names) == 1 else "Name one of them.",
            )
        return matching[0]
    if len(names) == 1:
        return None
    return next((i for i, name in enumerate(names) if name.lower() in _GOOD_LABELS), len(names) - 1)
