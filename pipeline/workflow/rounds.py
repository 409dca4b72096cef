"""Plan the rounds of a loop: each is a run of the stages under overrides that name the last round's versions.

A round is found by the keys of its work alone, so the same command goes on wherever it was ended. What a round is
made from is fixed as soon as a later stage has begun on it: answers of people that arrive meanwhile are for the
next one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline.base.errors import ConfigError, StoreError
from pipeline.base.json_values import dict_of
from pipeline.base.records import digest
from pipeline.store import refs
from pipeline.store.store import Store, Version
from pipeline.workflow.config import load_config, replaced
from pipeline.workflow.experiment import Experiment
from pipeline.workflow.graph import artefact, nothing_to_do, trains_reward
from pipeline.workflow.key_checks.unknown_and_mistyped import parse_options
from pipeline.workflow.sections.loop import LoopSection, StopOptions
from pipeline.workflow.stage import Planner
from pipeline.workflow.work_key import fingerprint, output_format

SELECTION = ("evaluate.split=select", "evaluate.best_of=0", "evaluate.best_of_prompts=null")
"""Overrides of the evaluation that stops go by."""
NAMED_BY_LOOP = {
    "collect": ("policy", "previous"),
    "reward": ("preferences", "earlier", "earlier_reward"),
    "ppo": ("prompts", "reward", "start", "reference"),
    "evaluate": ("prompts", "reward", "policy"),
}
LORA_OF_START = ("lora_r", "lora_alpha", "lora_target_modules")
"""Keys of ``ppo`` that an adapter to start from has itself."""


class VerifiedOnce(Store):
    """A store that compares the files of a version once, however many rounds ask for it."""

    def __init__(self, root: str | Path) -> None:
        super().__init__(root)
        self._intact: dict[tuple[str, str, int], Version] = {}

    def find(self, name: str, key: str) -> Version | None:
        """See :meth:`Store.find`; a newer version of that name is looked at."""
        place = (name, key, max(refs.numbers(self.home(name)), default=0))
        version = self._intact.get(place) or super().find(name, key)
        if version is not None:
            self._intact[place] = version
        return version


@dataclass(frozen=True)
class Round:
    """One round: a config with overrides.

    Attributes:
        arguments: the user's overrides, and those of the round.
    """

    number: int
    path: str
    arguments: tuple[str, ...]
    store: Store

    @cached_property
    def config(self) -> Experiment:
        return load_config(self.path, self.arguments)

    @cached_property
    def planner(self) -> Planner:
        return Planner(self.config, self.store)

    def under(self, *overrides: str) -> Round:
        """The round under further overrides, with nothing cached."""
        return Round(self.number, self.path, tuple(replaced(self.arguments, overrides)), self.store)

    def versions(self, stage: str) -> dict[str, Version] | None:
        """The versions of a stage by role; None where it, or one before it, has work."""
        with contextlib.suppress(StoreError):
            return self.planner.outputs(stage)
        return None

    def first_of(self, *stages: str) -> str | None:
        """The first of the stages that has work; None where none has."""
        with_work = (s for s in stages if nothing_to_do(self.config, s) is None and self.versions(s) is None)
        return next(with_work, None)

    def version(self, stage: str, role: str) -> Version:
        """A version that a finished stage has made."""
        made = self.versions(stage)
        assert made is not None, f"{stage} is not done"
        return made[role]

    @property
    def selection(self) -> Round:
        """The round as it is evaluated on the split ``select``."""
        return self.under(*SELECTION)


class Loop:
    """The rounds of one config.

    Raises:
        ConfigError: the config is wrong, or leaves nothing to repeat.
    """

    def __init__(self, path: str, overrides: Sequence[str]) -> None:
        self.path, self.overrides = path, tuple(overrides)
        self.config = load_config(path, overrides)
        self.options: LoopSection = self.config.loop
        self.stops = parse_options(StopOptions, self.options.stop, path, "loop.stop.")
        self.store = VerifiedOnce(self.config.data_dir)
        _check(self.config)

    @property
    def selects(self) -> bool:
        """Whether rounds are also evaluated on the split that stops go by."""
        return self.stops.no_gain or self.stops.kl_budget is not None

    def first(self) -> Round:
        """The first round, which is an ordinary run."""
        return Round(1, self.path, tuple(replaced(self.overrides, self._labels(1))), self.store)

    def after(self, last: Round) -> Round:
        """The round after a finished one."""
        number, options = last.number + 1, self.options
        policy, reward = last.version("ppo", "policy").ref, last.version("reward", "reward").ref
        own = [
            *self._labels(number),
            f"collect.round={number}",
            f"collect.inputs.policy={policy}",
            f"reward.inputs.earlier_reward={reward}",
            f"ppo.seed={(self.config.chosen['ppo'].get('seed') or self.config.seed) + number - 1}",
        ]
        if options.data != "all":
            own.append(f"reward.old_share={options.old_share}")
        if options.start == "last":
            own.append(f"ppo.inputs.start={policy}")
            own += [f"ppo.{key}=null" for key in LORA_OF_START if key in self.config.chosen["ppo"]]
            own += [] if options.reference == "last" else ["ppo.reference=base"]
        elif options.reference == "last":
            own.append(f"ppo.inputs.reference={policy}")
        start = Round(number, self.path, tuple(replaced(self.overrides, own)), self.store)
        previous = pinned_preferences(last)
        kept = start
        for version in published_after(last, previous):
            # What people say in make try is new to the round, so it is not among the earlier rows.
            for carried in [version, *after_talk(self.store, version)]:
                kept = start.under(
                    f"collect.inputs.previous={carried.ref}", f"reward.inputs.earlier={version.ref}"
                )
                if kept.versions("collect") is not None:
                    return kept
        return kept

    def record_key(self, rounds: Sequence[Round], no: str | None = None) -> str:
        """The key of the ``NAME-loop`` version of these rounds, or of the one with the no (its hash) after them.

        Oversight is no part of it: switched off, it finds the same record.
        """
        made: list[list[str]] = []
        for round in rounds:
            of_round = [round.version("ppo", "policy"), round.version("evaluate", "evaluation")]
            of_round += [round.selection.version("evaluate", "evaluation")] if self.selects else []
            made.append([part for version in of_round for part in fingerprint(version)])
        choices = [self.options.start, self.options.reference, self.options.data, vars(self.stops)]
        return digest(["loop", made, choices, no, output_format("loop")])

    def record(self, rounds: Sequence[Round], no: str | None = None) -> Version | None:
        """The ``NAME-loop`` version of these rounds; None where it is to be written, or there are none."""
        return self.store.find(artefact(self.config, "loop"), self.record_key(rounds, no)) if rounds else None

    def _labels(self, number: int) -> list[str]:
        """The override that gives a round its part of ``loop.labels``."""
        total, collect = self.options.labels, self.config.collect
        if total is None:
            return []
        pairs = collect.completions * (collect.completions - 1) // 2
        if isinstance(total, list):
            prompts, what = total[number - 1] // pairs, f"{total[number - 1]} leave"
        else:
            prompts = total // (self.options.rounds * pairs)
            what = f"{total} in {self.options.rounds} rounds leave"
        if prompts < 2:
            what = f"{what} fewer than two prompts to {'each' if isinstance(total, int) else f'round {number}'}."
            raise ConfigError(f"{self.path}: loop.labels", what, "Raise it.")
        return [f"collect.comparisons={prompts}"]


def pinned_preferences(round: Round) -> Version:
    """The preferences that a round learns from: those its reward model has begun on, else the newest.

    People's answers are published again when more have arrived; other annotators answer once.
    """
    newest = round.version("collect", "preferences")
    for version in published_after(round, None):
        run = with_preferences(round, version).planner.run_of("reward")
        if run.done() is not None or run.checkpoints.latest() is not None:
            return version
    return newest


def with_preferences(round: Round, preferences: Version) -> Round:
    """The round that learns from these preferences, also where newer ones of the same work are published."""
    if not round.config.asks_people:
        return round
    return round.under(
        f"reward.inputs.preferences={preferences.ref}", f"report.inputs.preferences={preferences.ref}"
    )


def published_after(round: Round, first: Version | None) -> Iterator[Version]:
    """The preferences of a round, oldest first, from ``first`` on; the newest comes last."""
    newest = round.version("collect", "preferences")
    for version in round.store.versions(artefact(round.config, "preferences")):
        if version.manifest.key == newest.manifest.key and (first is None or version.number >= first.number):
            yield version


def after_talk(store: Store, preferences: Version) -> list[Version]:
    """The versions that have these preferences' rows and votes of ``make chat`` or ``make try``, oldest first."""

    def carries(version: Version) -> bool:
        carried = next((p for p in version.manifest.parents if p.role == "previous"), None)
        return version.manifest.stage == "chat" and carried is not None and carried.ref == preferences.ref

    return [version for version in store.versions(preferences.name) if carries(version)]


