"""What every stage is: inputs found by lineage, a key that says whether the work is done, outputs as versions.

The graph of stages is written here once, so that a stage finds its inputs by what they were made from and not by
what happens to be newest: going back to an earlier seed or setting goes back to its versions. What a stage does
with its inputs is its own business.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pipeline import __version__
from pipeline.core.config import Config, load_config
from pipeline.core.errors import ConfigError, StoreError
from pipeline.core.records import digest
from pipeline.core.store import Draft, Store, Version

NOTHING_TO_DO, WORK_TO_DO = 0, 3


@dataclass(frozen=True)
class Node:
    """One stage in the graph: artefacts read and written, each by its role's name."""

    inputs: tuple[str, ...]
    outputs: dict[str, str]
    """Role to kind; the last one is published last, so it stands for all of them."""
    optional: tuple[str, ...] = ()
    """Roles that are read only when the section's ``inputs`` names a version for them."""


GRAPH = {
    "sft": Node((), {"base": "model"}),
    "collect": Node(
        ("base",),
        {"prompts": "prompts", "comparisons": "comparisons", "preferences": "preferences"},
        optional=("policy", "previous"),
    ),
    "reward": Node(("base", "preferences"), {"scores": "scores", "reward": "adapter"}),
    "ppo": Node(("base", "prompts", "reward"), {"rollouts": "rollouts", "policy": "adapter"}),
    "evaluate": Node(("base", "reward", "policy"), {"evaluation": "evaluation"}),
    "report": Node(("base", "preferences", "scores", "reward", "policy", "evaluation"), {"report": "report"}),
}


@dataclass(frozen=True)
class External:
    """A base model from outside the store: a Hub id or a directory."""

    source: str
    revision: str | None

    @property
    def id(self) -> str:
        """A directory is known by its weights, a Hub id by its name and revision."""
        weights = sorted(Path(self.source).glob("*.safetensors")) if Path(self.source).is_dir() else []
        if weights:
            return digest([[w.name, _sha256(w)] for w in weights])
        return digest([self.source, self.revision])

    @property
    def ref(self) -> str:
        return f"{self.source}@{self.revision}" if self.revision else self.source


Input = Version | External


@dataclass
class Run:
    """One stage of one experiment, ready to run."""

    stage: str
    config: Config
    store: Store
    inputs: dict[str, Input]
    key: str
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

    @property
    def workdir(self) -> Path:
        """Scratch space of this work; the same for the same work, gone when it is published."""
        return self.store.root / ".runs" / f"{self.config.name}-{self.stage}-{self.key[:12]}"

    @contextlib.contextmanager
    def draft(self, role: str, **fields: Any) -> Generator[Draft]:
        """A new version of one of this stage's outputs, its parents and settings filled in."""
        parents = [(v, r) for r, v in self.inputs.items() if isinstance(v, Version)]
        parents += fields.pop("parents", [])
        with self.store.draft(
            artefact(self.config, role),
            kind=GRAPH[self.stage].outputs[role],
            stage=self.stage,
            key=self.key,
            parents=parents,
            config={"name": self.config.name, **self.config.learning_part(self.stage)},
            seed=self.config.seed,
            **fields,
        ) as draft:
            for role_name, found in self.inputs.items():
                draft.models.extend(_models(role_name, found))
            yield draft
            draft.stats["stage_seconds"] = round(time.time() - self.started, 1)
        say(self.stage, f"wrote {draft.version.ref}")

    def lineage(self, role: str) -> str:
        """The tree an output of this stage will have, as text."""
        lines = [artefact(self.config, role)]
        found = [(r, i) for r, i in self.inputs.items()]
        for n, (name, parent) in enumerate(found):
            tree = self.store.lineage(parent).draw() if isinstance(parent, Version) else [parent.ref]
            last = n == len(found) - 1
            lines.append(f"{'└── ' if last else '├── '}{name}: {tree[0]}")
            lines += [f"{'    ' if last else '│   '}{line}" for line in tree[1:]]
        return "\n".join(lines)

    def keep_metrics(self, draft: Draft) -> None:
        """Put the training's metrics.jsonl into the version."""
        path = self.workdir / "metrics.jsonl"
        if path.is_file():
            shutil.copyfile(path, draft.path / "metrics.jsonl")

    def finish(self) -> None:
        """Remove the scratch space; everything worth keeping is in a version."""
        self.planner.forget(self.stage)
        shutil.rmtree(self.workdir, ignore_errors=True)


def artefact(config: Config, role: str) -> str:
    """The name under which an experiment's artefact is stored: ``demo-preferences``."""
    return f"{config.name}-{role}"


