"""The graph of stages: what each reads and writes, and how an input is identified.

:class:`pipeline.workflow.stage.Planner` finds the versions on the disk.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from pipeline.base.errors import ConfigError
from pipeline.base.files import sha256_file
from pipeline.base.json_values import dict_of
from pipeline.base.records import digest
from pipeline.sources.gguf_names import identity, is_gguf
from pipeline.sources.hub import commit_of, model_commit
from pipeline.sources.remote_files import content_mark, is_url
from pipeline.sources.row_sources import hub_dataset, hub_revision
from pipeline.store.store import Version
from pipeline.workflow.experiment import Experiment
from pipeline.workflow.judges import parse_judges
from pipeline.workflow.reward_sources import RewardSource, parse_sources, uses_adapter


@dataclass(frozen=True)
class Node:
    """One stage in the graph: artefacts read and written, each by its role's name."""

    inputs: tuple[str, ...]
    outputs: dict[str, str]
    """Role to kind. The last one is published last, so that it marks the stage as done."""
    optional: tuple[str, ...] = ()
    """Roles that are read only where the section's ``inputs`` names a version."""


GRAPH = {
    "sft": Node((), {"base": "model"}),
    "collect": Node(
        ("base",),
        {"prompts": "prompts", "comparisons": "comparisons", "preferences": "preferences"},
        optional=("policy", "previous"),
    ),
    "reward": Node(
        ("base", "preferences"),
        {"scores": "scores", "reward": "adapter"},
        optional=("earlier", "earlier_reward", "start"),
    ),
    "ppo": Node(
        ("base", "prompts", "reward"),
        {"rollouts": "rollouts", "policy": "adapter"},
        optional=("start", "reference"),
    ),
    "evaluate": Node(("base", "prompts", "reward", "policy"), {"evaluation": "evaluation"}),
    "report": Node(
        ("base", "preferences", "scores", "reward", "policy", "evaluation"),
        {"report": "report"},
        optional=("loop", "readers"),
    ),
}


def graph(config: Experiment) -> dict[str, Node]:
    """:data:`GRAPH` for this experiment: without the reward model where scores come from elsewhere."""
    nodes = dict(GRAPH)
    if not config.ppo.use_peft:
        nodes["ppo"] = dataclasses.replace(GRAPH["ppo"], outputs={**GRAPH["ppo"].outputs, "policy": "model"})
    if trains_reward(config):
        return nodes
    without = ("preferences", "scores", "reward")
    nodes = {
        stage: dataclasses.replace(node, inputs=tuple(r for r in node.inputs if r not in without))
        for stage, node in nodes.items()
    }
    if not collects_preferences(config):
        nodes["collect"] = dataclasses.replace(nodes["collect"], outputs={"prompts": "prompts"})
    return nodes


def reward_sources(config: Experiment, key: Literal["reward", "check"] = "reward") -> list[RewardSource]:
    """Where scores come from: the entries of ``ppo.reward``; the experiment's own adapter when there is none.

    Args:
        key: ``check`` gives the entries of ``ppo.check``, whose scores are never trained on.
    Raises:
        ConfigError: see :func:`pipeline.workflow.reward_sources.parse_sources`.
    """
    value = config.ppo.check if key == "check" else config.ppo.reward
    return [] if value is None and key == "check" else parse_sources(value, str(config.path), f"ppo.{key}")


def scorers_by_role(config: Experiment, stage: str) -> dict[str, RewardSource]:
    """The scorers of a stage by role: ``reward_1`` is the first entry of ``ppo.reward``."""
    scorers: dict[str, RewardSource] = {}
    if stage in ("ppo", "evaluate"):
        scorers |= {f"reward_{i}": source for i, source in enumerate(reward_sources(config), 1)}
    if stage == "ppo":
        scorers |= {f"check_{i}": source for i, source in enumerate(reward_sources(config, "check"), 1)}
    if stage == "evaluate":
        for i, judge in enumerate(parse_judges(config.evaluate.judges, str(config.path)), 1):
            if isinstance(judge.source, RewardSource):  # a language model is not an input
                scorers[f"judge_{i}"] = judge.source
    return scorers


def trains_reward(config: Experiment) -> bool:
    """Whether the experiment scores with its own reward adapter, which is then trained."""
    return uses_adapter([*reward_sources(config), *reward_sources(config, "check")])


def collects_preferences(config: Experiment) -> bool:
    """Whether ``collect`` asks an annotator: for a reward model, or because its section names one."""
    return trains_reward(config) or "annotator" in config.chosen["collect"]


def sft_needed(config: Experiment) -> bool:
    """Whether the experiment makes its own base: without base_model, or where ``sft`` adapts or converts it."""
    return trains_base(config) or is_gguf(config.base_model or "")


def trains_base(config: Experiment) -> bool:
    """Whether ``sft`` trains: a base from scratch, or LoRA on a pretrained one."""
    return config.base_model is None or config.adapts_base


def nothing_to_do(config: Experiment, stage: str) -> str | None:
    """Why this experiment has no such stage; None where it has."""
    if stage == "sft" and not sft_needed(config):
        return f"{config.base_model} is used as it is"
    if stage == "reward" and not trains_reward(config):
        return f"ppo.reward is {', '.join(s.value for s in reward_sources(config))}"
    return None


