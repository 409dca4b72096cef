"""The models that people talk to: a policy, its base, its reward model, found by their versions. Loads none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.base.errors import ModelError, StoreError
from pipeline.labelling.log.new_event import Answerer
from pipeline.store import refs
from pipeline.store.starting_policy import SENTENCE, is_starting
from pipeline.store.store import Store, Version
from pipeline.workflow.relocate import named_base

MOST_TOKENS = 256
"""Of an answer, where the policy's manifest does not say how long it was trained to write."""

_KINDS = {"sft": "a base model", "reward": "a reward model", "merge": "a merged model"}


@dataclass(frozen=True)
class Settings:
    """Of answers.

    Attributes:
        system: the system turn before every conversation; None leaves it to the template.
        seed: of the first question, one more for each; None draws one for every question.
    """

    temperature: float
    completion_tokens: int
    system: str | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Served:
    """A policy and what it came from.

    Attributes:
        base: where the base is loaded from, (directory or Hub id, revision).
        base_answerer: how votes name the base.
        reward: the directory of the experiment's own reward adapter; None where its score is not made by one.
        ppo: the policy's settings of the section ``ppo``, which say how answers are scored.
        temperature, completion_tokens: those it was trained with.
        system: the system turn that its task's prompts begin with.
    """

    policy: Version
    base: tuple[str, str | None]
    base_answerer: Answerer
    reward: Path | None
    ppo: Mapping[str, Any]
    temperature: float
    completion_tokens: int
    system: str | None

    @property
    def note(self) -> str | None:
        """What to know before talking: that PPO kept no update, so that both sides are the base."""
        return SENTENCE if is_starting(self.policy.manifest.stats) else None

    @property
    def project(self) -> str:
        """The experiment's name: ``demo`` of ``demo-policy``."""
        return self.policy.name.removesuffix("-policy")

    @property
    def answerers(self) -> tuple[Answerer, Answerer]:
        """Base and policy, as votes name them."""
        return self.base_answerer, Answerer(role="policy", ref=self.policy.ref, id=self.policy.id)


def find_served(store: Store, name: str) -> Served:
    """The policy that ``name`` names: a version such as demo-policy@v1, its directory, or an experiment.

    Raises:
        StoreError: there is no such version, or it is damaged.
        ModelError: it is no policy, or its base is not there.
    """
    ref = f"{name}-policy" if "@" not in name and f"{name}-policy" in store.names() else name
    policy = store.resolve(ref)
    manifest = policy.manifest
    if manifest.stage != "ppo" or manifest.kind not in ("adapter", "model"):
        what = _KINDS.get(manifest.stage) if manifest.kind in ("adapter", "model") else None
        policies = [n for n in store.names() if n.endswith("-policy")]
        mend = refs.there_is(policies, name) if policies else "Train one: make ppo"
        raise ModelError(policy.where, f"is {what or f'a version of {manifest.kind}'}, not a policy.", mend)
    if damage := policy.damage():
        raise StoreError(policy.where, f"is damaged ({damage[0]}).", "Make it again, or name another version.")
    base, answerer = _base(store, policy)
    stats, ppo = manifest.stats, dict(manifest.config.get("ppo") or {})
    task_args = manifest.config.get("task_args") or {}
    return Served(
        policy=policy,
        base=base,
        base_answerer=answerer,
        reward=_parent_path(store, policy, "reward"),
        ppo=ppo,
        temperature=float(stats.get("temperature") or 1.0),
        completion_tokens=int(stats.get("response_length") or MOST_TOKENS),
        system=task_args.get("system") if isinstance(task_args.get("system"), str) else None,
    )


def _base(store: Store, policy: Version) -> tuple[tuple[str, str | None], Answerer]:
    if policy.manifest.kind == "adapter":
        source, revision = named_base(policy.path)
    else:
        source, revision = _base_of_whole_model(store, policy)
    parent = next((p for p in policy.manifest.parents if p.role == "base"), None)
    if parent is not None:
        return (source, revision), Answerer(role="base", ref=parent.ref, id=parent.id)
    entry = _model(policy, "base")
    ref = str(entry.get("id", source)) if revision is not None else Path(source).name
    return (source, revision), Answerer(role="base", ref=ref, id=str(revision or entry.get("content") or source))


def _base_of_whole_model(store: Store, policy: Version) -> tuple[str, str | None]:
    """The base of a policy that was trained without LoRA, whose files do not name it."""
    if (path := _parent_path(store, policy, "base")) is not None:
        return str(path), None
    entry = _model(policy, "base")
    if not entry or (Path(str(entry["id"])).is_absolute() and not Path(str(entry["id"])).is_dir()):
        raise ModelError(policy.where, "its base is not in this data directory.", "Make it again: make sft")
    return str(entry["id"]), entry.get("revision")


def _model(policy: Version, role: Literal["base", "reward"]) -> dict[str, Any]:
    return next((m for m in policy.manifest.models if m.get("role") == role), {})


def _parent_path(store: Store, version: Version, role: str) -> Path | None:
    """The directory of a parent, where it is still in the store and the same version."""
    for parent in version.manifest.parents:
        path = refs.version_path(store.home(parent.name), parent.version)
        if parent.role == role and path.is_dir() and Version.open(path).id == parent.id:
            return path
    return None
