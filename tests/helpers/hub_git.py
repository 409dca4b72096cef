"""The double's repositories for ``git clone``: git's smart HTTP protocol, by git's own upload-pack."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.helpers.hub_repository import COMMITTER, Repository, is_lfs, pointer


def advertise(repository: Repository, directory: Path) -> bytes:
    """The answer to ``GET info/refs?service=git-upload-pack``."""
    line = b"# service=git-upload-pack\n"
    return (
        b"%04x" % (len(line) + 4) + line + b"0000" + _upload_pack(repository, directory, b"", "--advertise-refs")
    )


def upload(repository: Repository, directory: Path, asked: bytes) -> bytes:
    """The answer to ``POST git-upload-pack``."""
    return _upload_pack(repository, directory, asked)


def _upload_pack(repository: Repository, directory: Path, asked: bytes, *options: str) -> bytes:
    bare = directory / f"{repository.head}-{len(repository.tags)}.git"
    if not bare.exists():
        subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(bare)], check=True)
        stream = b"".join(_stream(repository))
        subprocess.run(["git", "-C", str(bare), "fast-import", "--quiet"], input=stream, check=True)
    command = ["git", "upload-pack", "--stateless-rpc", *options, str(bare)]
    return subprocess.run(command, input=asked, capture_output=True, check=True).stdout


def _stream(repository: Repository) -> Iterator[bytes]:
    """All commits and tags, as ``git fast-import`` reads them."""
    marks = {commit: mark for mark, (commit, _, _) in enumerate(repository.commits, 1)}
    for commit, title, files in repository.commits:
        yield b"commit refs/heads/main\nmark :%d\ncommitter %s\n" % (marks[commit], COMMITTER.encode())
        yield _data(title.encode()) + (b"from :%d\n" % (marks[commit] - 1) if marks[commit] > 1 else b"")
        yield b"deleteall\n"
        for name, content in files.items():
            kept = pointer(content) if is_lfs(name, len(content)) else content
            yield b"M 100644 inline " + name.encode() + b"\n" + _data(kept)
    for tag, commit in repository.tags.items():
        yield b"reset refs/tags/%s\nfrom :%d\n\n" % (tag.encode(), marks[commit])


def _data(content: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(content), content)
