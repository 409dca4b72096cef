"""manifest.json: a version's content and origin. Checks its shape; :meth:`Version.verify` checks the files."""

from __future__ import annotations

import dataclasses
import functools
import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pipeline
from pipeline.base.errors import StoreError
from pipeline.base.json_values import parse_json

SCHEMA_VERSION = 1
ERASED = "erased"
"""Governance key of a tombstone without content: when, the manifest's sha256, its replacement, the tags it had."""

_PACKAGES = ("torch", "trl", "transformers", "peft", "accelerate", "datasets", "tokenizers", "pyarrow")

JsonDict = dict[str, Any]


@dataclass(frozen=True)
class FileEntry:
    """One file of a version; ``path`` is relative to the version, with forward slashes."""

    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Parent:
    """A version that this one was made from. Always resolved: never "latest"."""

    name: str
    version: int
    id: str
    role: str

    @property
    def ref(self) -> str:
        return f"{self.name}@v{self.version:06d}"


@dataclass(frozen=True)
class Split:
    """Rows of one split; ``bytes`` is the sum over its files. A split of no rows may have no files."""

    rows: int
    bytes: int
    files: list[FileEntry]


@dataclass(frozen=True)
class Code:
    """The code that ran. ``commit`` is None outside a git checkout."""

    version: str
    commit: str | None = None
    dirty: bool | None = None


@dataclass(frozen=True)
class Manifest:
    """Everything recorded about one version.

    ``splits`` is keyed by ``"train"`` for the default config and ``"votes/train"`` for any other;
    ``files`` lists every file of the version but manifest.json itself and README.md, which may be reworded.
    ``portable`` has a digest of each file that names a place of this machine, taken without that place, which
    changes when the data directory moves (:mod:`pipeline.workflow.relocate`); its sha256 is of when it was
    published.
    """

    name: str
    version: int
    id: str
    kind: str
    stage: str
    created_at: str
    key: str | None = None
    seed: int | None = None
    parents: list[Parent] = field(default_factory=list[Parent])
    config: JsonDict = field(default_factory=dict[str, Any])
    config_hash: str = ""
    code: Code = field(default_factory=lambda: Code(pipeline.__version__))
    models: list[JsonDict] = field(default_factory=list[JsonDict])
    datasets: list[JsonDict] = field(default_factory=list[JsonDict])
    environment: dict[str, str] = field(default_factory=dict[str, str])
    splits: dict[str, Split] = field(default_factory=dict[str, Split])
    files: list[FileEntry] = field(default_factory=list[FileEntry])
    portable: dict[str, str] = field(default_factory=dict[str, str])
    stats: JsonDict = field(default_factory=dict[str, Any])
    governance: JsonDict = field(default_factory=dict[str, Any])
    wall_seconds: float = 0.0
    schema_version: int = SCHEMA_VERSION

    @property
    def ref(self) -> str:
        return f"{self.name}@v{self.version:06d}"

    @property
    def bytes(self) -> int:
        return sum(f.bytes for f in self.files)

    def to_json(self) -> str:
        """The text of manifest.json."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Manifest:
        """Read the text of a manifest.

        Args:
            where: the version's directory, for messages.
        Raises:
            StoreError: the text is damaged, or was written by a newer version of this package.
        """
        try:
            raw = parse_json(text)
        except ValueError as err:
            raise _damaged(where, f"not valid JSON ({err})") from err
        if not isinstance(raw, dict):
            raise _damaged(where, "not a JSON object")
        return _from_dict(cast("JsonDict", raw), where)


def _damaged(where: str, what: str) -> StoreError:
    return StoreError(where, f"manifest.json is damaged: {what}.", "Use another version, or make this one again.")


def _from_dict(raw: JsonDict, where: str) -> Manifest:
    schema = raw.get("schema_version")
    if not isinstance(schema, int):
        raise _damaged(where, "it has no schema_version")
    # Before anything else: a newer schema may have moved every other key.
    if schema > SCHEMA_VERSION:
        what = f"written by a newer version of this package (manifest schema {schema}, known: {SCHEMA_VERSION})."
        raise StoreError(where, what, "Upgrade: pip install -U rlhf-pipeline")
    try:
        values = dict(raw)
        values["parents"] = [_build(Parent, p) for p in _list(raw, "parents")]
        values["files"] = [_build(FileEntry, f) for f in _list(raw, "files")]
        values["splits"] = {
            key: Split(int(s["rows"]), int(s["bytes"]), [_build(FileEntry, f) for f in s["files"]])
            for key, s in raw.get("splits", {}).items()
        }
        if "code" in raw:
            values["code"] = _build(Code, raw["code"])
        manifest = _build(Manifest, values)
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise _damaged(where, f"{type(err).__name__}: {err}") from err
    return manifest


def _list(raw: JsonDict, key: str) -> list[Any]:
    value = raw.get(key, [])
    if not isinstance(value, list):
        raise TypeError(f"{key} is not a list")
    return cast("list[Any]", value)


_SHAPES: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "str | None": (str, type(None)),
    "int | None": (int, type(None)),
    "bool | None": (bool, type(None)),
}


def _build(cls: type[Any], raw: Mapping[str, Any]) -> Any:
    """An instance of a manifest dataclass. Keys it does not know are skipped: an older reader can do without."""
    values: JsonDict = {}
    for f in dataclasses.fields(cls):
        if f.name not in raw:
            continue
        value = raw[f.name]
        shape = _SHAPES.get(str(f.type)) or _container(str(f.type))
        if shape is not None and not isinstance(value, shape):
            raise TypeError(f"{cls.__name__}.{f.name} is {value!r}, not {f.type}")
        values[f.name] = value
    return cls(**values)


def _container(annotation: str) -> type | None:
    if annotation == "JsonDict" or annotation.startswith("dict["):
        return dict
    return list if annotation.startswith("list[") else None


def environment(device: str) -> dict[str, str]:
    """Versions of python and of the packages that decide results, and the device the caller names."""
    return {"python": platform.python_version(), **_installed(), "device": device}


@functools.cache
def _installed() -> dict[str, str]:
    from importlib import metadata

    versions: dict[str, str] = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


@functools.cache
def code_version() -> Code:
    """Package version and, when the package runs from its own git checkout, the commit."""
    home = Path(pipeline.__file__).resolve().parents[1]
    # Installed under site-packages inside somebody's repository, that repository's commit says nothing about us.
    if not (home / ".git").exists():
        return Code(pipeline.__version__)
    commit = _git(home, ["rev-parse", "HEAD"])
    if not commit:
        return Code(pipeline.__version__)
    status = _git(home, ["status", "--porcelain", "--untracked-files=no"])
    return Code(pipeline.__version__, commit, None if status is None else bool(status))


def _git(home: Path, args: Iterable[str]) -> str | None:
    import subprocess

    try:
        done = subprocess.run(
            ["git", "-C", str(home), *args], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