def _check(config: Experiment) -> None:
    """Raise ConfigError where rounds would not differ, or would not be the loop's own."""
    where = str(config.path)
    if not trains_reward(config):
        mend = "Leave ppo.reward out, or run the stages once: make"
        raise ConfigError(
            f"{where}: loop", "has no reward model to train, so no round learns from the last.", mend
        )
    own_texts = dict_of(config.written.get("label")).get("dataset") if config.asks_people else None
    if config.collect.annotator == "replay" or own_texts is not None:
        what = "brings its own completions, so that no policy would be sampled."
        key = "collect.annotator: replay" if own_texts is None else "label.dataset"
        raise ConfigError(f"{where}: {key}", what, "A loop needs an annotator of sampled completions.")
    if config.collect.sampler is not None:
        what = "samples from a server, and each round after the first samples from the policy of the last."
        mend = "Leave it out, or run the stages once: make"
        raise ConfigError(f"{where}: collect.sampler", what, mend)
    for stage, roles in NAMED_BY_LOOP.items():
        for role in roles:
            if role in config.inputs(stage):
                what = f"{stage}.inputs.{role} is named by the loop itself."
                raise ConfigError(where, what, "Leave it out, or run the stages once: make")
    mixed = config.loop.start != config.loop.reference
    if not config.ppo.use_peft and mixed:
        what = f"start {config.loop.start} with reference {config.loop.reference} needs ppo.use_peft: true."
        raise ConfigError(f"{where}: loop", what, "Give both the same value.")
