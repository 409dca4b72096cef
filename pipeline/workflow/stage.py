"""What every stage is: inputs found by lineage, a key that says whether the work is done, outputs as versions.

What the stages are is :mod:`pipeline.workflow.graph`'s, what becomes of interrupted ones
:mod:`pipeline.store.interrupted`'s. What a stage does with its inputs is its own business.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import shutil
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.base.errors import PipelineError, StoreError
from pipeline.base.process import main_process, quiet, say, world_size
from pipeline.base.records import digest
from pipeline.store import interrupted
from pipeline.store.checkpoints import Checkpoints
from pipeline.store.draft import plain
from pipeline.store.lineage import Node
from pipeline.store.store import Draft, Store, Version
from pipeline.workflow.agreement import Together, disagreement, exchange, met_error
from pipeline.workflow.config import load_config
from pipeline.workflow.experiment import Experiment
from pipeline.workflow.graph import (
    External,
    Input,
    annotating_models,
    artefact,
    graph,
    hub_datasets,
    manifest_models,
    nothing_to_do,
    scorers_by_role,
    sft_needed,
    with_commit,
)
from pipeline.workflow.work_key import fingerprint, learning_part, output_format, work_files, work_key

__all__ = ["Input", "Planner", "Run", "main_process", "say", "stage_main"]

NOTHING_TO_DO, WORK_TO_DO = 0, 3


@dataclass
class Run:
    """One stage of one experiment, ready to run."""

    stage: str
    config: Experiment
    store: Store
    inputs: dict[str, Input]
    key: str
    files: list[str]
    """sha256 of the local files that the settings name, and the commits of the Hub datasets."""
    datasets: list[dict[str, Any]]
    """What is read of the Hub: dataset, revision, commit."""
    planner: Planner
    started: float = field(default_factory=time.time)

    def version(self, role: str) -> Version:
        """The input of that role, which is a version of the store."""
        found = self.inputs[role]
        assert isinstance(found, Version), role
        return found

    @property
    def base(self) -> tuple[str, str | None]:
        """Where the base model is loaded from: (directory or Hub id, revision)."""
        base = self.inputs["base"]
        return (str(base.path), None) if isinstance(base, Version) else (base.source, base.revision)

    def published_base(self, draft: Draft, commit: str | None) -> tuple[str, str | None]:
        """The base as an adapter's config names it: loadable from any working directory of this machine.

        Args:
            draft: of the adapter; its manifest gets the commit too.
            commit: of the Hub repository that was loaded, so that a branch that moves is no longer the base.
        """
        source, revision = self.base
        if Path(source).is_dir():
            return str(Path(source).resolve()), None
        for model in draft.models:
            if model["role"] == "base":
                model["revision"] = commit or revision
        return source, commit or revision

    def done(self) -> dict[str, Version] | None:
        """The versions that this very work has already made, by role, or None."""
        return self.planner.outputs(self.stage)

    def earlier_outputs(self, role: str) -> list[Version]:
        """Every version of one of this stage's outputs, newest first, whatever its settings were."""
        return self.store.versions(artefact(self.config, role))[::-1]

    @property
    def workdir(self) -> Path:
        """Scratch space of this work; the same for the same work, gone when it is published."""
        return self.work_root / f"{self.config.name}-{self.stage}-{self.key[:12]}"

    @property
    def work_root(self) -> Path:
        """Where all work has its scratch space."""
        return self.store.root / ".runs"

    @property
    def checkpoints(self) -> Checkpoints:
        """Of this work; the newest one is where the same command continues."""
        return Checkpoints(self.workdir)

    @property
    def work(self) -> interrupted.Work:
        """What this work is, for whoever finds it interrupted."""
        return interrupted.Work(
            stage=self.stage,
            name=self.config.name,
            seed=self.config.seed,
            key=self.key,
            settings=plain(learning_part(self.config, self.stage)),
            inputs={role: [i.ref, digest(fingerprint(i))] for role, i in self.inputs.items()},
            files=digest(self.files),
            version=output_format(self.stage),
            world_size=world_size(),
        )

    @contextlib.contextmanager
    def draft(self, role: str, **fields: Any) -> Generator[Draft]:
        """A new version of one of this stage's outputs, its parents and settings filled in."""
        parents = [(v, r) for r, v in self.inputs.items() if isinstance(v, Version)]
        parents += fields.pop("parents", [])
        with self.store.draft(
            artefact(self.config, role),
            kind=graph(self.config)[self.stage].outputs[role],
            stage=self.stage,
            key=self.key,
            parents=parents,
            config={"name": self.config.name, **learning_part(self.config, self.stage)},
            seed=self.config.seed,
            **fields,
        ) as draft:
            for role_name, found in self.inputs.items():
                draft.models.extend(manifest_models(role_name, found))
            draft.models.extend(annotating_models(self.config, self.stage))
            draft.datasets.extend(self.datasets)
            yield draft
            draft.models = [with_commit(model) for model in draft.models]
            draft.stats["stage_seconds"] = round(time.time() - self.started, 1)
        say(self.stage, f"wrote {draft.version.ref}")

    def lineage(self, root: str) -> str:
        """The tree an output of this stage will have, as text, under its reference."""
        parents = [
            (
                role,
                self.store.lineage(source) if isinstance(source, Version) else Node(source.ref, "present", None),
            )
            for role, source in self.inputs.items()
        ]
        return "\n".join(Node(root, "present", None, parents).draw())

    def keep_metrics(self, draft: Draft) -> None:
        """Put the training's metrics.jsonl into the version."""
        path = self.workdir / "metrics.jsonl"
        if path.is_file():
            shutil.copyfile(path, draft.path / "metrics.jsonl")

    def finish(self) -> None:
        """Remove the scratch space; everything worth keeping is in a version."""
        self.planner.forget(self.stage)
        if main_process():  # the others are done before it has published
            shutil.rmtree(self.workdir, ignore_errors=True)


