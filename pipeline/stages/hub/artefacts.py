"""Plan a publication: which versions go, each as a repository of its own, and what refers to what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.base.errors import ConfigError, ModelError, StoreError
from pipeline.governance.consent import consent_basis
from pipeline.sources.hub import COMMIT, model_commit
from pipeline.sources.hub_repository import Type
from pipeline.stages.merge import merged_version
from pipeline.store import refs
from pipeline.store.manifest import Parent
from pipeline.store.model_card import Kind
from pipeline.store.store import Store, Version

DATASETS = ("prompts", "preferences")
"""Kinds of versions that are published as datasets."""
_GO_TOO = ("base", "reward", "policy", *DATASETS)
"""Roles of a model's parents that are published with it; of ``reward_1`` the part before the number."""


@dataclass(frozen=True)
class Base:
    """The base of an adapter as its config names it on the Hub; ``commit`` is None until it is known."""

    repo: str
    commit: str | None


@dataclass(frozen=True)
class Artefact:
    """One repository to be: a version, its name there, and the artefacts that its files refer to, by role."""

    version: Version
    repo: str
    refers: dict[str, Artefact] = field(default_factory=dict[str, "Artefact"])
    hub_base: Base | None = None
    """The base, where that is on the Hub already."""
    answers: list[str] = field(default_factory=list[str], compare=False)
    """Lines of its card: who answers for it."""

    @property
    def type(self) -> Type:
        return "dataset" if self.version.manifest.kind in DATASETS else "model"

    @property
    def is_adapter(self) -> bool:
        return self.version.manifest.kind == "adapter"

    @property
    def card(self) -> Kind:
        """Which model card it has."""
        manifest = self.version.manifest
        stage = manifest.parents[0].role if manifest.stage == "merge" else manifest.stage
        if stage not in ("policy", "ppo", "reward"):
            return "base"
        if stage == "reward":
            return "reward" if self.is_adapter else "merged reward"
        return "policy" if self.is_adapter else "merged policy"

    @property
    def scores(self) -> bool:
        return self.card in ("reward", "merged reward")

    @property
    def tag(self) -> str:
        return refs.spell(self.version.number)


