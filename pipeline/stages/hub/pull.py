"""``python -m pipeline pull``: a repository of the Hub as a version, with its lineage or its origin."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.base.cli import as_called
from pipeline.base.errors import ConfigError, DataError, ModelError, StoreError
from pipeline.base.process import say
from pipeline.base.records import digest
from pipeline.sources.hub_repository import Type, hub_errors
from pipeline.store import refs
from pipeline.store.copies import KEY
from pipeline.store.draft import new_manifest
from pipeline.store.manifest import JsonDict, Manifest, Parent
from pipeline.store.store import Draft, Store, Version
from pipeline.store.version import UNLISTED

FORMAT = 1
"""Raised when the same repository gives another version."""
_FETCHED = ("*.safetensors", "*.json", "*.md", "*.jinja", "*.txt", "*.model", "*.parquet")
"""What is downloaded: no code, nothing that is unpickled."""


@dataclass(frozen=True)
class Source:
    """A repository at a commit; ``asked`` is the revision that was named."""

    repo: str
    type: Type
    asked: str | None
    commit: str

    @property
    def name(self) -> str:
        return f"datasets/{self.repo}" if self.type == "dataset" else self.repo


def main(argv: list[str] | None = None) -> int:
    """Make the version, unless it is there.

    Raises:
        PipelineError: there is no such repository, it is not what it says, or it holds nothing that is read.
    """
    args = _parser().parse_args(argv)
    store = Store(args.root)
    source = find(args.repo)
    name = args.as_ or source.repo.rpartition("/")[2]
    refs.check_name(name)
    key = digest(["pull", source.type, source.repo, source.commit, FORMAT])
    if (made := store.find(name, key)) is not None:
        say("pull", f"up to date: {made.ref}")
        return 0
    directory = download(source)
    ours = isinstance(_read(directory / "manifest.json").get("hub"), dict)
    version = (own if ours else foreign)(store, source, directory, name, key)
    say("pull", f"wrote {version.ref}: {version.path}")
    for line in store.lineage(version).draw():
        say("pull", f"  {line}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=as_called("pipeline pull"),
        description="Bring an adapter, a model or a dataset of the Hub into the data directory, as a version.",
    )
    repo = "org/name, datasets/org/name, each with @revision if need be"
    parser.add_argument("repo", metavar="ORG/NAME[@REVISION]", help=repo)
    parser.add_argument("--as", dest="as_", metavar="NAME", help="the version's name (default: the repository's)")
    parser.add_argument("--root", default="data", help="the data directory (default: data)")
    return parser


def find(text: str) -> Source:
    """The repository that ``text`` names, at the commit that its revision is now.

    Raises:
        ConfigError: it names none, or a model and a dataset have the same name.
        StoreError: there is none, or the Hub refuses or does not answer.
    """
    api: Any = importlib.import_module("huggingface_hub").HfApi()
    errors: Any = importlib.import_module("huggingface_hub.errors")
    place, _, revision = text.partition("@")
    kind, repo = ("dataset", place.removeprefix("datasets/")) if place.startswith("datasets/") else ("", place)
    kind, repo = ("model", repo.removeprefix("models/")) if repo.startswith("models/") else (kind, repo)
    if repo.count("/") > 1 or not repo:
        mend = "Write org/name, or datasets/org/name."
        raise ConfigError(f'"{text}"', "is not the name of a repository.", mend)
    infos: dict[Type, Any] = {}
    last: Exception | None = None
    with hub_errors(place):
        for type_ in ("model", "dataset"):
            if kind in ("", type_):
                try:
                    infos[type_] = api.repo_info(repo, repo_type=type_, revision=revision or None, timeout=30)
                except errors.GatedRepoError:
                    raise
                except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as err:
                    # A revision that is missing says more than a repository that is.
                    last = last if isinstance(last, errors.RevisionNotFoundError) else err
        if not infos and last is not None:
            raise last
    if len(infos) > 1:
        raise ConfigError(
            f'"{text}"', "is both a model and a dataset.", f"Write models/{text} or datasets/{text}."
        )
    type_, info = next(iter(infos.items()))
    return Source(repo, type_, revision or None, info.sha)


def download(source: Source) -> Path:
    """The files of the commit in the Hub's cache, where an interrupted download goes on.

    Raises:
        StoreError: the Hub refuses or does not answer.
    """
    hf: Any = importlib.import_module("huggingface_hub")
    with hub_errors(source.name):
        return Path(
            hf.snapshot_download(
                source.repo, repo_type=source.type, revision=source.commit, allow_patterns=list(_FETCHED)
            )
        )


def _read(path: Path) -> JsonDict:
    """The object in a JSON file; empty where there is none."""
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return raw if isinstance(raw, dict) else {}


def own(store: Store, source: Source, directory: Path, name: str, key: str) -> Version:
    """A version of what this package published: the same id, the same parents, its own origin.

    Raises:
        StoreError: the repository does not hold what its manifest says.
    """
    published = Version.open(directory)
    _check_paths(source, published.manifest)
    if problems := published.damage():
        what = problems[0].removeprefix(f"{published.where}: ")
        raise StoreError(source.name, f"is not what was published: {what}.", "Name a tag: @v000001")
    origin = published.manifest
    manifest = dataclasses.replace(
        origin,
        name=name,
        version=0,
        key=key,
        parents=_here(store, origin.parents),
        governance={**origin.governance, **_origin(source, origin, _read(directory / "manifest.json")["hub"])},
    )
    draft = Draft(store.home(name), manifest)
    draft.environment, draft.expected_id = origin.environment, origin.id
    with draft:
        draft.models, draft.datasets, draft.stats = origin.models, origin.datasets, origin.stats
        shards = [f.path for split in origin.splits.values() for f in split.files]
        plain = draft.path / ".pulled"  # of links, which they are in the Hub's cache, a version takes none
        _copy(directory, plain, shards)
        for split in origin.splits:
            config, _, split_name = split.rpartition("/")
            draft.write_rows(split_name, [], config=config or "default", carry=Version(plain, origin))
        shutil.rmtree(plain, ignore_errors=True)
        _copy(directory, draft.path, (f.path for f in origin.files if f.path not in shards))
        _copy(directory, draft.path, ["README.md"])
    return draft.version


def _check_paths(source: Source, manifest: Manifest) -> None:
    """Raises StoreError where a manifest, which anybody may have written, names files elsewhere."""
    shards = [f for split in manifest.splits.values() for f in split.files]
    words = [word for key in manifest.splits for word in key.split("/")]
    paths = [PurePosixPath(f.path) for f in (*manifest.files, *shards)]
    if any(p.is_absolute() or ".." in p.parts or str(p) in UNLISTED for p in paths) or not all(
        re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.]*", word) for word in words
    ):
        raise StoreError(source.name, "its manifest.json names files that no version holds.", "It is not ours.")


def _origin(source: Source, manifest: Manifest | None, hub: JsonDict) -> JsonDict:
    """What governance says of a version that was pulled. A copy on the Hub it is for ``data forget``, too."""
    pulled: JsonDict = {"repo": source.name, "commit": source.commit}
    if manifest is not None:
        pulled |= {"version": manifest.ref, "made": manifest.created_at, "parents": hub.get("parents", {})}
    return {KEY: [{"repo": source.name, "revision": source.commit}], "pulled": pulled}


def _here(store: Store, parents: list[Parent]) -> list[Parent]:
    """The parents, as versions of this store where it has their content."""
    by_id: dict[str, list[Version]] = {}
    for name in store.names():
        for version in store.versions(name):
            by_id.setdefault(version.id, []).append(version)
    present: list[Parent] = []
    for parent in parents:
        # Of several the one that has the same name, and the newest
        same = sorted(by_id.get(parent.id, []), key=lambda v: (v.name == parent.name, v.number))
        present.append(Parent(same[-1].name, same[-1].number, parent.id, parent.role) if same else parent)
    return present


def foreign(store: Store, source: Source, directory: Path, name: str, key: str) -> Version:
    """A version of somebody else's repository; its parents are that repository and commit.

    Raises:
        ModelError: a model without safetensors weights.
        DataError: a dataset without rows.
    """
    files = sorted(p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file())
    adapter = "adapter_config.json" in files
    kind = "dataset" if source.type == "dataset" else "adapter" if adapter else "model"
    manifest = new_manifest(name, kind, "pull", key, [], {}, None, _license(directory))
    manifest = dataclasses.replace(manifest, governance={**manifest.governance, **_origin(source, None, {})})
    with Draft(store.home(name), manifest) as draft:
        if source.type == "dataset":
            draft.datasets = [{"dataset": source.repo, "revision": source.asked, "commit": source.commit}]
            _write_tables(source, draft)
        else:
            if not any(f.endswith(".safetensors") for f in files):
                mend = "Its weights would have to be unpickled. Choose one that has them."
                raise ModelError(source.name, "has no safetensors weights.", mend)
            draft.models = [
                {"role": "source", "id": source.repo, "revision": source.asked, "commit": source.commit}
            ]
            _copy(directory, draft.path, (f for f in files if f not in UNLISTED and not f.startswith(".")))
        _copy(directory, draft.path, ["README.md"] if "README.md" in files else [])
    return draft.version


def _license(directory: Path) -> JsonDict:
    """The licence that the card names."""
    from huggingface_hub import RepoCard

    path = directory / "README.md"
    try:
        card = RepoCard(path.read_text(encoding="utf-8"), ignore_metadata_errors=True) if path.is_file() else None
    except ValueError:
        card = None
    license = getattr(card.data, "license", None) if card is not None else None
    return {"license": license} if isinstance(license, str) else {}


def _write_tables(source: Source, draft: Draft) -> None:
    datasets: Any = importlib.import_module("datasets")
    configs = datasets.get_dataset_config_names(source.repo, revision=source.commit)
    for config in configs:
        named = _word(config) if config != "default" and len(configs) > 1 else "default"
        for split, table in datasets.load_dataset(source.repo, config, revision=source.commit).items():
            draft.write_rows(_word(split), (dict(row) for row in table), config=named)
    if not configs:
        raise DataError(source.name, "holds no rows.", "Choose another one.")


def _word(name: str) -> str:
    """As a config or a split is called in a version: letters, digits and _."""
    word = "".join(c if c.isalnum() and c.isascii() else "_" for c in name)
    return f"{word}_" if word == "data" else word


def _copy(source: Path, target: Path, files: Iterable[str]) -> None:
    for file in files:
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / file, target / file)
