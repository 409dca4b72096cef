"""A read-only double of the Hub's HTTP API on localhost, enough for transformers and datasets to load from.

It answers repository info, trees, refs, path infos and file downloads with ETag and Range, for models and
datasets, at several revisions, and refuses what is gated.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import huggingface_hub.constants
import pytest
from huggingface_hub.utils import close_session

COMMIT = "0123456789abcdef0123456789abcdef01234567"
API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info|refs)(?:/(.*))?)?")
RESOLVE = re.compile(r"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
DATE = "2026-01-01T00:00:00.000Z"


class Hub(ThreadingHTTPServer):
    """Serves directories as repositories: ``repos["models/org/name"] = Path(...)``.

    A repository has one commit, unless ``revisions["datasets/org/name"]`` gives others by branch or tag:
    ``{"v1": (commit, Path(...))}``. What is in ``gated`` tells about itself but gives no file.
    """

    daemon_threads = True

    def __init__(self) -> None:
        self.repos: dict[str, Path] = {}
        self.revisions: dict[str, dict[str, tuple[str, Path]]] = {}
        self.gated: set[str] = set()
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)

    def at(self, repo: str, revision: str) -> tuple[str, Path] | None:
        """The commit and the directory of a revision, which may be the commit itself."""
        known = {"main": (COMMIT, self.repos[repo])} | self.revisions.get(repo, {})
        by_commit = {commit: (commit, root) for commit, root in known.values()}
        return known.get(revision) or by_commit.get(revision)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        if found := API.fullmatch(path):
            self.api(found[1], found[2], found[3], found[4] or "", body)
        elif found := RESOLVE.fullmatch(path):
            self.file(f"{found[1] or 'models'}/{found[2]}", found[3], found[4])
        else:
            self.missing("NotFound")

    def api(self, kind: str, name: str, verb: str | None, rest: str, body: bytes) -> None:
        repo = f"{kind}/{name}"
        if repo not in self.server.repos:
            return self.missing("RepoNotFound")
        revision = unquote(rest.partition("/")[0]) if verb in ("revision", "tree", "paths-info") else "main"
        revision = rest if verb == "revision" else revision
        at = self.server.at(repo, revision)
        if at is None:
            return self.missing("RevisionNotFound")
        commit, root = at
        files = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
        if verb == "tree":
            below = rest.partition("/")[2].strip("/")
            entries = [entry(root, f) for f in files if f.startswith(f"{below}/" if below else "")]
            folders = sorted({str(Path(f).parent) for f in files} - {"."})
            dirs = [{"type": "directory", "path": d, "size": 0, "oid": digest(d.encode())} for d in folders]
            return self.json(dirs + entries) if entries or not below else self.missing("EntryNotFound")
        if verb == "paths-info":
            text = body.decode()
            paths = json.loads(text)["paths"] if text.startswith("{") else parse_qs(text).get("paths", [])
            return self.json([entry(root, p) for p in paths if p in files])
        if verb == "refs":
            tags = self.server.revisions.get(repo, {})
            return self.json(
                {
                    "branches": [{"name": "main", "ref": "refs/heads/main", "targetCommit": commit}],
                    "tags": [
                        {"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": c}
                        for tag, (c, _) in tags.items()
                        if tag != "main" and "/" not in tag
                    ],
                    "converts": [],
                }
            )
        info = {
            "id": name,
            "modelId": name,
            "sha": commit,
            "lastModified": DATE,
            "createdAt": DATE,
            "private": False,
        }
        info |= {"gated": False, "disabled": False, "downloads": 0, "likes": 0, "tags": [], "_id": "0" * 24}
        return self.json({**info, "siblings": [{"rfilename": f} for f in files]})

    def file(self, repo: str, revision: str, name: str) -> None:
        if repo not in self.server.repos:
            return self.missing("RepoNotFound")
        at = self.server.at(repo, revision)
        if at is None:
            return self.missing("RevisionNotFound")
        commit, root = at
        if repo in self.server.gated:
            return self.missing("GatedRepo", status=403)
        if not (root / name).is_file():
            return self.missing("EntryNotFound", {"X-Repo-Commit": commit})
        data = (root / name).read_bytes()
        head = {"X-Repo-Commit": commit, "ETag": f'"{digest(data)}"', "Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted and self.command == "GET":
            first, last = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
            head["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            return self.reply(206, data[first : last + 1], head)
        return self.reply(200, data, head)

    def json(self, value: Any) -> None:
        self.reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def missing(self, code: str, head: dict[str, str] | None = None, status: int = 404) -> None:
        self.reply(
            status, b'{"error": "not here"}', {"X-Error-Code": code, "X-Error-Message": "not here", **(head or {})}
        )

    def reply(self, status: int, data: bytes, head: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **head}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def digest(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def entry(root: Path, name: str) -> dict[str, Any]:
    data = (root / name).read_bytes()
    return {"type": "file", "path": name, "size": len(data), "oid": digest(data)}


@contextmanager
def hub() -> Iterator[Hub]:
    """A running double; stops when the block ends."""
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def ask_the_double(patch: pytest.MonkeyPatch, server: Hub, root: Path) -> None:
    """Point the Hub's client at the double, with a cache in ``root``; it read its settings when it was imported.

    Whoever calls this calls ``close_session`` after the test.
    """
    constants: Any = huggingface_hub.constants
    patch.setattr(constants, "ENDPOINT", server.url)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    patch.setattr(constants, "HF_HUB_CACHE", str(root / "cache"))
    patch.setattr(constants, "HF_ASSETS_CACHE", str(root / "assets"))
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    close_session()
