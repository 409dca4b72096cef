"""Build the scorer that the config's ``ppo.reward`` describes; several scorers are combined into one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pipeline.base.errors import ConfigError
from pipeline.modeling.types import CausalLM, Device, Tokenizer
from pipeline.scoring.foreign_reward_models import ClassifierScorer, RewardAdapters, adapter_directory
from pipeline.scoring.named_functions import load_function
from pipeline.scoring.reward_functions import FunctionScorer
from pipeline.scoring.scorer import Samples, Scorer
from pipeline.store.version import Version
from pipeline.workflow.reward_sources import Combine, RewardSource, check_combine, parse_sources

__all__ = ["Ensemble", "Samples", "Scorer", "ScorerContext", "build"]

Resolve = Callable[[str], Version | None]
"""The version that a text names, or None: :meth:`pipeline.store.store.Store.find_version`."""


class Ensemble:
    """Several scorers as one.

    ``sum``: weighted; the default. ``mean``: the weighted mean. ``min``: the worst case, sample by sample.
    ``mean_minus_std``: mean - std_coef x population standard deviation over the members. The last two penalise
    disagreement, where a policy exploits the flaws of one member (Coste et al. 2023, arXiv:2310.02743).

    Attributes:
        last_members: (M, B) scores of the last call, one row for each member, before weights; to log their spread.
    """

    def __init__(
        self,
        members: Sequence[Scorer],
        combine: Combine = "sum",
        weights: Sequence[float | None] | None = None,
        std_coef: float = 1.0,
        names: Sequence[str] | None = None,
        where: str = "Ensemble",
    ) -> None:
        """Raises ConfigError if ``combine`` does not go with these weights or so few members."""
        factors = list(weights) if weights is not None else [None] * len(members)
        self.combine = check_combine(combine, factors, std_coef, where)
        self.members, self.std_coef = list(members), float(std_coef)  # YAML reads 1e-1 as text
        self.weights = torch.tensor([1.0 if w is None else w for w in factors])
        self.names = list(names) if names is not None else [str(i) for i in range(len(members))]
        assert len(self.members) == len(self.weights) == len(self.names)
        self.last_members: Tensor | None = None

    def __call__(self, samples: Samples) -> Tensor:
        """(B,) combined scores."""
        self.last_members = self.all_scores(samples)
        return self.combined(self.last_members)

    def all_scores(self, samples: Samples) -> Tensor:
        """(M, B) scores of the members, before weights."""
        return torch.stack([member(samples) for member in self.members])

    def combined(self, scores: Tensor) -> Tensor:
        """(B,) from (M, B)."""
        if self.combine == "min":
            return scores.amin(0)
        if self.combine == "mean_minus_std":
            return scores.mean(0) - self.std_coef * scores.std(0, correction=0)
        total = self.weights @ scores
        return total / self.weights.sum() if self.combine == "mean" else total


@dataclass(frozen=True)
class ScorerContext:
    """The context in which a config's scorers are built: name lookup and models that are already loaded.

    Attributes:
        where: the config file, for messages.
        device: of the models that are loaded.
        resolve: see :data:`Resolve`.
        model, tokenizer: the policy's; reward adapters over its base become its roles.
        adapter_dir: of this experiment's own reward adapter; None if it is not among the sources.
        rewards: the task's own, from prompts and completions; None where the task has none.
        base: where the base of ``model`` was loaded from, (directory or Hub id, revision). Without it only a
            directory is recognised in other adapters.
    """

    where: str
    device: Device
    resolve: Resolve
    model: CausalLM | None = None
    tokenizer: Tokenizer | None = None
    adapter_dir: Path | None = None
    rewards: Callable[..., Sequence[float]] | None = None
    base: tuple[str, str | None] | None = None


def build(
    sources: object,
    context: ScorerContext,
    key: str = "ppo.reward",
    combine: str | None = None,
    std_coef: float = 1.0,
) -> Scorer:
    """The scorer that a config asks for.

    Args:
        sources: the value of ``ppo.reward``, see :mod:`pipeline.workflow.reward_sources`.
        key: of ``sources``, for messages.
        combine, std_coef: how several scores become one, see :class:`Ensemble`.
    Raises:
        ConfigError: ``sources`` or ``combine`` are invalid, or a function or directory does not exist.
        ModelError: a model cannot be loaded.
    """
    where = context.where
    parsed = parse_sources(sources, where, key)
    chosen = check_combine(combine, [s.weight for s in parsed], std_coef, where, key)
    # Functions first: a mistake in one is reported before models are loaded.
    members: dict[int, Scorer] = {
        i: FunctionScorer(load_function(s.value, f"{where}: {s.key}"), s.value, f"{where}: {s.key}")
        for i, s in enumerate(parsed)
        if s.kind == "function"
    }
    members |= {i: _of_task(s, context) for i, s in enumerate(parsed) if s.kind == "task"}
    adapters = RewardAdapters(context.model, context.tokenizer, context.base, context.device)
    for i, source in enumerate(parsed):
        if source.kind == "adapter":
            if context.adapter_dir is None:
                raise ConfigError(where, f"{source.key}: there is no reward adapter.", "Train one: make reward")
            members[i] = adapters.own(context.adapter_dir)
        elif source.kind == "model":
            members[i] = _reward_model(source, adapters, context)
    scorers = [members[i] for i in range(len(parsed))]
    if len(scorers) == 1 and parsed[0].weight in (None, 1.0):
        return scorers[0]
    names = ["adapter" if s.kind == "adapter" else s.value for s in parsed]
    return Ensemble(scorers, chosen, [s.weight for s in parsed], std_coef, names, where)


def _of_task(source: RewardSource, context: ScorerContext) -> Scorer:
    if context.rewards is None:
        what = f"{source.key}: task asks for the rewards of the task, and it has none here."
        raise ConfigError(context.where, what, "Its gold score is never trained on. Write module:function.")
    return FunctionScorer(context.rewards, "task", f"{context.where}: {source.key}")


def _reward_model(source: RewardSource, adapters: RewardAdapters, context: ScorerContext) -> Scorer:
    where, version = context.where, context.resolve(source.value)
    path = None if version is None else version.path
    if path is None and Path(source.value).expanduser().is_dir():
        path = Path(source.value).expanduser()
    if path is None and (source.value.startswith((".", "/", "~")) or source.value.count("/") > 1):
        mend = "Give a directory, a version such as name@v3, a Hub id, or a function as module:function."
        raise ConfigError(where, f'{source.key}: no model directory "{source.value}".', mend)
    parts = source.value.split(".")
    if path is None and len(parts) > 1 and all(p.isidentifier() for p in parts):
        mend = f"A function is written {'.'.join(parts[:-1])}:{parts[-1]}"
        raise ConfigError(where, f'{source.key}: "{source.value}" is not a directory, version or Hub id.', mend)
    if path is not None and source.revision is not None:
        mend = "Remove it; a version is chosen by name@v3."
        raise ConfigError(where, f'{source.key}.revision: "{source.value}" is not on the Hub.', mend)
    named = source.value if path is None else str(path)
    directory = adapter_directory(named, source.revision)
    if directory is None:
        return ClassifierScorer.load(
            named, revision=source.revision, label=source.label, device=context.device, where=where, key=source.key
        )
    if source.label is not None:
        raise ConfigError(
            where, f"{source.key}.label: a reward adapter has one output and no labels.", "Remove it."
        )
    return adapters.load(directory)
