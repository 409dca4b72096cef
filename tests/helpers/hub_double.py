"""A double of the Hub's HTTP API on localhost, for unmodified clients: transformers, datasets, huggingface_hub.

It answers repository info, trees, refs, path infos and file downloads with ETag and Range, for models and
datasets, at several revisions, and refuses what is gated. Directories are served as they are; repositories that
a client creates take commits, LFS objects and tags.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import huggingface_hub.constants
import pytest
from huggingface_hub.utils import close_session

from tests.helpers import hub_git
from tests.helpers.hub_openapi import missing_fields, route_of
from tests.helpers.hub_repository import Files, Refused, Repository, blob_id, card_errors, entry, is_lfs

COMMIT = "0123456789abcdef0123456789abcdef01234567"
VERBS = "revision|tree|paths-info|refs|commits|preupload|commit|tag|settings"
API = re.compile(rf"/api/(models|datasets)/([^/]+/[^/]+)(?:/({VERBS})(?:/(.*))?)?")
RESOLVE = re.compile(r"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
BATCH = re.compile(r"/(?:(datasets)/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch")
CLONE = re.compile(r"/(?:(datasets)/)?([^/]+/[^/]+?)(?:\.git)?/(info/refs|git-upload-pack)")
OBJECT = re.compile(r"/lfs/([0-9a-f]{64})")
DATE = "2026-01-01T00:00:00.000Z"


class Hub(ThreadingHTTPServer):
    """Serves directories as repositories: ``repos["models/org/name"] = Path(...)``.

    A repository has one commit, unless ``revisions["datasets/org/name"]`` gives others by branch or tag:
    ``{"v1": (commit, Path(...))}``. What is in ``gated`` tells about itself but gives no file.

    Attributes:
        repos: also the repositories that clients created.
        tokens: those that are accepted; None accepts any, and none. A private repository needs one.
        before: called with each request ("POST /api/...") before it is answered; may raise :class:`Refused`.
    """

    daemon_threads = True

    def __init__(self) -> None:
        self.repos: dict[str, Path | Repository] = {}
        self.revisions: dict[str, dict[str, tuple[str, Path]]] = {}
        self.gated: set[str] = set()
        self.asked: list[str] = []
        self.objects: dict[str, bytes] = {}
        self.tokens: set[str] | None = None
        self.before: Callable[[str], object] = str
        self.git = Path(tempfile.mkdtemp())
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)

    def at(self, repo: str, revision: str) -> tuple[str, Files] | None:
        """The commit and the files of a revision, which may be the commit itself."""
        kept = self.repos[repo]
        if isinstance(kept, Repository):
            return kept.at(revision)
        known = {"main": (COMMIT, kept)} | self.revisions.get(repo, {})
        by_commit = {commit: (commit, root) for commit, root in known.values()}
        at = known.get(revision) or by_commit.get(revision)
        if at is None:
            return None
        commit, root = at
        files = sorted(p for p in root.rglob("*") if p.is_file())
        return commit, {p.relative_to(root).as_posix(): p.read_bytes() for p in files}

    def tags(self, repo: str) -> dict[str, str]:
        kept = self.repos[repo]
        if isinstance(kept, Repository):
            return kept.tags
        return {t: c for t, (c, _) in self.revisions.get(repo, {}).items() if t != "main" and "/" not in t}

    def writable(self, repo: str) -> Repository:
        """Raises Refused for one that is not there, or that a test serves from a directory."""
        kept = self.repos.get(repo)
        if isinstance(kept, Repository):
            return kept
        raise Refused(403 if kept else 404, "Forbidden" if kept else "Repository not found", "RepoNotFound")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    disable_nagle_algorithm = True  # else a body after its headers waits for an acknowledgement: 40 ms
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        try:
            self.server.before(f"{self.command} {path}")
            with self.server.lock:
                self.route(path, body)
        except Refused as no:
            self.missing(no.code, status=no.status, message=no.message)

    def route(self, path: str, body: bytes) -> None:
        user = self.user()
        route = route_of(self.command, path)
        if route is not None and route.needs and (missing := missing_fields(route, fields_of(body))):
            raise Refused(422, f"the request lacks {', '.join(missing)}")
        if path == "/api/validate-yaml":
            errors = card_errors(json.loads(body)["content"])
            return self.json({"errors": errors, "warnings": []}, 400 if errors else 200)
        if path == "/api/repos/create":
            return self.create(user, json.loads(body))
        if path == "/api/repos/delete":
            asked = json.loads(body)
            name = f"{asked.get('type', 'model')}s/{asked['organization']}/{asked['name']}"
            self.allowed(name, user)
            self.server.writable(name)
            del self.server.repos[name]
            return self.json({})
        if found := OBJECT.fullmatch(path):
            return self.object(found[1], body)
        if found := BATCH.fullmatch(path):
            self.allowed(f"{found[1] or 'models'}/{found[2]}", user)
            return self.batch(json.loads(body))
        if found := CLONE.fullmatch(path):
            return self.clone(f"{found[1] or 'models'}/{found[2]}", found[3], user, body)
        if found := API.fullmatch(path):
            repo, verb, rest = f"{found[1]}/{found[2]}", found[3], found[4] or ""
            self.allowed(repo, user)
            if verb in ("preupload", "commit", "tag", "settings") and self.command in ("POST", "PUT", "DELETE"):
                if user is None:
                    raise Refused(401, "Invalid username or password.")
                return self.write(repo, verb, rest, body)
            return self.api(repo, found[2], verb, rest, body)
        if found := RESOLVE.fullmatch(path):
            repo = f"{found[1] or 'models'}/{found[2]}"
            self.allowed(repo, user)
            return self.file(repo, found[3], found[4])
        raise Refused(404, "not here", "NotFound")

    def user(self) -> str | None:
        """The token of the request. Raises Refused for a wrong one."""
        scheme, _, token = (self.headers.get("Authorization") or "").partition(" ")
        if scheme == "Basic":  # of git: a name and the token
            token = base64.b64decode(token).decode().partition(":")[2]
        if token and self.server.tokens is not None and token not in self.server.tokens:
            raise Refused(401, "Invalid credentials in Authorization header")
        return token or None

    def allowed(self, repo: str, user: str | None) -> None:
        kept = self.server.repos.get(repo)
        if kept is None or (isinstance(kept, Repository) and kept.private and user is None):
            raise Refused(
                401 if user is None and self.server.tokens else 404, "Repository not found", "RepoNotFound"
            )

    def clone(self, repo: str, part: str, user: str | None, body: bytes) -> None:
        self.allowed(repo, user)
        kept, media = self.server.writable(repo), "application/x-git-upload-pack-"
        if part == "info/refs":
            answer, kind = hub_git.advertise(kept, self.server.git), "advertisement"
        else:
            body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            answer, kind = hub_git.upload(kept, self.server.git, body), "result"
        self.reply(200, answer, {"Content-Type": media + kind})

    def create(self, user: str | None, asked: dict[str, Any]) -> None:
        if user is None:
            raise Refused(401, "Invalid username or password.")
        kind, name = f"{asked.get('type', 'model')}s", f"{asked['organization']}/{asked['name']}"
        url = f"{self.server.url}/{'datasets/' if kind == 'datasets' else ''}{name}"
        if f"{kind}/{name}" in self.server.repos:
            return self.json({"url": url, "error": "You already created this repo"}, 409)
        private = asked.get("private", asked.get("visibility") == "private")
        self.server.repos[f"{kind}/{name}"] = Repository(private)
        return self.json({"url": url, "name": name, "id": "0" * 24})

    def write(self, repo: str, verb: str, revision: str, body: bytes) -> None:
        kept = self.server.writable(repo)
        if verb == "preupload":
            listed = json.loads(body)["files"]
            there = kept.commits[-1][2]
            files = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if is_lfs(f["path"], f["size"]) else "regular",
                    "shouldIgnore": False,
                    **({"oid": oid_of(f["path"], there[f["path"]])} if f["path"] in there else {}),
                }
                for f in listed
            ]
            return self.json({"files": files, "commitOid": kept.head})
        if verb == "settings":
            kept.private = json.loads(body)["visibility"] == "private"
            return self.json({"private": kept.private})
        if verb == "tag" and self.command == "DELETE":
            if unquote(revision) not in kept.tags:
                raise Refused(404, "Invalid rev id", "RevisionNotFound")
            del kept.tags[unquote(revision)]
            return self.json({})
        if verb == "tag":
            kept.tag(json.loads(body)["tag"], unquote(revision))
            return self.json({})
        commit = kept.commit(map(json.loads, body.splitlines()), self.server.objects)
        url = f"{self.server.url}/{repo.removeprefix('models/')}/commit/{commit}"
        return self.json({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})

    def batch(self, asked: dict[str, Any]) -> None:
        objects: list[dict[str, Any]] = []
        for o in asked["objects"]:
            href, there = f"{self.server.url}/lfs/{o['oid']}", o["oid"] in self.server.objects
            if asked.get("operation") == "download":
                actions = {"actions": {"download": {"href": href, "header": {}}}}
            else:
                actions = {} if there else {"actions": {"upload": {"href": href, "header": {}}}}
            objects.append({"oid": o["oid"], "size": o["size"], "authenticated": True, **actions})
        self.json({"transfer": "basic", "objects": objects}, media="application/vnd.git-lfs+json")

    def object(self, oid: str, body: bytes) -> None:
        if self.command == "PUT":
            if hashlib.sha256(body).hexdigest() != oid:
                raise Refused(400, "the sha256 of what came is another")
            self.server.objects[oid] = body
            return self.reply(200, b"", {})
        if oid not in self.server.objects:
            raise Refused(404, "no such object")
        return self.data(self.server.objects[oid], {"ETag": f'"{oid}"'})

    def api(self, repo: str, name: str, verb: str | None, rest: str, body: bytes) -> None:
        revision = unquote(rest.partition("/")[0]) if verb in ("tree", "paths-info", "commits") else "main"
        at = self.server.at(repo, rest if verb == "revision" else revision)
        if at is None:
            raise Refused(404, "not here", "RevisionNotFound")
        commit, files = at
        if verb == "tree":
            below = rest.partition("/")[2].strip("/")
            entries = [entry(f, files[f]) for f in files if f.startswith(f"{below}/" if below else "")]
            folders = sorted({str(Path(f).parent) for f in files} - {"."})
            dirs = [{"type": "directory", "path": d, "size": 0, "oid": blob_id(d.encode())} for d in folders]
            if below and not entries:
                raise Refused(404, "not here", "EntryNotFound")
            return self.json(dirs + entries)
        if verb == "paths-info":
            paths = fields_of(body)["paths"]
            return self.json([entry(p, files[p]) for p in paths if p in files])
        if verb == "refs":
            tags = self.server.tags(repo)
            return self.json({
                "branches": [{"name": "main", "ref": "refs/heads/main", "targetCommit": commit}],
                "tags": [{"name": t, "ref": f"refs/tags/{t}", "targetCommit": c} for t, c in tags.items()],
                "converts": [],
            })  # fmt: skip
        kept = self.server.repos[repo]
        if verb == "commits":
            log = kept.commits if isinstance(kept, Repository) else [(commit, "served from a directory", {})]
            items = [{"id": c, "title": title, "message": "", "authors": [], "date": DATE} for c, title, _ in log]
            return self.json(items[::-1])
        info = {
            "id": name,
            "modelId": name,
            "sha": commit,
            "lastModified": DATE,
            "createdAt": DATE,
            "private": isinstance(kept, Repository) and kept.private,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "_id": "0" * 24,
            "author": name.partition("/")[0],
        }
        return self.json({**info, "siblings": [{"rfilename": f} for f in files]})

    def file(self, repo: str, revision: str, name: str) -> None:
        at = self.server.at(repo, revision)
        if at is None:
            raise Refused(404, "not here", "RevisionNotFound")
        commit, files = at
        if repo in self.server.gated:
            raise Refused(403, "not here", "GatedRepo")
        if name not in files:
            return self.missing("EntryNotFound", {"X-Repo-Commit": commit})
        data = files[name]
        head = {"X-Repo-Commit": commit, "ETag": f'"{oid_of(name, data)}"'}
        if not isinstance(self.server.repos[repo], Repository) or not is_lfs(name, len(data)):
            return self.data(data, head)
        # Of LFS objects the Hub names a place at another host, whose headers the client then does not look at.
        elsewhere = self.server.url.replace("127.0.0.1", "localhost")
        oid = oid_of(name, data)
        self.server.objects[oid] = data
        linked = {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(data))}
        return self.reply(302, b"", {**head, **linked, "Location": f"{elsewhere}/lfs/{oid}"})

    def data(self, data: bytes, head: dict[str, str]) -> None:
        head = {**head, "Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted and self.command == "GET":
            first, last = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
            head["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            return self.reply(206, data[first : last + 1], head)
        return self.reply(200, data, head)

    def json(self, value: Any, status: int = 200, media: str = "application/json") -> None:
        self.reply(status, json.dumps(value).encode(), {"Content-Type": media})

    def missing(
        self, code: str, head: dict[str, str] | None = None, status: int = 404, message: str = "not here"
    ) -> None:
        named = {"X-Error-Code": code} if code else {}
        named |= {"WWW-Authenticate": 'Basic realm="Hub"'} if status == 401 else {}
        text = json.dumps({"error": message}).encode()
        self.reply(
            status, text, {"X-Error-Message": message, "Content-Type": "application/json", **named, **(head or {})}
        )

    def reply(self, status: int, data: bytes, head: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **head}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def fields_of(body: bytes) -> dict[str, Any]:
    """What a request says: JSON, its first line of several, or a form."""
    text = body.decode(errors="replace")
    return json.loads(text.partition("\n")[0]) if text.startswith("{") else dict(parse_qs(text))


def oid_of(name: str, data: bytes) -> str:
    """What the Hub calls a file's content: the sha256 of an LFS object, git's id of any other file."""
    return hashlib.sha256(data).hexdigest() if is_lfs(name, len(data)) else blob_id(data)


@contextmanager
def hub() -> Iterator[Hub]:
    """A running double; stops when the block ends."""
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        shutil.rmtree(server.git, ignore_errors=True)


def ask_the_double(patch: pytest.MonkeyPatch, server: Hub, root: Path) -> None:
    """Point the Hub's client at the double, with a cache in ``root``; it read its settings when it was imported.

    Whoever calls this calls ``close_session`` after the test.
    """
    constants: Any = huggingface_hub.constants
    patch.setattr(constants, "ENDPOINT", server.url)
    patch.setattr("huggingface_hub.hf_api.api.endpoint", server.url)  # whose methods are the library's functions
    patch.setattr("transformers.utils.hub._hf_api", None)  # made once, with the endpoint of that moment
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    patch.setattr(constants, "HF_HUB_CACHE", str(root / "cache"))
    patch.setattr(constants, "HF_ASSETS_CACHE", str(root / "assets"))
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    close_session()
