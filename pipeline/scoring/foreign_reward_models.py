"""Reward models with a base and tokenizer of their own, which read the samples as text.

Two kinds: any Hugging Face sequence classifier, and a reward adapter of this pipeline over another base.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from peft import PeftModel
from torch import Tensor

from pipeline.base.errors import ConfigError, ModelError
from pipeline.formats.detect import render_plain
from pipeline.modeling.loading import at_commit, load_causal_lm, load_tokenizer, loaded_commit, require_fit
from pipeline.modeling.lora import with_adapter
from pipeline.modeling.roles import language_model
from pipeline.modeling.tokens import encode_completions, encode_conversation, encode_prompts, eos_id
from pipeline.modeling.types import CausalLM, Device, Tokenizer
from pipeline.scoring.classifiers import SequenceClassifier, label_index, load_classifier
from pipeline.scoring.reward_adapter import RewardRole, Scoring, scored_rows
from pipeline.scoring.scorer import Conversation, Samples
from pipeline.workflow.relocate import named_base

_FILES = ("scoring.json", "adapter_model.safetensors")


class ClassifierScorer:
    """A sequence classifier: the raw logit of its single output, or of one of its labels.

    Not the label's probability, which is flat where the classifier is sure. It reads prompt and completion as one
    text, a conversation through its chat template if it has one. Too long texts lose their beginning, and
    ``truncated`` counts them.

    A reward adapter that was merged into its base has a ``scoring.json`` beside it: it scores as the adapter does,
    prompt and completion tokenised separately, with the same end and normalised.
    """

    scoring: Scoring | None = None

    def __init__(
        self,
        classifier: SequenceClassifier,
        output: int,
        name: str,
        batch_size: int = 32,
        scoring: Scoring | None = None,
    ) -> None:
        self.classifier, self.output, self.name, self.batch_size = classifier, output, name, batch_size
        self.scoring = scoring

    @property
    def truncated(self) -> int:
        return self.classifier.truncated

    @classmethod
    def load(
        cls, source: str, *, revision: str | None, label: str | None, device: Device, where: str, key: str
    ) -> ClassifierScorer:
        """Load a directory or Hub id.

        Raises:
            ModelError: see :func:`load_classifier`.
            ConfigError: ``label`` is missing though there are several, or the model does not have it.
        """
        # On a CPU half precision is slow.
        dtype = "auto" if torch.device(device).type != "cpu" else torch.float32
        classifier = load_classifier(source, revision=revision, device=device, where=where, key=key, dtype=dtype)
        if label is None and len(classifier.names) > 1:
            raise ConfigError(
                where,
                f'{key}: "{source}" has the labels {", ".join(classifier.names)}.',
                "Say which one is the reward: {model: ..., label: ...}",
            )
        output = 0 if label is None else label_index(classifier.names, label, where, key)
        return cls(classifier, output, source, scoring=_scoring_beside(source, revision, len(classifier.names)))

    def __call__(self, samples: Samples) -> Tensor:
        """(B,) logits.

        Raises:
            ModelError: a logit is not finite, or the chat template refuses a conversation.
        """
        scores = self.classifier.logits(self._rows(samples), self.batch_size)[:, self.output]
        for i in (~scores.isfinite()).nonzero().flatten().tolist():
            text = samples.completions[i][:40]
            raise ModelError(
                f"reward model {self.name}",
                f"gave {scores[i].item()} for completion {i} ({text!r}).",
                "In half precision it may overflow.",
            )
        return scores if self.scoring is None else self.scoring.normalised(scores)

    def _rows(self, samples: Samples) -> list[list[int]]:
        if self.scoring is not None:
            ids = encode_separately(self.classifier.tokenizer, samples.as_given, samples.completions)
            rows = scored_rows(*ids, eos_id(self.classifier.tokenizer), self.scoring.score_position)
            self.classifier.truncated += sum(len(row) > self.classifier.limit for row in rows)
            return [row[-self.classifier.limit :] for row in rows]
        texts, special = list(samples.texts), [True] * len(samples)
        for i, prompt in enumerate(samples.as_given):
            if not isinstance(prompt, str):
                texts[i], special[i] = self._rendered(prompt, samples.completions[i])
        rows: list[list[int]] = [[] for _ in texts]
        for kind in (True, False):
            index = [i for i, s in enumerate(special) if s is kind]
            encoded = self.classifier.encode([texts[i] for i in index], special=kind)
            for i, row in zip(index, encoded, strict=True):
                rows[i] = row or [self.classifier.start]
        return rows

    def parts(self, prompt: str | Conversation, completion: str) -> tuple[str, str, str, bool]:
        """The text before the completion, the completion, the text after it, and see :meth:`_rendered`."""
        if isinstance(prompt, str):
            return prompt, completion, "", True
        text, special = self._rendered(prompt, completion)
        answer = completion if completion in text else completion.strip()  # some templates strip it
        begin = text.rfind(answer)
        return text[:begin], answer, text[begin + len(answer) :], special

    def _rendered(self, prompt: Conversation, completion: str) -> tuple[str, bool]:
        """The conversation as text, and whether special tokens have to be added around it."""
        from jinja2 import TemplateError

        if not getattr(self.classifier.tokenizer, "chat_template", None):
            return "".join(render_plain(prompt, completion)), True
        messages = [*prompt, {"role": "assistant", "content": completion}]
        try:
            # The template writes the special tokens itself.
            return cast("str", self.classifier.tokenizer.apply_chat_template(messages, tokenize=False)), False
        except TemplateError as err:
            roles = ", ".join(m["role"] for m in messages)
            raise ModelError(
                f"reward model {self.name}", f"its chat template refuses the roles {roles}: {err}."
            ) from err


class AdapterScorer:
    """A reward adapter of this pipeline over another base than the policy's.

    Prompt and completion are tokenised separately, as in the reward stage's training.
    """

    def __init__(self, role: RewardRole, tokenizer: Tokenizer) -> None:
        self.role, self.tokenizer = role, tokenizer

    def __call__(self, samples: Samples) -> Tensor:
        """(B,) normalised scores."""
        return self.role.score(*encode_separately(self.tokenizer, samples.as_given, samples.completions))

    @property
    def scoring(self) -> Scoring:
        return self.role.scoring

    @property
    def truncated(self) -> int:
        return self.role.truncated


def encode_separately(
    tokenizer: Tokenizer, prompts: Sequence[str | Conversation], completions: Sequence[str]
) -> tuple[list[list[int]], list[list[int]]]:
    """The ids of prompts and of completions, as in the reward stage's training."""
    prompt_ids = [
        encode_prompts(tokenizer, [p])[0] if isinstance(p, str) else encode_conversation(tokenizer, p)
        for p in prompts
    ]
    return prompt_ids, encode_completions(tokenizer, completions)