@dataclass(frozen=True)
class External:
    """A model from outside the store: a Hub id, a directory, or a GGUF file or package.

    ``sha256`` is what a GGUF's file has to have, where the config says.
    """

    source: str
    revision: str | None
    sha256: str | None = None

    @functools.cached_property
    def id(self) -> str:
        """The digest of a directory's weights, of a Hub id and its revision, or of a GGUF's identity.

        Raises:
            PipelineError: see :func:`pipeline.sources.gguf_names.identity`.
        """
        if is_gguf(self.source):
            return digest(["gguf", *identity(self.source, self.sha256)])
        weights = sorted(Path(self.source).glob("*.safetensors")) if Path(self.source).is_dir() else []
        if weights:
            return digest([[w.name, sha256_file(w)] for w in weights])
        return digest([self.source, self.revision])

    @property
    def ref(self) -> str:
        return f"{self.source}@{self.revision}" if self.revision else self.source


Input = Version | External


def check_inputs(config: Experiment) -> None:
    """Check that ``inputs`` names only roles that the stage reads.

    Raises:
        ConfigError: it names another role.
    """
    nodes = graph(config)
    for stage in config.named_inputs:
        roles = nodes[stage].inputs + nodes[stage].optional if stage in nodes else ()
        for role in config.inputs(stage):
            if role not in roles:
                mend = f"It reads: {', '.join(roles) or 'nothing'}"
                raise ConfigError(str(config.path), f'{stage}.inputs: "{role}" is not read by {stage}.', mend)


def artefact(config: Experiment, role: str) -> str:
    """The name under which an experiment's artefact is stored: ``demo-preferences``."""
    return f"{config.name}-{role}"


def manifest_models(role: str, source: Input) -> list[dict[str, Any]]:
    """The manifest's entry of an input that is a model; empty for other inputs."""
    if isinstance(source, External):
        revision = {} if is_gguf(source.source) else {"revision": source.revision}
        return [{"role": role, "id": source.source, **revision, "content": source.id}]
    if source.manifest.kind in ("model", "adapter"):
        return [{"role": role, "id": source.ref, "content": source.id}]
    return []


def annotating_models(config: Experiment, stage: str) -> list[dict[str, Any]]:
    """The manifest's entry of a Hub model that is the annotator of ``collect``."""
    args = config.collect.annotator_args if stage == "collect" else {}
    model, revision = args.get("model"), args.get("revision")
    if not isinstance(model, str) or Path(model).expanduser().exists():
        return []
    return [{"role": "annotator", "id": model, "revision": None if revision is None else str(revision)}]


def with_commit(model: dict[str, Any]) -> dict[str, Any]:
    """A manifest's entry of a model, with the commit that this process loads it at."""
    if "revision" not in model or Path(model["id"]).is_dir():
        return model
    commit = model_commit(model["id"], model["revision"])
    return model | {"commit": commit} if commit else model


def hub_datasets(value: object) -> list[dict[str, Any]]:
    """The Hub datasets that a config value names: dataset, revision (as written), commit (its present one).

    The commit is None where it cannot be found out; reading the dataset then fails.
    """
    if isinstance(value, list):
        return [d for v in cast("list[Any]", value) for d in hub_datasets(v)]
    if not isinstance(value, dict):
        return []
    entries = cast("dict[str, Any]", value)
    datasets: list[dict[str, Any]] = []
    for source, revision in _named(entries):
        name = hub_dataset(source)
        if name is not None:
            revision = hub_revision(source, revision, source)
            datasets.append({"dataset": name, "revision": revision, "commit": commit_of(name, revision)})
    for inner in entries.values():
        datasets += [d for d in hub_datasets(inner) if d not in datasets]
    return datasets


def data_marks(value: object) -> list[str]:
    """What changes with the content of the datasets elsewhere that a config value names.

    Of the Hub it is their commits: a branch that has moved is new work, as an edited file is.

    Raises:
        DataError: a URL's files cannot be listed.
    """
    urls = dict.fromkeys(source for source in _sources(value) if is_url(source) and hub_dataset(source) is None)
    return [d["commit"] for d in hub_datasets(value) if d["commit"]] + [content_mark(url) for url in urls]


def _sources(value: object) -> Iterator[str]:
    if isinstance(value, list):
        for inner in cast("list[Any]", value):
            yield from _sources(inner)
    if isinstance(value, dict):
        entries = cast("dict[str, Any]", value)
        yield from (source for source, _ in _named(entries))
        for inner in entries.values():
            yield from _sources(inner)


def _named(entries: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    """(dataset, revision) of those that the keys of a mapping name, as written."""
    named: list[tuple[Any, Any]] = [(entries.get("dataset"), entries.get("revision"))]
    named += [(source, None) for source in dict_of(entries.get("test_sets")).values()]
    named += [(dict_of(entries.get("label")).get("gold"), None)]
    for source, revision in named:
        if isinstance(source, str):
            yield source, None if revision is None else str(revision)  # YAML reads 1234567 as a number
