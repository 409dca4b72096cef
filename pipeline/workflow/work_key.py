"""Compute the key of a stage's work from its settings, files and inputs; versions with that key are finished."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pipeline.base.files import is_litter, sha256_file
from pipeline.base.own_modules import source_files
from pipeline.base.records import digest
from pipeline.store.manifest import Manifest
from pipeline.workflow.experiment import Experiment
from pipeline.workflow.graph import External, Input, scorers_by_role, trains_base
from pipeline.workflow.samplers import sampled_by

FORMATS = {
    "sft": 1,
    "collect": 1,
    "reward": 3,
    "ppo": 1,
    "evaluate": 2,
    "report": 6,
    "sweep": 1,
    "loop": 3,
    "readers": 1,
}
"""The format of each stage's outputs, raised by one when the same inputs and settings give another output. Then
finished work is done again. ``tests/stages/test_output_formats.py`` fails where only the output changed."""

# The keys of ``label`` that decide what ``collect`` writes where people annotate. The others are about the page,
# and may change while people label.
LABEL_LEARNING = frozenset(
    ["mode", "votes", "enough", "aggregate", "margin", "rank_up_to", "dataset", "columns", "gold"]
)

# Settings that change what is shown or saved, never what is learnt, so they are not part of the key.
NOT_LEARNING = frozenset(
    [
        *("report_to", "run_name", "logging_steps", "logging_strategy", "disable_tqdm"),
        *("save_steps", "save_total_limit", "save_strategy", "save_seconds", "output_dir"),
        *("num_sample_generations", "serve"),
        *("dataset_num_proc", "dataloader_num_workers", "ddp_timeout"),
    ]
)


def learning_part(config: Experiment, stage: str) -> dict[str, object]:
    """The settings that decide the stage's output: its own section, the task and the seed, as written.

    A model that ``sft`` only converts depends on none of them.
    """
    if stage == "sft" and not trains_base(config):
        return {}
    own = {k: v for k, v in config.written.get(stage, {}).items() if k not in NOT_LEARNING}
    part: dict[str, object] = {"task": config.task, "task_args": config.task_args, "seed": config.seed, stage: own}
    if isinstance(own.get("sampler"), dict):
        own["sampler"] = sampled_by(own["sampler"])
    if stage == "collect" and config.asks_people:
        part["label"] = {k: v for k, v in config.written.get("label", {}).items() if k in LABEL_LEARNING}
    # An evaluation scores with the reward of PPO, also where ``inputs`` names another policy.
    if stage == "evaluate" and config.ppo.reward is not None:
        keys = ("reward", "reward_combine", "reward_std_coef")
        part["ppo"] = {k: v for k, v in config.written["ppo"].items() if k in keys}
    return part


def output_format(stage: str) -> str:
    """The format of a stage's outputs as its key contains it.

    The first format is ``0.1.0``: version 0.1.0 of this package put its own number there.
    """
    number = FORMATS.get(stage, 1)
    return "0.1.0" if number == 1 else str(number)


def work_key(stage: str, inputs: Mapping[str, list[str]], learning: Mapping[str, Any], files: list[str]) -> str:
    """The key of a stage's work.

    Args:
        inputs: the :func:`fingerprint` of each role.
        learning: see :func:`learning_part`.
        files: see :func:`work_files`, and the commits of Hub datasets.
    """
    parents = [[role, inputs[role]] for role in sorted(inputs)]
    return digest([stage, parents, learning, files, output_format(stage)])


def fingerprint(source: Input) -> list[str]:
    """The content id of an input and the hashes of its shards, as a row's id does not cover every column."""
    return [source.id] if isinstance(source, External) else manifest_fingerprint(source.manifest)


def manifest_fingerprint(manifest: Manifest) -> list[str]:
    """The :func:`fingerprint` of a version, from its manifest alone."""
    return [manifest.id, *(f.sha256 for f in manifest.files if f.path.endswith(".parquet"))]


def work_files(config: Experiment, stage: str) -> list[str]:
    """sha256 of every local file that the stage's settings name, and of the modules that it calls and imports."""
    modules = [sha256_file(f) for name in called_modules(config, stage) for f in source_files(name)]
    return local_files(learning_part(config, stage)) + modules


def called_modules(config: Experiment, stage: str) -> list[str]:
    """Reward functions, and the task and the annotator where they are one's own: an edited one is new work.

    Those of this package are known by :data:`FORMATS`, but for a task that PPO takes its rewards from.
    """
    scorers = scorers_by_role(config, stage).values()
    modules = [s.value.partition(":")[0] for s in scorers if s.kind == "function"]
    if any(s.kind == "task" for s in scorers):
        modules.append(config.task if "." in config.task else f"pipeline.tasks.{config.task}")
    own = [config.task] if stage != "report" and learning_part(config, stage) else []
    own += [config.collect.annotator] if stage == "collect" else []
    return modules + [name for name in own if "." in name and name not in modules]


def local_files(value: object) -> list[str]:
    """sha256 of every local file that a config value names: an edited file is new work."""
    if isinstance(value, dict):
        entries = cast("dict[str, Any]", value)
        return [f for k in sorted(entries) for f in local_files(entries[k])]
    if isinstance(value, list):
        return [f for v in cast("list[Any]", value) for f in local_files(v)]
    if not isinstance(value, str) or len(value) > 1024 or "\n" in value:
        return []
    path = Path(value).expanduser()
    if path.is_file():
        return [sha256_file(path)]
    if path.is_dir() and os.sep in value:
        files = [p for p in sorted(path.rglob("*")) if p.is_file()]
        return [sha256_file(p) for p in files if not any(map(is_litter, p.relative_to(path).parts))]
    return []
