"""Plan the runs of a sweep, seeds times settings: their names, the stages they share, the time that is left."""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.base.errors import ConfigError
from pipeline.base.records import digest
from pipeline.store.store import Version
from pipeline.workflow.config import load_config, replaced
from pipeline.workflow.experiment import STAGES, Experiment
from pipeline.workflow.sweeps.launch import Launchable, made, stages
from pipeline.workflow.work_key import learning_part
from pipeline.workflow.yaml_text import parse_yaml

NOT_SWEPT = ("name", "data_dir", "seed")
ALONE = "as configured"
"""The group of a sweep over seeds alone."""


@dataclass
class SweepRun:
    """One run: the experiment with some settings and a seed, and its progress."""

    number: int
    settings: dict[str, Any]
    seed: int
    job: Launchable
    versions: dict[str, dict[str, Version]] = field(default_factory=dict[str, "dict[str, Version]"])
    """The versions of its finished stages, by stage and role."""
    next: str | None = None
    """The stage that has work; None when the run is done."""

    @property
    def group(self) -> str:
        """Its settings as text, the same for all seeds."""
        return spell(self.settings) or ALONE

    @property
    def name(self) -> str:
        return f"{spell(self.settings)} seed={self.seed}".strip()

    def refresh(self) -> None:
        """Look up its finished stages."""
        self.versions, self.next = made(self.job.config)


class Eta:
    """Estimates the time left from the durations of finished stages."""

    def __init__(self, runs: Sequence[SweepRun], jobs: int) -> None:
        self.jobs = jobs
        self._seconds: dict[str, dict[str, float]] = {}
        self._lock = threading.Lock()
        for run in runs:
            for stage, versions in run.versions.items():
                stats = list(versions.values())[-1].manifest.stats
                self.took(run, stage, stats.get("stage_seconds", 0.0))

    def took(self, run: SweepRun, stage: str, seconds: float) -> None:
        """Record the duration of a stage, for this run and those that share it."""
        with self._lock:
            self._seconds.setdefault(stage, {})[stage_keys(run.job.config)[stage]] = seconds

    def left(self, runs: Sequence[SweepRun]) -> str:
        """``, about 12 min left``, shared stages counted once; empty where a stage was never timed."""
        with self._lock:
            means = {stage: sum(timed.values()) / len(timed) for stage, timed in self._seconds.items()}
            done = {key for timed in self._seconds.values() for key in timed}
        keys = ((stage, key) for run in runs for stage, key in stage_keys(run.job.config).items())
        todo = {key: stage for stage, key in keys if key not in done}
        if not todo or not means.keys() >= set(todo.values()):
            return ""
        return f", about {in_words(sum(means[stage] for stage in todo.values()) / self.jobs)} left"


def stage_keys(config: Experiment) -> dict[str, str]:
    """A digest of the settings that each stage depends on, equal for runs that share the stage."""
    keys: dict[str, str] = {}
    key = digest([config.base_model, config.base_revision, config.base_sha256])
    for stage in stages(config):
        key = digest([key, stage, learning_part(config, stage), config.inputs(stage)])
        keys[stage] = key
    return keys


def plan(path: str, seeds: str, grid: Sequence[str], overrides: Sequence[str]) -> list[SweepRun]:
    """Every run of the sweep, those of one seed together, as they share their first stages.

    Raises:
        ConfigError: the config, a grid or the seeds are wrong.
    """
    base = load_config(path, overrides)
    axes = [parse_axis(text) for text in grid]
    if len({key for key, _ in axes}) < len(axes):
        raise ConfigError("--grid", "gives a key twice.", "Put all of its values into one: --grid KEY=a,b,c")
    runs: list[SweepRun] = []
    for seed in parse_seeds(seeds, base.seed):
        for values in itertools.product(*(values for _, values in axes)):
            settings = {key: value for (key, _), value in zip(axes, values, strict=True)}
            swept = [f"{k}={json.dumps(v)}" for k, v in settings.items()]
            arguments = tuple(replaced([*overrides, *swept], [f"seed={seed}"]))
            config = load_config(path, arguments)
            file = re.sub(r"[^A-Za-z0-9._=,-]+", "_", f"{spell(settings)} seed={seed}".strip())[:100]
            log = Path(f"{len(runs) + 1:03}-{file}.log")
            job = Launchable(config, arguments, log, tracked_as(settings, seed))
            runs.append(SweepRun(len(runs) + 1, settings, seed, job))
    home = Path(base.data_dir) / ".runs" / "sweeps" / sweep_key(runs)[:12]
    for run in runs:
        run.job = replace(run.job, log=home / run.job.log)
    return runs