class Plan:
    """The artefacts of one publication, each after those that it refers to.

    Args:
        base: where a base that is a directory of this machine is on the Hub, ``org/name`` or with ``@revision``.
        basis: why rows of people who agreed to nothing may leave.
        check_consent: whether to refuse rows without consent and basis; not where the gate does.
    Attributes:
        without_consent: on what basis rows of people who agreed to nothing go, by their version.
        personal_data: finds by type, of each set of rows, by its version.
    """

    def __init__(
        self,
        store: Store,
        repo: str,
        base: str | None = None,
        basis: str | None = None,
        check_consent: bool = True,
    ) -> None:
        self.store, self.repo, self.basis, self.check_consent = store, repo, basis, check_consent
        self.artefacts: list[Artefact] = []
        self.left_out: list[str] = []
        self.without_consent: dict[str, str] = {}
        self.personal_data: Mapping[str, Mapping[str, int]] = {}
        self._base = base
        self._names: dict[str, str] = {}
        self._whose = ""

    def add_all(self, version: Version) -> list[Artefact]:
        """Add a version, or what a record of readers names: the shared policy, and each reader's as NAME-READER.

        Raises:
            PipelineError: see :meth:`add`.
        """
        if version.manifest.stage != "readers":
            return [self.add(version)]
        policies = {p.role.partition("-")[2]: p for p in version.manifest.parents if p.role.startswith("policy")}
        added: list[Artefact] = []
        for reader, parent in policies.items():
            self._whose = f"-{reader}" if reader else ""
            added.append(self.add(self.store.resolve(parent.ref), self._whose))
        return added

    def add(self, version: Version, suffix: str = "") -> Artefact:
        """Add a version and what it refers to; the one that is there already where it was added before.

        Raises:
            StoreError: it is damaged, or its base is gone.
            ModelError: its base is a directory of this machine, and nobody says where it is on the Hub.
            DataError: rows of people who did not agree to leave.
        """
        if (made := self._of(version)) is not None:
            return made
        _check_kind(version)
        repo = self._names[version.ref] = self.repo + suffix
        if damage := version.damage():
            raise StoreError(version.where, f"is damaged ({damage[0]}).", "Make it again.")
        if version.manifest.kind in DATASETS:
            splits = {key.rpartition("/")[2] for key in version.splits}
            for split in sorted(splits) if version.manifest.kind == "preferences" and self.check_consent else ():
                if (basis := consent_basis(self.store, version, split, self.basis)) is not None:
                    self.without_consent[version.ref] = basis
            return self._append(Artefact(version, repo))
        refers = {p.role: a for p in version.manifest.parents if (a := self._parent(version, p)) is not None}
        artefact = Artefact(version, repo, refers, None if "base" in refers else self._hub_base(version))
        self._append(artefact)
        if artefact.card == "reward":
            merged = merged_version(self.store, f"{version.name}@{artefact.tag}")
            if merged.ref not in self._names:
                self.add(merged, f"{suffix}-merged")
        return artefact

    def _append(self, artefact: Artefact) -> Artefact:
        self.artefacts.append(artefact)
        return artefact

    def _of(self, version: Version) -> Artefact | None:
        return next((a for a in self.artefacts if a.version.ref == version.ref), None)

    def _parent(self, version: Version, parent: Parent) -> Artefact | None:
        """The artefact of a parent; None for one that does not go, or cannot."""
        if parent.role.partition("_")[0] not in _GO_TOO or self._is_being_added(parent):
            return None
        try:
            there = self.store.resolve(parent.ref)
            if there.id != parent.id:
                raise StoreError(there.where, "is not the version of that number that this was made from.")
        except StoreError as err:
            if parent.role == "base" and version.manifest.kind == "adapter":
                raise
            self.left_out.append(f"{parent.role} {parent.ref}: {err.what}")
            return None
        if parent.role.startswith("reward_") and there.manifest.kind != "adapter":
            return None
        return self.add(there, f"{self._whose}-{parent.role.replace('_', '-')}")

    def _is_being_added(self, parent: Parent) -> bool:
        """Whether it is on its way into the plan, and so refers to this one."""
        return parent.ref in self._names and all(a.version.ref != parent.ref for a in self.artefacts)

    def _hub_base(self, version: Version) -> Base | None:
        """The base of a model whose base is no version: on the Hub, at a commit.

        Raises:
            ModelError: it is a directory of this machine and ``base`` does not say where else.
        """
        named = next((m for m in version.manifest.models if m.get("role") in ("base", "pretrained")), None)
        adapter = version.manifest.kind == "adapter"
        if named is None or (not adapter and Path(str(named["id"])).exists() and self._base is None):
            return None
        source, revision = str(named["id"]), named.get("commit") or named.get("revision")
        if Path(source).exists() or self._base is not None:
            if self._base is None:
                fact = f"its base is {source}, a directory of this machine."
                raise ModelError(version.where, fact, "Say where it is on the Hub:  --base org/name@revision")
            source, _, revision = self._base.partition("@")
        if revision is None or not COMMIT.fullmatch(revision):
            revision = model_commit(source, revision or None)
        return Base(source, revision)


def check_repo(repo: str) -> str:
    """The repository's name.

    Raises:
        ConfigError: it is not one.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
        # The longest suffix that is put behind it.
        validate_repo_id(f"{repo}-reward-merged")
        problem = None if repo.count("/") == 1 else "it has one slash"
    except HFValidationError as err:
        problem = str(err).partition(":")[0].rstrip(".")
    if problem is not None:
        raise ConfigError(f'"{repo}"', f"is not the name of a repository ({problem}).", "Write org/name.")
    return repo


def _check_kind(version: Version) -> None:
    if version.manifest.kind not in ("adapter", "model", *DATASETS):
        mend = "Name a policy, a reward model, a base, preferences or prompts."
        raise StoreError(version.where, f"is a version of {version.manifest.kind}, which is not published.", mend)
    if version.path.parent.name != "versions":
        raise StoreError(version.where, "is not in a data directory.", "Name a version: demo-policy@v1")
    if version.manifest.stage == "pull":
        pulled = version.manifest.governance.get("pulled", {})
        raise StoreError(version.where, f"is not ours: it came from {pulled.get('repo')}.", "Refer to it there.")
