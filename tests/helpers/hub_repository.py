"""A repository of the Hub double: commits of files, a branch, tags, and the sha256 of what is kept as LFS."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n*.parquet filter=lfs diff=lfs merge=lfs -text\n"
LFS_SUFFIXES = (".safetensors", ".parquet")
COMMITTER = "Hub <hub@localhost> 0 +0000"
Files = Mapping[str, bytes]


class Refused(Exception):
    """An answer other than success: the status, and what the Hub says."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        self.status, self.message, self.code = status, message, code
        super().__init__(message)


@dataclass
class Repository:
    """A repository that clients write to. Its first commit holds ``.gitattributes``, as the Hub's does."""

    private: bool = False
    commits: list[tuple[str, str, Files]] = field(default_factory=list)
    """(id, title, files), oldest first; the last one is the branch ``main``."""
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.add("initial commit", {".gitattributes": ATTRIBUTES})

    @property
    def head(self) -> str:
        return self.commits[-1][0]

    def add(self, title: str, files: Files) -> str:
        """A commit of these files alone; returns its id, which is git's."""
        blobs = {name: blob_id(pointer(data) if is_lfs(name, len(data)) else data) for name, data in files.items()}
        parent = f"parent {self.head}\n" if self.commits else ""
        people = f"author {COMMITTER}\ncommitter {COMMITTER}\n"
        commit = object_id("commit", f"tree {_tree_id(blobs)}\n{parent}{people}\n{title}".encode())
        self.commits.append((commit, title, dict(files)))
        return commit

    def at(self, revision: str) -> tuple[str, Files] | None:
        wanted = self.head if revision == "main" else self.tags.get(revision, revision)
        return next(((commit, files) for commit, _, files in self.commits if commit == wanted), None)

    def commit(self, lines: Iterable[dict[str, Any]], objects: Mapping[str, bytes]) -> str:
        """Apply the lines of a commit request, all of them or none.

        Raises:
            Refused: 412 where ``main`` is not the parent they name; 400 where an LFS object was never uploaded.
        """
        files, title = dict(self.commits[-1][2]), ""
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                title = value["summary"]
                if value.get("parentCommit", self.head) != self.head:
                    raise Refused(412, "A commit has happened since. Please refresh and try again.")
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if len(objects.get(value["oid"], b"")) != value.get("size", -1):
                    raise Refused(400, f"LFS pointer to a file that does not exist: {value['path']}")
                files[value["path"]] = objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
            else:
                raise Refused(400, f"no such operation: {line['key']}")
        return self.add(title, files)

    def tag(self, name: str, revision: str) -> None:
        """Raises Refused for a tag that is there, or for a revision that is not."""
        at = self.at(revision)
        if at is None:
            raise Refused(404, "Invalid rev id", "RevisionNotFound")
        if name in self.tags:
            raise Refused(409, "Tag reference exists already")
        self.tags[name] = at[0]


def is_lfs(name: str, size: int) -> bool:
    return name.endswith(LFS_SUFFIXES) or size > 10_000_000


def blob_id(data: bytes) -> str:
    """git's id of a blob."""
    return object_id("blob", data)


def object_id(kind: str, content: bytes) -> str:
    """git's id of an object."""
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content).hexdigest()


def _tree_id(blobs: Mapping[str, str]) -> str:
    """git's id of a directory, from the ids of the blobs by their paths in it."""
    below: dict[str, dict[str, str]] = {}
    for path, blob in blobs.items():
        name, _, rest = path.partition("/")
        below.setdefault(name, {})[rest] = blob
    entries: list[tuple[str, bytes]] = []
    for name, inner in below.items():
        is_file = set(inner) == {""}
        mode, its_id = ("100644", inner[""]) if is_file else ("40000", _tree_id(inner))
        # git sorts a directory as if its name ended in a slash
        entries.append((name if is_file else f"{name}/", f"{mode} {name}\0".encode() + bytes.fromhex(its_id)))
    return object_id("tree", b"".join(content for _, content in sorted(entries)))


def pointer(data: bytes) -> bytes:
    """What git itself holds of an LFS object."""
    oid = hashlib.sha256(data).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(data)}\n".encode()


def entry(name: str, data: bytes) -> dict[str, Any]:
    """A file of a tree, as the Hub lists it."""
    if not is_lfs(name, len(data)):
        return {"type": "file", "path": name, "size": len(data), "oid": blob_id(data)}
    lfs = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": len(pointer(data))}
    return {"type": "file", "path": name, "size": len(data), "oid": blob_id(pointer(data)), "lfs": lfs}


_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def card_errors(content: str) -> list[dict[str, str]]:
    """What the Hub refuses in a README's metadata, of what a wrong card of ours could have."""
    import yaml

    front = re.match(r"---\n(.*?)\n---", content, re.DOTALL)
    try:
        card: Any = yaml.safe_load(front[1]) if front else {}
    except yaml.YAMLError as err:
        return [{"message": f"not YAML: {err}"}]
    wrong: list[dict[str, str]] = []
    for key in ("base_model", "datasets"):
        values = card.get(key) or []
        for value in [values] if isinstance(values, str) else values:
            if not _ID.fullmatch(str(value)):
                wrong.append({"message": f'"{key}" with value "{value}" is not valid.'})
    return wrong