class Planner:
    """Finds inputs and keys of an experiment's stages. Needs no torch, loads nothing, looks at each thing once."""

    def __init__(self, config: Config, store: Store) -> None:
        self.config, self.store = config, store
        self._plans: dict[str, Run] = {}
        self._outputs: dict[str, dict[str, Version] | None] = {}

    def plan(self, stage: str) -> Run:
        """The inputs of ``stage`` and the key of its work.

        Raises:
            StoreError: an input does not exist yet, with the command that makes it.
            ConfigError: ``inputs`` names a role that the stage does not read.
        """
        if stage not in self._plans:
            inputs = self._inputs(stage)
            learning = self.config.learning_part(stage)
            parents = [[role, fingerprint(found)] for role, found in sorted(inputs.items())]
            key = digest([stage, parents, learning, local_files(learning), __version__])
            self._plans[stage] = Run(stage, self.config, self.store, inputs, key, self)
        return self._plans[stage]

    def outputs(self, stage: str) -> dict[str, Version] | None:
        """All outputs of the stage's work by role, or None when one is missing."""
        if stage not in self._outputs:
            key = self.plan(stage).key
            found = {r: self.store.find(artefact(self.config, r), key) for r in GRAPH[stage].outputs}
            whole = {r: v for r, v in found.items() if v is not None}
            self._outputs[stage] = whole if len(whole) == len(found) else None
        return self._outputs[stage]

    def forget(self, stage: str) -> None:
        """Look again next time: the stage has just published."""
        self._outputs.pop(stage, None)

    def _inputs(self, stage: str) -> dict[str, Input]:
        node, chosen = GRAPH[stage], self.config.inputs(stage)
        unknown = [r for r in chosen if r not in node.inputs + node.optional]
        if unknown:
            reads = ", ".join(node.inputs + node.optional) or "nothing"
            raise ConfigError(
                str(self.config.path),
                f'{stage}.inputs: "{unknown[0]}" is not read by {stage}.',
                f"It reads: {reads}",
            )
        inputs: dict[str, Input] = {}
        if stage == "sft" and self.config.base_model is not None:
            inputs["pretrained"] = self._external_base()
        for role in node.inputs + node.optional:
            if role in chosen:
                inputs[role] = self.store.resolve(chosen[role])
            elif role == "base" and not sft_needed(self.config):
                inputs[role] = self._external_base()
            elif role not in node.optional:
                inputs[role] = self._made(role)
        return inputs

    def _external_base(self) -> Input:
        """``base_model`` of the config: a directory, a version's reference, or a Hub id."""
        source = self.config.base_model or ""
        if not Path(source).is_dir() and ("@" in source or source in self.store.names()):
            return self.store.resolve(source)
        return External(source, self.config.base_revision)

    def _made(self, role: str) -> Version:
        """The version of ``role`` that the stage before made under this very config."""
        stage = next(name for name, node in GRAPH.items() if role in node.outputs)
        made = self.outputs(stage)
        if made is None:
            raise StoreError(
                f"{self.store.root}/{artefact(self.config, role)}",
                "does not exist for these settings.",
                f"Run: make {stage} CONFIG={self.config.path}",
            )
        return made[role]


def stage_main(stage: str, run: Callable[[Run], None], argv: list[str] | None = None) -> int:
    """The command line of a stage: parse, look whether the work is done, else do it."""
    parser = argparse.ArgumentParser(
        prog=f"python -m pipeline.{stage}", description=sys.modules["__main__"].__doc__
    )
    parser.add_argument("--config", default="configs/demo.yaml", help="experiment (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="only say whether there is work: exit 0 no, 3 yes")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="such as ppo.kl_coef=0.1")
    args = parser.parse_args(argv)
    config = load_config(args.config, args.overrides)
    if stage == "sft" and not sft_needed(config):
        say(stage, f"nothing to do: {config.base_model} is used as it is")
        return NOTHING_TO_DO
    planned = Planner(config, Store(config.data_dir)).plan(stage)
    done = planned.done()
    if done is not None:
        say(stage, f"up to date: {list(done.values())[-1].ref}")
        return NOTHING_TO_DO
    if args.check:
        return WORK_TO_DO
    quiet()
    say(stage, f"{args.config}, from {', '.join(i.ref for i in planned.inputs.values()) or 'nothing'}")
    run(planned)
    planned.finish()
    say(stage, f"done in {time.time() - planned.started:.0f} s")
    return NOTHING_TO_DO


def quiet() -> None:
    """Keep what libraries say about their own future off the screen; what concerns the user is said by stages."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    for name in ("HF_HUB_DISABLE_TELEMETRY", "TRL_EXPERIMENTAL_SILENCE", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(name, "1")
    warnings.filterwarnings("ignore", category=FutureWarning)


def sft_needed(config: Config) -> bool:
    """True when the experiment makes its own base: none is given, or one is given and ``sft`` adapts it."""
    return config.base_model is None or "sft" in config.sections


def main_process() -> bool:
    """True on the one process that writes."""
    return int(os.environ.get("RANK", "0")) == 0


def say(stage: str, text: str) -> None:
    """A line for the person watching; from the main process only."""
    if main_process():
        print(f"[{stage}] {text}", flush=True)


def fingerprint(found: Input) -> list[str]:
    """What an input holds: its content id, and its shards' bytes, as a row's id does not cover every column."""
    if isinstance(found, External):
        return [found.id]
    return [found.id, *(f.sha256 for f in found.manifest.files if f.path.endswith(".parquet"))]


def local_files(value: Any) -> list[str]:
    """sha256 of every local file that a config value names, so that editing the file is new work."""
    if isinstance(value, dict):
        entries = cast("dict[str, Any]", value)
        return [f for k in sorted(entries) for f in local_files(entries[k])]
    if isinstance(value, list):
        return [f for v in cast("list[Any]", value) for f in local_files(v)]
    if not isinstance(value, str) or len(value) > 1024 or "\n" in value:
        return []
    path = Path(value).expanduser()
    if path.is_file():
        return [_sha256(path)]
    if path.is_dir() and os.sep in value:
        return [_sha256(p) for p in sorted(path.rglob("*")) if p.is_file()]
    return []


def _models(role: str, found: Input) -> list[dict[str, Any]]:
    if isinstance(found, External):
        return [{"role": role, "id": found.source, "revision": found.revision, "content": found.id}]
    if found.manifest.kind in ("model", "adapter"):
        return [{"role": role, "id": found.ref, "content": found.id}]
    return []


def _sha256(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
