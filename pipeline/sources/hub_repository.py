"""One repository of the Hub: its head, tags and files; commits and tags; the Hub's refusals as one-line errors."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.base.errors import PipelineError, StoreError, first_line
from pipeline.base.files import sha256_file

Type = Literal["model", "dataset"]
Files = Mapping[str, Path | bytes]
"""What a repository holds, by path in it: a file of this machine, or its bytes."""

OWN = "rlhf-pipeline: "
"""How the title of each commit of ours begins: a head with another title is somebody else's."""
NOT_COMPARED = frozenset({"README.md", ".gitattributes"})
"""A card may be reworded, here and on the Hub's page; the Hub writes the other one itself."""


@dataclass(frozen=True)
class Head:
    """The branch ``main`` of a repository, and its tags with the commit of each."""

    commit: str
    title: str
    private: bool
    tags: Mapping[str, str]


class Repository:
    """A repository as the Hub's own client reaches it; ``HF_ENDPOINT`` and ``HF_TOKEN`` are that client's."""

    def __init__(self, repo: str, type: Type) -> None:
        self.repo, self.type = repo, type
        hf: Any = importlib.import_module("huggingface_hub")
        self._api: Any = hf.HfApi()

    @property
    def name(self) -> str:
        """As the Hub spells it in addresses and links."""
        return f"datasets/{self.repo}" if self.type == "dataset" else self.repo

    def head(self) -> Head | None:
        """Where the repository is now; None where there is none that this token may see.

        Raises:
            StoreError: the Hub refuses or does not answer.
        """
        errors: Any = importlib.import_module("huggingface_hub.errors")
        what: dict[str, Any] = {"repo_id": self.repo, "repo_type": self.type}
        with hub_errors(self.name):
            try:
                info = self._api.repo_info(**what, timeout=30)
            except errors.GatedRepoError:
                raise
            except errors.RepositoryNotFoundError:
                return None
            refs = self._api.list_repo_refs(**what)
            commits = self._api.list_repo_commits(**what, revision=info.sha)
        title = commits[0].title if commits else ""
        tags = {tag.name: tag.target_commit for tag in refs.tags}
        return Head(info.sha, title, bool(info.private), tags)

    def tree(self, commit: str) -> dict[str, tuple[int, str, str | None]]:
        """The files of a commit: size, git's id of the blob, and the sha256 where the Hub keeps it as LFS."""
        with hub_errors(self.name):
            entries = list(
                self._api.list_repo_tree(self.repo, repo_type=self.type, revision=commit, recursive=True)
            )
        files = [e for e in entries if hasattr(e, "blob_id")]
        return {e.path: (e.size, e.blob_id, e.lfs.sha256 if e.lfs else None) for e in files}

    def create(self, private: bool) -> None:
        """Make the repository, unless it is there."""
        with hub_errors(self.name):
            self._api.create_repo(self.repo, repo_type=self.type, private=private, exist_ok=True)

    def commit(self, files: Files, title: str, parent: str) -> str:
        """Make ``files`` all that the repository holds, in one commit on ``parent``; returns the commit's id.

        Raises:
            StoreError: the head is no longer ``parent``; the Hub refuses or does not answer.
        """
        hf: Any = importlib.import_module("huggingface_hub")
        gone = [path for path in self.tree(parent) if path not in files and path not in NOT_COMPARED]
        operations: list[Any] = [hf.CommitOperationAdd(path, content) for path, content in files.items()]
        operations += [hf.CommitOperationDelete(path) for path in gone]
        with hub_errors(self.name):
            done = self._api.create_commit(
                self.repo, operations, commit_message=title, repo_type=self.type, parent_commit=parent
            )
        return done.oid

    def tag(self, name: str, commit: str) -> None:
        """Name ``commit`` for good."""
        with hub_errors(self.name):
            self._api.create_tag(self.repo, tag=name, revision=commit, repo_type=self.type)

    def make_private(self) -> None:
        """Let nobody else see it."""
        with hub_errors(self.name):
            self._api.update_repo_settings(self.repo, repo_type=self.type, private=True)

    def delete_tag(self, name: str) -> None:
        """Take a name off a commit; the commit stays."""
        with hub_errors(self.name):
            self._api.delete_tag(self.repo, tag=name, repo_type=self.type)

    def delete(self) -> None:
        """Delete the repository with all that it holds."""
        with hub_errors(self.name):
            self._api.delete_repo(self.repo, repo_type=self.type, missing_ok=True)


