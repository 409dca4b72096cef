"""Plan and run a stage: find its inputs by lineage, compute the key of its work, publish its outputs as versions.

:mod:`pipeline.workflow.graph` has the graph of stages, :mod:`pipeline.workflow.stage_command` the command line.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.base.errors import StoreError
from pipeline.base.process import main_process, rank, say, world_size
from pipeline.base.records import digest
from pipeline.base.required import REQUIRED
from pipeline.sources.hub import model_commit
from pipeline.store import interrupted
from pipeline.store.checkpoints import Checkpoints
from pipeline.store.draft import plain
from pipeline.store.lineage import Node
from pipeline.store.store import Draft, Store, Version
from pipeline.workflow.beside_report import made_since
from pipeline.workflow.experiment import Experiment
from pipeline.workflow.graph import (
    External,
    Input,
    annotating_models,
    artefact,
    data_marks,
    graph,
    hub_datasets,
    manifest_models,
    scorers_by_role,
    sft_needed,
    with_commit,
)
from pipeline.workflow.work_key import fingerprint, learning_part, output_format, work_files, work_key

__all__ = ["Input", "Planner", "Run", "main_process", "say"]


@dataclass
class Run:
    """One stage of one experiment, ready to run."""

    stage: str
    config: Experiment
    store: Store
    inputs: dict[str, Input]
    key: str
    files: list[str]
    """sha256 of the local files that the settings name, and the commits of the Hub datasets; of the
    report also what :mod:`pipeline.workflow.beside_report` finds."""
    datasets: list[dict[str, Any]]
    """What is read of the Hub: dataset, revision, commit."""
    planner: Planner
    started: float = field(default_factory=time.time)

    def version(self, role: str) -> Version:
        """The input of a role that is always a version of the store."""
        version = self.inputs[role]
        assert isinstance(version, Version), role
        return version

    @property
    def base(self) -> tuple[str, str | None]:
        """Where the base model is loaded from: a directory and None, or a Hub id and its commit.

        Where the Hub cannot say which commit that is, it is the revision; loading will fail, with advice.
        """
        base = self.inputs["base"]
        if isinstance(base, Version):
            return str(base.path), None
        return base.source, model_commit(base.source, base.revision) or base.revision

    @property
    def base_name(self) -> str:
        """:attr:`base` in one word: a directory, or ``org/name@commit``."""
        return "@".join(part for part in self.base if part)

    def published_base(self, draft: Draft, commit: str | None) -> tuple[str, str | None]:
        """The base as an adapter's config names it: an absolute path, or a Hub id with its commit.

        Args:
            draft: of the adapter; its manifest gets the commit too.
            commit: of the Hub repository that was loaded; a branch may move later.
        """
        source, revision = self.base
        if Path(source).is_dir():
            return str(Path(source).resolve()), None
        for model in draft.models:
            if model["role"] == "base":
                model["revision"] = commit or revision
        return source, commit or revision

    def done(self) -> dict[str, Version] | None:
        """The versions that this work has published, by role; None where one is missing."""
        return self.planner.outputs(self.stage)

    def earlier_outputs(self, role: str) -> list[Version]:
        """Every version of one of this stage's outputs, newest first, under any settings."""
        return self.store.versions(artefact(self.config, role))[::-1]

    @property
    def workdir(self) -> Path:
        """Scratch directory of this work: the same for the same key, removed once it is published."""
        return self.work_root / f"{self.config.name}-{self.stage}-{self.key[:12]}"

    @property
    def work_root(self) -> Path:
        """The directory of all scratch directories."""
        return self.store.root / ".runs"

    def token_file(self, name: str) -> Path:
        """Where this process keeps rows as tokens, until the work is published."""
        return self.workdir / f"tokens_{rank()}" / f"{name}.arrow"

    @property
    def checkpoints(self) -> Checkpoints:
        """The checkpoints of this work; the same command continues from the newest."""
        return Checkpoints(self.workdir)

    @property
    def work(self) -> interrupted.Work:
        """A description of this work, kept beside it so that an interrupted run can be recognised."""
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
        """Open a draft of one of this stage's outputs, with its parents, its settings and what it asks for."""
        parents = [(v, r) for r, v in self.inputs.items() if isinstance(v, Version)]
        parents += fields.pop("parents", [])
        governance: dict[str, Any] = fields.pop("governance", None) or {}
        with self.store.draft(
            artefact(self.config, role),
            kind=graph(self.config)[self.stage].outputs[role],
            stage=self.stage,
            key=self.key,
            parents=parents,
            config={"name": self.config.name, **learning_part(self.config, self.stage)},
            seed=self.config.seed,
            governance={**governance, REQUIRED: asdict(self.config.governance)},
            **fields,
        ) as draft:
            for role_name, source in self.inputs.items():
                draft.models.extend(manifest_models(role_name, source))
            draft.models.extend(annotating_models(self.config, self.stage))
            draft.datasets.extend(self.datasets)
            yield draft
            draft.models = [with_commit(model) for model in draft.models]
            draft.stats["stage_seconds"] = round(time.time() - self.started, 1)
        say(self.stage, f"wrote {draft.version.ref}")

    def lineage(self, root: str) -> str:
        """The lineage of an output of this stage as a tree of text, with the reference ``root`` at its top."""
        parents = [
            (
                role,
                self.store.lineage(source) if isinstance(source, Version) else Node(source.ref, "present", None),
            )
            for role, source in self.inputs.items()
        ]
        return "\n".join(Node(root, "present", None, parents).draw())

    def keep_metrics(self, draft: Draft) -> None:
        """Copy the training's metrics.jsonl into the version."""
        path = self.workdir / "metrics.jsonl"
        if path.is_file():
            shutil.copyfile(path, draft.path / "metrics.jsonl")

    def finish(self) -> None:
        """Remove the scratch directory."""
        self.planner.forget(self.stage)
        if main_process():  # the other ranks are done before this one has published
            shutil.rmtree(self.workdir, ignore_errors=True)


