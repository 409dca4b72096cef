"""Read datasets of the Hugging Face Hub at one commit: resolve the revision, list its files, download them.

Of models it resolves the revision alone; transformers downloads them.

The commit comes first, and only its files are read: offline, ``datasets.load_dataset`` gives what this machine
prepared last, whatever revision is asked for. Which files are rows of what is :mod:`pipeline.sources.hub_files`'.
"""

from __future__ import annotations

import functools
import glob
import importlib
import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base.errors import DataError, first_line

log = logging.getLogger(__name__)

COMMIT = re.compile(r"[0-9a-f]{40}")
REPOSITORY = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?", re.ASCII)
_LOCAL = "Or download it elsewhere and give the path of a local file or directory instead."


@dataclass(frozen=True)
class DatasetAt:
    """A dataset at a commit.

    Attributes:
        files: names of all that the commit holds, also of those that are not on this machine.
        path: its directory in the cache, which holds README.md, if there is one, and what was fetched.
    """

    dataset: str
    commit: str
    files: tuple[str, ...]
    path: Path

    @property
    def name(self) -> str:
        return f"{self.dataset}@{self.commit[:10]}"


def dataset_at(dataset: str, revision: str | None, where: str) -> DatasetAt:
    """``dataset`` at the commit that ``revision`` (a branch, tag or commit; by default ``main``) is now.

    In one process it stays that commit, so that no stage reads half of one and half of another. Where the Hub is
    not asked, or does not answer, it is the commit that the cache knows by that name.

    Raises:
        DataError: no such dataset or revision, here or there; nobody may read it.
    """
    commit, files = _looked_up(dataset, revision, where)
    path = _cache(dataset) / "snapshots" / commit
    if files is None:
        files = tuple(sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()))
        _require_all_shards(files, dataset, commit, where)
    at = DatasetAt(dataset, commit, files, path)
    if "README.md" in files:
        fetch(at, ["README.md"], where)
    return at


def commit_of(dataset: str, revision: str | None) -> str | None:
    """The commit of :func:`dataset_at`; None where it cannot be resolved, and reading will fail."""
    if revision is not None and COMMIT.fullmatch(revision):
        return revision
    try:
        return _looked_up(dataset, revision, "")[0]
    except DataError:
        return None


def model_commit(source: str, revision: str | None) -> str | None:
    """The commit that ``revision`` of the model ``source`` is now, to be passed to everything that loads it.

    A commit that is asked for after loading may be another one than was loaded, and one model could be put
    together of two. None for a directory, and where it cannot be found out: then loading will fail.
    """
    if revision is not None and COMMIT.fullmatch(revision):
        return revision
    if not REPOSITORY.fullmatch(source) or Path(source).exists():
        return None
    try:
        return _ask(source, revision, "models")[0]
    except Exception:  # whatever it is, it is about their server, and loading says it with its own advice
        return None


def cached_commit(repo: str, revision: str | None, kind: str = "datasets") -> str | None:
    """The commit that this machine's cache knows a revision of ``repo`` by.

    Args:
        kind: ``datasets`` or ``models``.
    """
    home, revision = _cache(repo, kind), revision or "main"
    if COMMIT.fullmatch(revision):
        return revision if (home / "snapshots" / revision).is_dir() else None
    ref = home / "refs" / revision
    return ref.read_text(encoding="utf-8").strip() if ref.is_file() else None


def fetch(at: DatasetAt, files: list[str], where: str) -> list[Path]:
    """The files on this machine, downloaded where they are not yet.

    Raises:
        DataError: one of them is not here and cannot be fetched.
    """
    paths = [at.path / name for name in files]
    if all(path.is_file() for path in paths):
        return paths
    hf: Any = importlib.import_module("huggingface_hub")
    try:
        # By patterns, as one of them can be many; [ and ] in a name are no pattern.
        hf.snapshot_download(
            at.dataset, repo_type="dataset", revision=at.commit, allow_patterns=[glob.escape(f) for f in files]
        )
    except Exception as err:  # whatever it is, it is about their server
        errors: Any = importlib.import_module("huggingface_hub.errors")
        if not isinstance(err, errors.LocalEntryNotFoundError):
            raise _refusal(at.dataset, at.commit, err, where) from err
    missing = [path for path in paths if not path.is_file()]
    if missing:
        fact = f"{at.name}: {len(missing)} of {len(files)} files are not in this machine's cache"
        raise DataError(where, f"{fact}, such as {missing[0].name}.", "Unset HF_HUB_OFFLINE once to fetch them.")
    return paths


def _looked_up(dataset: str, revision: str | None, where: str) -> tuple[str, tuple[str, ...] | None]:
    try:
        return _ask(dataset, revision)
    except Exception as err:  # whatever it is, it is about their server
        raise _refusal(dataset, revision, err, where) from err