class RewardAdapters:
    """Loads reward adapters of this pipeline; all adapters over one base are roles of one model.

    Args:
        model, tokenizer: the policy's, shared with adapters over the same base.
        base: the source of that base: (directory or Hub id, revision). Without it only a directory is recognised.
        device: for further bases.
    """

    def __init__(
        self,
        model: CausalLM | None,
        tokenizer: Tokenizer | None,
        base: tuple[str, str | None] | None,
        device: Device,
    ) -> None:
        name = "" if model is None else getattr(language_model(model), "name_or_path", "")
        if base is None and name and Path(name).is_dir():
            base = (name, None)
        self._policy, self._tokenizer, self._device = model, tokenizer, device
        self._own = None if base is None else _identity(*base)
        self._bases: dict[tuple[str, str | None], tuple[CausalLM, Tokenizer]] = {}
        # A base that is trained itself no longer fits an adapter.
        if self._own is not None and isinstance(model, PeftModel) and tokenizer is not None:
            self._bases[self._own] = (model, tokenizer)

    def own(self, directory: Path) -> RewardRole:
        """The experiment's own adapter, over the policy's base: it reads the policy's ids.

        Raises:
            ModelError: see :meth:`load`.
        """
        if isinstance(self._policy, PeftModel) and self._tokenizer is not None:
            return _add_role(self._policy, self._tokenizer, directory)
        return _add_role(*self._base(directory)[1:], directory)

    def load(self, directory: Path) -> RewardRole | AdapterScorer:
        """The adapter in ``directory`` as a scorer.

        Raises:
            ModelError: it is not a reward adapter of this pipeline, or its base cannot be loaded.
        """
        if not (directory / "scoring.json").is_file():
            raise ModelError(
                str(directory),
                "is an adapter without scoring.json, so how to read its score is not known.",
                "Merge it into its base, or train one: make reward",
            )
        key, model, tokenizer = self._base(directory)
        role = _add_role(model, tokenizer, directory)
        return role if key == self._own else AdapterScorer(role, tokenizer)

    def _base(self, directory: Path) -> tuple[tuple[str, str | None], CausalLM, Tokenizer]:
        """The adapter's base: its identity, the PEFT model and the tokenizer."""
        source, revision = named_base(directory)
        key = _identity(source, revision)
        if key not in self._bases:
            self._bases[key] = self._load_base(directory, source, revision)
        return key, *self._bases[key]

    def _load_base(self, directory: Path, source: str, revision: str | None) -> tuple[CausalLM, Tokenizer]:
        """The base as a PEFT model with an adapter that is never active (PEFT needs one)."""
        try:
            base, tokenizer = load_causal_lm(source, revision, torch.float32), load_tokenizer(source, revision)
        except ModelError as err:
            raise ModelError(str(directory), f"its base cannot be loaded: {err}") from err
        require_fit(base, tokenizer, source)
        return with_adapter(base, directory, "unused", source).to(self._device).eval(), tokenizer