def is_same(files: Files, tree: Mapping[str, tuple[int, str, str | None]]) -> bool:
    """Whether a commit holds these very files, cards apart."""
    return not difference(files, tree)


def difference(files: Files, tree: Mapping[str, tuple[int, str, str | None]]) -> list[str]:
    """The paths that differ or are on one side alone, cards apart."""
    paths = sorted((set(files) | set(tree)) - NOT_COMPARED)
    return [p for p in paths if p not in files or p not in tree or not _equal(files[p], tree[p])]


def _equal(content: Path | bytes, there: tuple[int, str, str | None]) -> bool:
    size, blob, sha256 = there
    if size != size_of(content):
        return False
    if sha256 is not None:
        own = sha256_file(content) if isinstance(content, Path) else hashlib.sha256(content).hexdigest()
        return own == sha256
    data = content.read_bytes() if isinstance(content, Path) else content
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == blob


def size_of(content: Path | bytes) -> int:
    """In bytes."""
    return content.stat().st_size if isinstance(content, Path) else len(content)


@contextmanager
def hub_errors(where: str) -> Generator[None]:
    """Turn what the Hub's client raises into one line.

    Raises:
        StoreError: instead of any failure of the Hub, the network or the token.
    """
    try:
        yield
    except (PipelineError, TypeError, AttributeError, LookupError, AssertionError):  # bugs keep their traceback
        raise
    except Exception as err:  # the client raises many kinds, of three libraries
        raise _refusal(where, err) from err


def _refusal(where: str, err: Exception) -> StoreError:
    errors: Any = importlib.import_module("huggingface_hub.errors")
    endpoint = importlib.import_module("huggingface_hub.constants").ENDPOINT
    again = "Run the same command again: it goes on where it was."
    chain = _causes(err)
    if any(isinstance(e, errors.OfflineModeIsEnabled) for e in chain):
        return StoreError(where, "the Hub is not asked (HF_HUB_OFFLINE).", "Unset it.")
    if any(isinstance(e, errors.GatedRepoError) for e in chain):
        mend = f"Accept its terms at {endpoint}/{where} with the account whose token this is."
        return StoreError(where, "is gated.", mend)
    status = next((s for e in chain if (s := _status(e)) is not None), None)
    token = "Set HF_TOKEN to one that may write there, or run: hf auth login"
    if status == 401 and any(isinstance(e, errors.RepositoryNotFoundError) for e in chain):
        return StoreError(where, "there is no such repository, or it is private and no token is set (401).", token)
    if status == 401:
        return StoreError(where, f"{endpoint} does not accept the token, or there is none (401).", token)
    if status == 403:
        return StoreError(where, "this token may not do that (403).", token)
    if any(isinstance(e, errors.RevisionNotFoundError) for e in chain):
        return StoreError(where, "has no such revision (404).", f"See {endpoint}/{where}")
    if status == 404:
        mend = f"Check the spelling; a private one needs HF_TOKEN. Asked: {endpoint}"
        return StoreError(where, "there is no such repository (404).", mend)
    if status in (409, 412):
        mend = "See what came, then run the same command again."
        return StoreError(where, f"somebody else has written to it meanwhile ({status}).", mend)
    if status is not None:
        return StoreError(where, f"{endpoint} answers {status} ({_answer(chain)}).", again)
    if isinstance(err, ValueError):  # of the card's metadata, or a malformed answer
        return StoreError(where, f"{' '.join(str(err).split())[:300].rstrip('.')}.", "")
    mend = f"Check the network and HF_ENDPOINT. {again}"
    return StoreError(where, f"{endpoint} cannot be reached ({first_line(chain[-1])}).", mend)


def _causes(err: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while err is not None and err not in chain:
        chain.append(err)
        err = err.__cause__ or err.__context__
    return chain


def _status(err: BaseException) -> int | None:
    response = getattr(err, "response", None)
    return getattr(response, "status_code", None)


def _answer(chain: list[BaseException]) -> str:
    message = next((m for e in chain if (m := getattr(e, "server_message", None))), None)
    return str(message).splitlines()[0][:120] if message else first_line(chain[0])