@functools.cache
def _ask(repo: str, revision: str | None, kind: str = "datasets") -> tuple[str, tuple[str, ...] | None]:
    """The commit, and the names of its files where they are known. Kept: a branch may move while a stage reads."""
    hf: Any = importlib.import_module("huggingface_hub")
    errors: Any = importlib.import_module("huggingface_hub.errors")
    known = cached_commit(repo, revision, kind)
    if known is not None and known == revision and (kept := _listing(repo, known, kind)):
        return known, kept  # a commit never changes
    try:
        info = hf.HfApi().repo_info(repo, repo_type=kind.removesuffix("s"), revision=revision, timeout=20)
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError):
        raise
    except Exception as err:
        if known is None:
            raise
        if not isinstance(err, errors.OfflineModeIsEnabled):
            log.warning("%s: the Hub does not answer; %s is read, which the cache has.", repo, known[:10])
        return known, _listing(repo, known, kind)
    files = tuple(sorted(f.rfilename for f in info.siblings))
    _remember(repo, revision or "main", info.sha, files, kind)
    return info.sha, files


def _constants() -> Any:
    return importlib.import_module("huggingface_hub.constants")


def _cache(repo: str, kind: str = "datasets") -> Path:
    return Path(_constants().HF_HUB_CACHE) / f"{kind}--{repo.replace('/', '--')}"


def _listing_file(repo: str, commit: str, kind: str) -> Path:
    hf: Any = importlib.import_module("huggingface_hub")
    assets, folder = _constants().HF_ASSETS_CACHE, "files" if kind == "datasets" else f"files-{kind}"
    where = hf.cached_assets_path("rlhf-pipeline", namespace=repo, subfolder=folder, assets_dir=assets)
    return Path(where) / f"{commit}.json"


def _listing(repo: str, commit: str, kind: str = "datasets") -> tuple[str, ...] | None:
    """What the commit holds, as it was seen when the Hub last answered: a cache may hold a part of it."""
    file = _listing_file(repo, commit, kind)
    return tuple(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None


def _remember(repo: str, revision: str, commit: str, files: tuple[str, ...], kind: str) -> None:
    """Keep the listing, and the revision's commit as the cache of the Hub's own client has it."""
    try:
        _listing_file(repo, commit, kind).write_text(json.dumps(files), encoding="utf-8")
        (_cache(repo, kind) / "snapshots" / commit).mkdir(parents=True, exist_ok=True)
        if not COMMIT.fullmatch(revision):
            ref = _cache(repo, kind) / "refs" / revision
            ref.parent.mkdir(parents=True, exist_ok=True)
            ref.write_text(commit, encoding="utf-8")
    except OSError as err:
        log.warning("%s: the cache cannot be written (%s).", repo, err)


def _require_all_shards(files: tuple[str, ...], dataset: str, commit: str, where: str) -> None:
    """Raises DataError where one of ``...-00000-of-00002...`` is not there: the rest would pass for all rows."""
    shards: dict[tuple[str, str], set[str]] = {}
    for name in files:
        if found := re.fullmatch(r"(.+)-(\d{5})-of-(\d{5})\..+", name):
            shards.setdefault((found[1], found[3]), set()).add(found[2])
    for (name, count), there in shards.items():
        if len(there) < int(count):
            fact = f"{dataset}@{commit[:10]}: {len(there)} of the {int(count)} files of {name} are in the cache."
            raise DataError(where, fact, "Unset HF_HUB_OFFLINE once to fetch the others.")


def _refusal(dataset: str, revision: str | None, err: Exception, where: str) -> DataError:
    errors: Any = importlib.import_module("huggingface_hub.errors")
    asked = f'revision "{revision or "main"}" of "{dataset}"'
    if isinstance(err, errors.GatedRepoError):
        endpoint = _constants().ENDPOINT
        mend = f"Accept them at {endpoint}/datasets/{dataset} and set HF_TOKEN of that account. {_LOCAL}"
        return DataError(
            where, f'"{dataset}" is gated: its terms have to be accepted before it may be read.', mend
        )
    if isinstance(err, errors.RevisionNotFoundError):
        return DataError(where, f"there is no {asked} on the Hub.", _revisions(dataset))
    if isinstance(err, errors.RepositoryNotFoundError | errors.HFValidationError):
        fact = f'no dataset "{dataset}" on the Hub that you may read, and no such local path.'
        return DataError(where, fact, f"A private one needs HF_TOKEN. {_LOCAL}")
    if isinstance(err, errors.OfflineModeIsEnabled | errors.LocalEntryNotFoundError):
        refs = _cache(dataset) / "refs"
        there = sorted(p.relative_to(refs).as_posix() for p in refs.rglob("*") if p.is_file())
        fact = f"{asked} is not in this machine's cache, and the Hub is not asked (HF_HUB_OFFLINE)."
        cached = f"The cache has {', '.join(there)} of it." if there else "The cache has nothing of it."
        return DataError(where, f"{fact} {cached}", f"Unset HF_HUB_OFFLINE once to fetch it. {_LOCAL}")
    fact = f'cannot reach the Hub for "{dataset}", and there is no such local path ({first_line(err)}).'
    return DataError(where, fact, f"Check the network, HF_ENDPOINT and HF_HUB_OFFLINE. {_LOCAL}")


def _revisions(dataset: str) -> str:
    hf: Any = importlib.import_module("huggingface_hub")
    try:
        refs = hf.HfApi().list_repo_refs(dataset, repo_type="dataset")
    except Exception:
        return "Check the spelling of its branches and tags."
    return f"It has: {', '.join(r.name for r in (*refs.branches, *refs.tags))[:200]}"
