"""Plan what each reader gets of their own: a run of ``reward``, ``ppo`` and ``evaluate`` under overrides.

A reader's run is an ordinary one, called NAME-READER, whose inputs are the shared run's versions: so lineage,
resuming, the doctor, ``try``, ``merge`` and ``publish`` know nothing of readers. The keys of its work find it.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from pipeline.base.errors import ConfigError, DataError, StoreError
from pipeline.base.plugins import task_class
from pipeline.base.records import digest
from pipeline.store.store import Store, Version
from pipeline.workflow.config import load_config, replaced
from pipeline.workflow.experiment import Experiment
from pipeline.workflow.graph import artefact, sft_needed, trains_reward
from pipeline.workflow.reader_votes import LIKED, votes_by_reader
from pipeline.workflow.sections.readers import ReadersSection
from pipeline.workflow.stage import Planner
from pipeline.workflow.work_key import fingerprint, output_format

ASKED = ("sft", "collect")
LEARNT = ("reward", "ppo", "evaluate")
"""The stages of everybody's run before and after there are votes; the latter are those of a reader's run, too."""
LORA = ("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules")
"""Keys of ``reward`` that an adapter to start from has itself."""


@dataclass(frozen=True)
class Reader:
    """A reader's run.

    Attributes:
        name: what versions call the reader, :func:`pipeline.base.records.reader_of`.
        votes, held_out: completions that they judged, to train on and held out.
        arguments: the user's overrides, and the reader's.
    """

    name: str
    votes: int
    held_out: int
    path: str
    arguments: tuple[str, ...]
    store: Store

    @cached_property
    def config(self) -> Experiment:
        return load_config(self.path, self.arguments)

    @cached_property
    def planner(self) -> Planner:
        return Planner(self.config, self.store)

    def work(self) -> list[str]:
        """The stages that have work; where one has, those after it may find theirs done."""
        for number, stage in enumerate(LEARNT):
            if self.planner.outputs(stage) is None:
                return list(LEARNT[number:])
        return []

    def forget(self) -> None:
        """Drop what is known of finished work: another process may have done some."""
        for stage in LEARNT:
            self.planner.forget(stage)

    def version(self, stage: str, role: str) -> Version:
        """A version that a finished stage has made."""
        made = self.planner.outputs(stage)
        assert made is not None, f"{stage} of {self.name} is not done"
        return made[role]


class Readers:
    """The readers of one config.

    Raises:
        ConfigError: the config is wrong, or nobody likes or dislikes anything under it.
    """

    def __init__(self, path: str, overrides: Sequence[str]) -> None:
        self.path, self.overrides = path, tuple(overrides)
        self.config = load_config(path, overrides)
        self.options: ReadersSection = self.config.readers
        self.store = Store(self.config.data_dir)
        self.shared = Planner(self.config, self.store)
        _check(self.config)
        start = ["reward.inputs.start=SHARED"] if self.options.start == "shared" else []
        load_config(path, replaced(overrides, [*self._settings(), *start]))  # a wrong key of theirs

    def shared_work(self) -> str | None:
        """The first stage of everybody's run that has work; None where none has."""
        try:
            done = (
                s
                for s in (*ASKED, *LEARNT)
                if (s != "sft" or sft_needed(self.config)) and self.shared.outputs(s) is None
            )
            return next(done, None)
        except StoreError:
            return "sft" if sft_needed(self.config) else "collect"

    def shared_version(self, stage: str, role: str) -> Version:
        """A version of everybody's run, whose stages are done."""
        made = self.shared.outputs(stage)
        assert made is not None, f"{stage} is not done"
        return made[role]

    def all(self) -> list[Reader]:
        """Everybody with votes enough, in the order of their names; everybody's run has to be done.

        Raises:
            DataError: nobody has.
        """
        preferences = self.preferences
        counts = votes_by_reader(preferences)
        without = self._without(counts)
        if len(without) == len(counts):
            most = max((n["train"] for n in counts.values()), default=0)
            least = self.options.least_votes
            if most >= least:
                what = f"no reader with {least} votes to train on has both likes and dislikes among them."
                raise DataError(preferences.where, what, "Collect more.")
            what = f"no reader has {least} votes to train on; the most that one has is {most}."
            raise DataError(preferences.where, what, "Collect more, or lower readers.least_votes.")
        return [
            Reader(name, n["train"], n["test"], self.path, tuple(self._overrides(name)), self.store)
            for name, n in counts.items()
            if name not in without
        ]

    def without(self) -> dict[str, str]:
        """Who keeps the shared policy, and why: too few votes, or all alike, of which nothing can be learnt."""
        return self._without(votes_by_reader(self.preferences))

    def _without(self, counts: Mapping[str, Counter[str]]) -> dict[str, str]:
        least, why = self.options.least_votes, dict[str, str]()
        for name, n in counts.items():
            if n["train"] < least:
                why[name] = f"{n['train']} votes to train on, of {least}"
            elif n[LIKED] in (0, n["train"]):
                why[name] = f"all {n['train']} are {'likes' if n[LIKED] else 'dislikes'}"
        return why

    @property
    def preferences(self) -> Version:
        """The votes that the shared reward model learnt from; newer ones are for its next one."""
        parents = self.shared_version("reward", "reward").manifest.parents
        return self.store.resolve(next(p.ref for p in parents if p.role == "preferences"))

    def record_key(self, readers: Sequence[Reader]) -> str:
        """The key of the ``NAME-readers`` version of these readers."""
        made = [fingerprint(self.shared_version("evaluate", "evaluation"))]
        for reader in readers:
            versions = (reader.version("ppo", "policy"), reader.version("reward", "reward"))
            evaluation = reader.version("evaluate", "evaluation")
            made += [[reader.name], *map(fingerprint, versions), fingerprint(evaluation)]
        return digest(["readers", made, output_format("readers")])

    def record(self, readers: Sequence[Reader]) -> Version | None:
        """The ``NAME-readers`` version of these readers; None where it is to be written."""
        return self.store.find(artefact(self.config, "readers"), self.record_key(readers))

    def _overrides(self, name: str) -> list[str]:
        """The overrides of a reader's run."""
        base = [f"base={self.shared_version('sft', 'base').ref}"] if sft_needed(self.config) else []
        prompts = f"prompts={self.shared_version('collect', 'prompts').ref}"
        inputs = {
            "reward": [*base, f"preferences={self.preferences.ref}"],
            "ppo": [*base, prompts],
            "evaluate": [*base, prompts],
        }
        if self.options.start == "shared":
            inputs["reward"].append(f"start={self.shared_version('reward', 'reward').ref}")
        own = [f"{stage}.inputs.{entry}" for stage, entries in inputs.items() for entry in entries]
        if _judges_by_reader(self.config):
            own.append(f"task_args.reader={name}")
        return replaced(
            self.overrides, [f"name={self.config.name}-{name}", f"reward.reader={name}", *own, *self._settings()]
        )

    def _settings(self) -> list[str]:
        """The overrides that all readers' runs have."""
        own_start = LORA if self.options.start == "shared" else ()
        left_out = [f"reward.{key}=null" for key in own_start if key in self.config.chosen["reward"]]
        left_out += ["reward.reader_heads=false"] if self.config.reward.reader_heads else []
        sections = {"reward": self.options.reward, "ppo": self.options.ppo}
        own = [
            f"{name}.{key}={json.dumps(value)}" for name, keys in sections.items() for key, value in keys.items()
        ]
        return [*left_out, *own]


def _judges_by_reader(config: Experiment) -> bool:
    """Whether the task's gold score can be that of one reader: it has a key ``reader``."""
    fields = dataclasses.fields(task_class(config.task, str(config.path)))
    return any(field.name == "reader" and field.init for field in fields)


def _check(config: Experiment) -> None:
    """Raise ConfigError where no reader could get anything of their own."""
    where = str(config.path)
    if not trains_reward(config) or config.reward.loss != "pointwise":
        what = "readers need a reward model that learns from likes and dislikes."
        raise ConfigError(
            where, what, "Set reward.loss: pointwise and leave ppo.reward out, as in configs/news_likes.yaml."
        )
    if not config.ppo.use_peft:
        what = "ppo.use_peft: false trains a whole model, and readers share one base."
        raise ConfigError(where, what, "Leave it out.")