def tracked_as(settings: Mapping[str, Any], seed: int) -> dict[str, str]:
    """``run_name`` of each stage that trains, with its settings: trackio draws equal names as one curve."""
    names: dict[str, str] = {}
    for stage in ("sft", "reward", "ppo"):
        before = STAGES[: STAGES.index(stage) + 1]
        own = {k: v for k, v in settings.items() if k.split(".")[0] in before or k.split(".")[0] not in STAGES}
        if own:
            names[stage] = f"{stage}-seed{seed} {spell(own)}"
    return names


def parse_axis(text: str) -> tuple[str, list[Any]]:
    """Parse ``ppo.kl_coef=0.02,0.05`` into the key and its values, each of which is YAML.

    Raises:
        ConfigError: it has another form, or a key that cannot be swept.
    """
    key, sign, values = text.partition("=")
    wrong = ConfigError("--grid", f"{text!r} is not key=value,value.", "For example: --grid ppo.kl_coef=0.02,0.05")
    if not sign or not key or not values:
        raise wrong
    if key in NOT_SWEPT:
        raise ConfigError("--grid", f'"{key}" is not a setting to sweep.', "Seeds: --seeds 5, or --seeds 0,3,7")
    try:
        parsed = parse_yaml(f"[{values}]", f"--grid {key}", lines=False)
    except ConfigError as err:
        raise wrong from err
    if len({json.dumps(v) for v in parsed}) < len(parsed):
        raise ConfigError("--grid", f"{text!r} gives a value twice.")
    return key, parsed


def parse_resource(text: str) -> tuple[str, Any]:
    """Parse ``gpus_per_node=1``, of what a job asks for; the value is YAML.

    Raises:
        ConfigError: it has another form.
    """
    key, sign, value = text.partition("=")
    if not sign or not key.isidentifier() or not value:
        raise ConfigError("--resource", f"{text!r} is not key=value.", "For example: --resource timeout_min=720")
    return key, parse_yaml(value, f"--resource {key}", lines=False)


def parse_seeds(text: str, first: int) -> list[int]:
    """Parse ``5``, a number of seeds from the config's own on, or a list ``0,3,7``.

    Raises:
        ConfigError: it is neither.
    """
    words = re.split(r"[,\s]+", text.strip())
    if not all(word.isdecimal() for word in words) or len(set(words)) < len(words) or words == ["0"]:
        raise ConfigError("--seeds", f"{text!r} is no number of seeds and no list of different ones.", "--seeds 5")
    seeds = [int(word) for word in words]
    return seeds if len(seeds) > 1 or "," in text else [first + i for i in range(seeds[0])]


def select_part(runs: Sequence[SweepRun], only: str | None) -> list[SweepRun]:
    """Run ``I``, or part ``I`` of ``N``, counted from 1. A part's runs are neighbours, which share most stages.

    Raises:
        ConfigError: there is no such part.
    """
    if only is None:
        return list(runs)
    index, sign, parts = only.partition("/")
    n = parts if sign else str(len(runs))
    if not index.isdecimal() or not n.isdecimal() or not 1 <= int(index) <= int(n):
        raise ConfigError("--only", f"{only!r} is no part from 1 to {n}.", "--only 3 is the third run; --only 3/5")
    i, n = int(index), int(n)
    return list(runs[(i - 1) * len(runs) // n : i * len(runs) // n])


def sweep_key(runs: Sequence[SweepRun]) -> str:
    """A digest of the runs and their settings."""
    return digest(["sweep", [[run.name, stage_keys(run.job.config)] for run in runs]])


def spell(settings: Mapping[str, Any]) -> str:
    """``ppo.kl_coef=0.05 ppo.lam=0.9``."""
    return " ".join(f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in settings.items())


def in_words(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