class Planner:
    """Finds the inputs and keys of an experiment's stages, and caches them. Loads no model and needs no torch."""

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
            files = work_files(self.config, stage) + data_marks(learning)
            files += made_since(self.store, inputs) if stage == "report" else []
            key = work_key(stage, prints, learning, files)
            self._runs[stage] = Run(stage, self.config, self.store, inputs, key, files, datasets, self)
        return self._runs[stage]

    def outputs(self, stage: str) -> dict[str, Version] | None:
        """All outputs of the stage's work by role; None where one is missing."""
        if stage not in self._outputs:
            key = self.run_of(stage).key
            roles = graph(self.config)[stage].outputs
            versions = {r: v for r in roles if (v := self.store.find(artefact(self.config, r), key)) is not None}
            self._outputs[stage] = versions if len(versions) == len(roles) else None
        return self._outputs[stage]

    def published(self, stage: str) -> Callable[[str], bool]:
        """A function that says whether the stage's work with another key is published."""
        last = artefact(self.config, list(graph(self.config)[stage].outputs)[-1])
        return lambda key: self.store.find(last, key) is not None

    def forget(self, stage: str) -> None:
        """Drop the cached outputs of a stage that has just published."""
        self._outputs.pop(stage, None)

    def _inputs(self, stage: str) -> dict[str, Input]:
        node, chosen = graph(self.config)[stage], self.config.inputs(stage)
        inputs: dict[str, Input] = {}
        if stage == "sft" and self.config.base_model is not None:
            inputs["pretrained"] = self._base_model()
        for role in node.inputs + node.optional:
            if role in chosen:
                inputs[role] = self.store.resolve(chosen[role])
            elif role == "base" and not sft_needed(self.config):
                inputs[role] = self._base_model()
            elif role not in node.optional:
                inputs[role] = self._made(role)
        scorers = {role: s for role, s in scorers_by_role(self.config, stage).items() if s.kind == "model"}
        return inputs | {role: self._named(s.value, s.revision) for role, s in scorers.items()}

    def _base_model(self) -> Input:
        """The model that ``base_model`` names."""
        source = self.config.base_model or ""
        return self.store.find_version(source) or External(
            source, self.config.base_revision, self.config.base_sha256
        )

    def _named(self, source: str, revision: str | None = None) -> Input:
        """A model that the config names: a directory, a version's reference, or a Hub id."""
        return self.store.find_version(source) or External(source, revision)

    def _made(self, role: str) -> Version:
        """The version of ``role`` that its stage published under this config."""
        stage = next(name for name, node in graph(self.config).items() if role in node.outputs)
        made = self.outputs(stage)
        if made is None:
            raise StoreError(
                f"{self.store.root}/{artefact(self.config, role)}",
                "does not exist for these settings.",
                f"Run: make {stage} CONFIG={self.config.path}",
            )
        return made[role]
