"""The bounds of every number of a config, checked before anything is loaded or run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from pipeline.base.errors import ConfigError
from pipeline.base.json_values import dict_of


@dataclass(frozen=True)
class Bound:
    """An interval of finite numbers.

    Attributes:
        low, high: its ends; None for an open end.
        above, below: whether the end itself is excluded.
        special: a value outside with its own meaning, such as -1 for "no limit", and that meaning.
    """

    low: float | None = None
    high: float | None = None
    above: bool = False
    below: bool = False
    special: tuple[float, str] | None = None

    def holds(self, value: float) -> bool:
        """Whether ``value`` is within, which NaN and the infinities never are."""
        if self.special is not None and value == self.special[0]:
            return True
        if not math.isfinite(value):
            return False
        over = self.low is None or (value > self.low if self.above else value >= self.low)
        return over and (self.high is None or (value < self.high if self.below else value <= self.high))

    def __str__(self) -> str:
        low, high = (None if end is None else _spell(end) for end in (self.low, self.high))
        if low is None:
            words = "a finite number"
        elif high is None:
            words = f"a number above {low}" if self.above else f"{low} or more"
        elif self.above or self.below:
            words = f"in {'(' if self.above else '['}{low}, {high}{')' if self.below else ']'}"
        else:
            words = f"{low} to {high}"
        return words if self.special is None else f"{words}, or {_spell(self.special[0])}: {self.special[1]}"


FINITE = Bound()
NOT_NEGATIVE = Bound(0)
POSITIVE = Bound(0, above=True)
COUNT = Bound(1)
TWO = Bound(2)
SHARE = Bound(0, 1, above=True, below=True)
SHARE_OR_NONE = Bound(0, 1, below=True)
UNIT = Bound(0, 1)
RATE = Bound(0, 1, above=True)
SEED = Bound(0, 2**32 - 1)  # NumPy's

TRAINING: Mapping[str, Bound] = {
    "per_device_train_batch_size": COUNT,
    "per_device_eval_batch_size": COUNT,
    "num_train_epochs": POSITIVE,
    "max_steps": Bound(1, special=(-1, "as many as the epochs have")),
    "learning_rate": RATE,
    "warmup_steps": NOT_NEGATIVE,
    "weight_decay": UNIT,
    "adam_beta1": SHARE_OR_NONE,
    "adam_beta2": SHARE_OR_NONE,
    "adam_epsilon": RATE,
    "gradient_accumulation_steps": COUNT,
    "max_grad_norm": NOT_NEGATIVE,
    "label_smoothing_factor": SHARE_OR_NONE,
    "neftune_noise_alpha": NOT_NEGATIVE,
    "torch_empty_cache_steps": COUNT,
    "logging_steps": POSITIVE,
    "eval_steps": POSITIVE,
    "eval_delay": NOT_NEGATIVE,
    "eval_accumulation_steps": COUNT,
    "save_steps": POSITIVE,
    "save_seconds": NOT_NEGATIVE,
    "save_total_limit": NOT_NEGATIVE,
    "seed": SEED,
    "data_seed": SEED,
    "dataloader_num_workers": NOT_NEGATIVE,
    "dataloader_prefetch_factor": COUNT,
    "dataset_num_proc": COUNT,
    "ddp_bucket_cap_mb": COUNT,
    "ddp_timeout": COUNT,
    "local_rank": Bound(-1),
    "lora_r": COUNT,
    "lora_alpha": COUNT,
    "lora_dropout": SHARE_OR_NONE,
}
"""Keys of transformers and LoRA in ``sft``, ``reward`` and ``ppo``."""

TEXTS: Mapping[str, Bound] = {"max_length": TWO, "pad_to_multiple_of": COUNT}
"""Keys of ``sft`` and ``reward``."""

SECTIONS: Mapping[str, Mapping[str, Bound]] = {
    "sft": {
        **TRAINING,
        **TEXTS,
        "router_aux_loss_coef": NOT_NEGATIVE,
        "n_layer": COUNT,
        "n_embd": COUNT,
        "n_head": COUNT,
        "n_positions": TWO,
        "vocab_size": Bound(258),  # bytes, and the two special tokens
        "eval_share": SHARE,
    },
    "collect": {
        "comparisons": TWO,
        "round": COUNT,
        "completions": Bound(2, 16),
        "temperature": POSITIVE,
        "batch_size": COUNT,
        "test_share": SHARE,
        "select_share": SHARE_OR_NONE,
    },
    "reward": {
        **TRAINING,
        **TEXTS,
        "center_rewards_coefficient": NOT_NEGATIVE,
        "head_learning_rate": RATE,
        "old_share": UNIT,
        "reference_samples": TWO,  # of one there is no standard deviation
    },
    "ppo": {
        **TRAINING,
        "num_mini_batches": COUNT,
        "total_episodes": COUNT,
        "local_rollout_forward_batch_size": COUNT,
        "num_sample_generations": NOT_NEGATIVE,
        "response_length": COUNT,
        "stop_token_id": NOT_NEGATIVE,
        "temperature": POSITIVE,
        "missing_eos_penalty": NOT_NEGATIVE,
        "num_ppo_epochs": COUNT,
        "kl_coef": NOT_NEGATIVE,
        "cliprange": POSITIVE,
        "vf_coef": NOT_NEGATIVE,
        "cliprange_value": POSITIVE,
        "gamma": UNIT,
        "lam": UNIT,
        "trunk_layers": NOT_NEGATIVE,
        "reward_std_coef": NOT_NEGATIVE,
        "clip_score": POSITIVE,
        "kl_target": POSITIVE,
        "kl_horizon": COUNT,
        "kl_budget": POSITIVE,
        "diversity_floor": SHARE,
        "num_generations": COUNT,
        "target_kl": POSITIVE,
        "entropy_coef": NOT_NEGATIVE,
        "value_learning_rate": RATE,
        "value_warmup_updates": NOT_NEGATIVE,
        "eval_prompts": COUNT,
        "fall_patience": NOT_NEGATIVE,
    },
    "evaluate": {
        "prompts": TWO,  # of one there is no interval
        "seeds": COUNT,
        "temperature": NOT_NEGATIVE,
        "batch_size": COUNT,
        "seed": SEED,
        "best_of": Bound(2, special=(0, "off")),  # the best of one is the base itself
        "best_of_prompts": TWO,
    },
    "report": {"samples": NOT_NEGATIVE},
    "loop": {"rounds": COUNT, "labels": TWO},
    "readers": {"least_votes": COUNT},
    "label": {
        "votes": COUNT,
        "enough": COUNT,
        "rank_up_to": Bound(2, 9),  # one key for each
        "port": Bound(0, 65535),
        "gold_share": SHARE_OR_NONE,
        "repeat_share": SHARE_OR_NONE,
        "repeat_after": COUNT,
        "too_fast_ms": NOT_NEGATIVE,
        "lease_minutes": POSITIVE,
    },
    "governance": {"screening": UNIT},
}

TASKS: Mapping[str, Mapping[str, Bound]] = {
    "reviews": {"corpus_size": Bound(100), "completion_tokens": COUNT, "test_share": SHARE},
    "news": {"corpus_size": Bound(100), "completion_tokens": COUNT, "test_share": SHARE},
    "random_walks": {
        "nodes": Bound(3, 26),  # a letter each
        "edge_share": SHARE,
        "graph_seed": SEED,
        "corpus_size": COUNT,
        "walk_nodes": TWO,
        "prompt_nodes": COUNT,
        "test_share": SHARE,
    },
    "music": {"corpus_size": COUNT, "openings": Bound(20), "test_share": SHARE, "completion_tokens": COUNT},
    "drawing": {"corpus_size": COUNT, "test_share": SHARE, "completion_tokens": COUNT},
    "continuation": {
        "prompt_words": COUNT,
        "completion_tokens": COUNT,
        "min_words": TWO,
        "max_texts": COUNT,
        "test_share": SHARE,
    },
    "prompts": {"completion_tokens": COUNT, "test_share": SHARE, "limit": COUNT},
}
"""``task_args`` of the tasks in this package; other tasks check their own."""

ANNOTATORS: Mapping[str, Mapping[str, Bound]] = {
    "oracle": {
        "temperature": NOT_NEGATIVE,
        "flip": Bound(0, 0.5, below=True),  # at 0.5 a label says nothing
        "length_bias": FINITE,
        "tie_margin": NOT_NEGATIVE,
        "like_above": FINITE,
    },
    "classifier": {
        "batch_size": COUNT,
        "max_length": COUNT,
        "temperature": NOT_NEGATIVE,
        "min_difference": NOT_NEGATIVE,
    },
    "discriminator": {"max_words": COUNT},
    "readers": {
        "each": COUNT,
        "threshold": FINITE,
        "temperature": NOT_NEGATIVE,
        "flip": Bound(0, 0.5, below=True),
    },
    "replay": {"limit": COUNT, "min_score_ratio": NOT_NEGATIVE},
}
"""``collect.annotator_args`` of the annotators in this package."""

JUDGE: Mapping[str, Bound] = {"prompts": COUNT, "concurrency": COUNT, "timeout": POSITIVE, "attempts": COUNT}
"""Keys of a language model in ``evaluate.judges``."""

SAMPLER: Mapping[str, Bound] = {
    "concurrency": COUNT,
    "rate": POSITIVE,
    "timeout": POSITIVE,
    "attempts": COUNT,
}
"""Keys of ``collect.sampler``."""

PAIRS: Mapping[str, Bound] = {"limit": COUNT, "min_score_ratio": NOT_NEGATIVE}
"""Keys of a set in ``reward.test_sets``."""


STOP: Mapping[str, Bound] = {"kl_budget": POSITIVE}
"""Keys of ``loop.stop``."""


def check_numbers(raw: Mapping[str, Any], where: str) -> None:
    """Check every number of a config as it was read.

    Raises:
        ConfigError: a number is outside its bounds or not finite.
    """
    for key, value, bound in _bounded(raw):
        for entry in cast("list[Any]", value) if isinstance(value, list) else [value]:
            number = _number(entry)
            if number is not None and not bound.holds(number):
                raise ConfigError(where, f"{key} = {entry} should be {bound}.")
    for key, number in _numbers(raw, ""):  # also of keys without a table, such as another package's task
        if not math.isfinite(number):
            raise ConfigError(where, f"{key} = {number} should be {FINITE}.")


def check_section(section: str, values: Mapping[str, Any]) -> None:
    """Check the numbers of a section that is made in Python, without a config.

    Raises:
        ValueError: a number is outside its bounds.
    """
    for key, bound in SECTIONS[section].items():
        number = _number(values.get(key))
        frozen = key == "learning_rate" and number == 0  # useful in Python, to measure a model that does not learn
        if number is not None and not frozen and not bound.holds(number):
            raise ValueError(f"{key} = {values[key]} should be {bound}")


def _numbers(value: object, key: str) -> Iterator[tuple[str, float]]:
    """(key, value) of every float, at any depth."""
    if isinstance(value, float):
        yield key, value
    elif isinstance(value, dict):
        for name, entry in cast("dict[Any, Any]", value).items():
            yield from _numbers(entry, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for i, entry in enumerate(cast("list[Any]", value)):
            yield from _numbers(entry, f"{key}[{i}]")


def _bounded(raw: Mapping[str, Any]) -> Iterator[tuple[str, Any, Bound]]:
    """(key, value, bound) of every value that has a bound."""
    collect = dict_of(raw.get("collect"))
    task = str(raw.get("task")).removeprefix("pipeline.tasks.")
    annotator = str(collect.get("annotator", "oracle")).removeprefix("pipeline.annotators.")
    groups: list[tuple[str, Mapping[str, Any], Mapping[str, Bound]]] = [
        ("", raw, {"seed": SEED}),
        *((f"{section}.", dict_of(raw.get(section)), bounds) for section, bounds in SECTIONS.items()),
        ("task_args.", dict_of(raw.get("task_args")), TASKS.get(task, {})),
        ("collect.annotator_args.", dict_of(collect.get("annotator_args")), ANNOTATORS.get(annotator, {})),
        ("collect.sampler.", dict_of(collect.get("sampler")), SAMPLER),
    ]
    judges = dict_of(raw.get("evaluate")).get("judges")
    for i, judge in enumerate(cast("list[Any]", judges) if isinstance(judges, list) else ()):
        groups.append((f"evaluate.judges[{i}].", dict_of(judge), JUDGE))
    for name, pairs in dict_of(dict_of(raw.get("reward")).get("test_sets")).items():
        groups.append((f"reward.test_sets.{name}.", dict_of(pairs), PAIRS))
    groups.append(("loop.stop.", dict_of(dict_of(raw.get("loop")).get("stop")), STOP))
    for prefix, values, bounds in groups:
        for key, bound in bounds.items():
            if key in values:
                yield prefix + key, values[key], bound


def _spell(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{number:g}"


def _number(value: object) -> float | None:
    """``value`` as a number; None where it is not one. YAML reads ``1e-3`` as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None if isinstance(value, str) else math.inf