class Planner:
    """Finds inputs and keys of an experiment's stages. Needs no torch, loads nothing, looks at each thing once."""

    def __init__(self, config: Experiment, store: Store) -> None:
        self.config, self.store = config, store
        self._runs: dict[str, Run] = {}
        self._outputs: dict[str, dict[str, Version] | None] = {}

    def run_of(self, stage: str) -> Run:
        """The inputs of ``stage`` and the key of its work.

        Raises:
            StoreError: an input does not exist yet, with the command that makes it.
        """
        if stage not in self._runs:
            inputs = self._inputs(stage)
            learning = learning_part(self.config, stage)
            prints = {role: fingerprint(source) for role, source in inputs.items()}
            datasets = hub_datasets(learning)
            # A branch that has moved is new work, as an edited file is.
            files = work_files(self.config, stage) + [d["commit"] for d in datasets if d["commit"]]
            key = work_key(stage, prints, learning, files)
            self._runs[stage] = Run(stage, self.config, self.store, inputs, key, files, datasets, self)
        return self._runs[stage]

    def outputs(self, stage: str) -> dict[str, Version] | None:
        """All outputs of the stage's work by role, or None when one is missing."""
        if stage not in self._outputs:
            key = self.run_of(stage).key
            found = {r: self.store.find(artefact(self.config, r), key) for r in graph(self.config)[stage].outputs}
            whole = {r: v for r, v in found.items() if v is not None}
            self._outputs[stage] = whole if len(whole) == len(found) else None
        return self._outputs[stage]

    def published(self, stage: str) -> Callable[[str], bool]:
        """Whether the stage's work of another key is done."""
        last = artefact(self.config, list(graph(self.config)[stage].outputs)[-1])
        return lambda key: self.store.find(last, key) is not None

    def forget(self, stage: str) -> None:
        """Look again next time: the stage has just published."""
        self._outputs.pop(stage, None)

    def _inputs(self, stage: str) -> dict[str, Input]:
        node, chosen = graph(self.config)[stage], self.config.inputs(stage)
        inputs: dict[str, Input] = {}
        if stage == "sft" and self.config.base_model is not None:
            inputs["pretrained"] = self._named(self.config.base_model, self.config.base_revision)
        for role in node.inputs + node.optional:
            if role in chosen:
                inputs[role] = self.store.resolve(chosen[role])
            elif role == "base" and not sft_needed(self.config):
                inputs[role] = self._named(self.config.base_model or "", self.config.base_revision)
            elif role not in node.optional:
                inputs[role] = self._made(role)
        scorers = {role: s for role, s in scorers_by_role(self.config, stage).items() if s.kind == "model"}
        return inputs | {role: self._named(s.value, s.revision) for role, s in scorers.items()}

    def _named(self, source: str, revision: str | None = None) -> Input:
        """A model that the config names: a directory, a version's reference, or a Hub id."""
        return self.store.find_version(source) or External(source, revision)

    def _made(self, role: str) -> Version:
        """The version of ``role`` that the stage before made under this very config."""
        stage = next(name for name, node in graph(self.config).items() if role in node.outputs)
        made = self.outputs(stage)
        if made is None:
            raise StoreError(
                f"{self.store.root}/{artefact(self.config, role)}",
                "does not exist for these settings.",
                f"Run: make {stage} CONFIG={self.config.path}",
            )
        return made[role]