def _scoring_beside(source: str, revision: str | None, labels: int) -> Scoring | None:
    """How a merged reward model's score is read; None of other classifiers, which have no ``scoring.json``."""
    from huggingface_hub import hf_hub_download

    directory = Path(source).expanduser()
    if labels == 1 and not directory.is_dir():
        try:
            directory = Path(hf_hub_download(source, "scoring.json", revision=at_commit(source, revision))).parent
        except (OSError, ValueError):
            return None
    return Scoring.load(directory) if labels == 1 and (directory / "scoring.json").is_file() else None


def _add_role(model: CausalLM, tokenizer: Tokenizer, directory: Path) -> RewardRole:
    """Add the adapter to ``model`` under a name that is free."""
    names = ("reward", *(f"reward{i}" for i in range(1, len(model.peft_config) + 1)))
    free = next(n for n in names if n not in model.peft_config)
    return RewardRole.load(model, directory, eos_id(tokenizer), adapter=free)


def adapter_directory(source: str, revision: str | None) -> Path | None:
    """The directory of the adapter ``source`` (directory or Hub id), downloaded if need be; None for others."""
    from huggingface_hub import hf_hub_download

    path = Path(source).expanduser()
    if path.is_dir():
        return path if (path / "adapter_config.json").is_file() else None
    revision = at_commit(source, revision)
    try:
        config = Path(hf_hub_download(source, "adapter_config.json", revision=revision))
    except (OSError, ValueError):  # loading it as a classifier reports what is wrong
        return None
    for name in _FILES:
        try:
            hf_hub_download(source, name, revision=revision)
        except (OSError, ValueError) as err:
            mend = "Merge it into its base, or publish one that this pipeline trained."
            raise ModelError(source, f"is an adapter without {name}.", mend) from err
    return config.parent


def _identity(source: str, revision: str | None) -> tuple[str, str | None]:
    """A key that is equal for equal bases: a directory's real path, or a repository and its commit."""
    path = Path(source).expanduser()
    if path.is_dir():
        return str(path.resolve()), None
    try:
        revision = at_commit(source, revision)
        return source, loaded_commit(source, revision) or revision
    except ValueError:  # a deleted directory; loading it raises
        return source, revision