Body = Callable[[Run], None] | str
"""What a stage does, or where that is: ``module:function``, imported only once there is work."""


def stage_main(stage: str, body: Body, argv: list[str] | None = None, together: Together | None = None) -> int:
    """The command line of a stage: parse, look whether the work is done, else do it.

    Args:
        body: does the work. Named as ``module:function`` it is not imported by ``--check`` or ``--help``.
        together: how ranks tell each other what they are about to do, where there are several.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m pipeline.{stage}", description=sys.modules["__main__"].__doc__
    )
    parser.add_argument("--config", default="configs/demo.yaml", help="experiment (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="only say whether there is work: exit 0 no, 3 yes")
    parser.add_argument("--fresh", action="store_true", help="start anew, leaving interrupted work behind")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="such as ppo.kl_coef=0.1")
    args = parser.parse_args(argv)
    several = together if together is not None and world_size() > 1 and not args.check else None
    planned = agreed_plan(stage, args.config, args.overrides, several)
    if planned is None:
        return NOTHING_TO_DO
    if said_done(planned):
        interrupted.clear(planned.workdir)
        return NOTHING_TO_DO
    if args.check:
        # Whoever only looks is not launched yet, and cannot know with how many processes it will be.
        check_before(planned, replace(planned.work, world_size=None), args.fresh)
        return WORK_TO_DO
    quiet()
    with contextlib.ExitStack() as held:
        if begin(planned, args.fresh, several, held):
            return NOTHING_TO_DO
        say(stage, f"{args.config}, from {', '.join(i.ref for i in planned.inputs.values()) or 'nothing'}")
        load_body(body)(planned)
        planned.finish()
    say(stage, f"done in {time.time() - planned.started:.0f} s")
    return NOTHING_TO_DO


def load_body(body: Body) -> Callable[[Run], None]:
    """The function that does a stage's work."""
    if not isinstance(body, str):
        return body
    module, _, name = body.partition(":")
    return getattr(importlib.import_module(module), name)


def agreed_plan(stage: str, path: str, overrides: list[str], together: Together | None) -> Run | None:
    """What is to be done, the same on all ranks; None where the config leaves nothing to do, which is said.

    Raises:
        PipelineError: the config, an input or another rank does not fit; on all ranks alike.
    """
    planned, reason, done, error = None, None, False, None
    try:
        config = load_config(path, overrides)
        reason = nothing_to_do(config, stage)
        if reason is None:
            check_sets(config, look=False)
            planned = Planner(config, Store(config.data_dir)).run_of(stage)
            done = planned.done() is not None
    except PipelineError as err:
        error = err
    work = None if planned is None else plain(asdict(planned.work))
    problem = disagreement(exchange({"work": work, "done": done}, error, stage, together))
    if problem is not None:
        raise problem
    if reason is not None:
        say(stage, f"nothing to do: {reason}")
    return planned


def check_before(planned: Run, work: interrupted.Work, fresh: bool) -> None:
    """What would be found out late: a test set that cannot be read, interrupted work of other settings.

    Raises:
        PipelineError: there is some.
    """
    if planned.stage == "reward":
        check_sets(planned.config, look=True)
    if main_process() and not fresh:
        interrupted.check(planned.work_root, planned.workdir, work, planned.planner.published(planned.stage))


def begin(planned: Run, fresh: bool, together: Together | None, held: contextlib.ExitStack) -> bool:
    """Hold the work's directory for as long as ``held`` is open; on the process that writes, for all ranks.

    Returns:
        Whether somebody else has finished the work since we looked.
    Raises:
        PipelineError: another process is at it, or :func:`check_before`; on all ranks alike.
    """
    done, error = False, None
    try:
        check_before(planned, planned.work, fresh)
        if main_process():
            held.enter_context(interrupted.working(planned.workdir, planned.work, fresh))
            planned.planner.forget(planned.stage)
            # Ranks that cannot be told would wait for this one.
            done = (together is not None or world_size() == 1) and said_done(planned)
    except PipelineError as err:
        error = err
    standings = exchange({"done": done}, error, f"{planned.stage}, begin", together)
    if (problem := met_error(standings)) is not None:
        raise problem
    return bool(standings[0]["done"])


def check_sets(config: Experiment, look: bool) -> None:
    """See :func:`pipeline.workflow.named_sets.check_sets`, which is imported where there is something to check."""
    if config.reward.test_sets:
        from pipeline.workflow import named_sets

        named_sets.check_sets(config, look)


def said_done(planned: Run) -> bool:
    """Whether the work is done, which is then said."""
    done = planned.done()
    if done is not None:
        say(planned.stage, f"up to date: {list(done.values())[-1].ref}")
    return done is not None
