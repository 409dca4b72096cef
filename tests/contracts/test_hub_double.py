"""The double of the Hub answers as the Hub's OpenAPI document says, and nothing that no client asks for."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.utils import close_session

from tests.helpers.hub_double import Hub, ask_the_double, hub
from tests.helpers.hub_openapi import ROUTES, UNDOCUMENTED, differences, missing_fields, route_of

WEIGHTS = b"weights"
KINDS = ("models", "datasets")


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with hub() as running:
        for kind in KINDS:
            ask(running, "POST", "/api/repos/create", {"name": "a", "organization": "org", "type": kind[:-1]})
            kept = running.writable(f"{kind}/org/a")
            kept.add("files", {"model.safetensors": WEIGHTS, "deep/config.json": b"{}"})
            kept.tag("v1", "main")
        yield running


def ask(server: Hub, method: str, path: str, asked: Any = None) -> tuple[int, Any]:
    body = None if asked is None else asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    request = urllib.request.Request(server.url + path, body, {"Authorization": "Bearer right"}, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            status, content = answer.status, answer.read()
    except urllib.error.HTTPError as err:
        status, content = err.code, err.read()
    try:
        return status, json.loads(content or b"null")
    except ValueError:
        return status, content


def commit_of(text: str) -> bytes:
    lines = [
        {"key": "header", "value": {"summary": text, "description": ""}},
        {"key": "file", "value": {"path": "x.txt", "content": "eA==", "encoding": "base64"}},
    ]
    return b"\n".join(json.dumps(line).encode() for line in lines)


REQUESTS: dict[str, Any] = {
    "preupload/main": {"files": [{"path": p, "size": 7, "sample": ""} for p in ("model.safetensors", "new.json")]},
    "commit/main": commit_of("one more"),
    "tag/main": {"tag": "v2", "message": "second"},
    "paths-info/v1": {"paths": ["model.safetensors", "deep/config.json"], "expand": False},
    "refs": None,
    "commits/main": None,
    "tree/v1/?recursive=true": None,
    "tree/v1/deep": None,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", REQUESTS)
def test_answers_are_those_of_the_document(kind: str, path: str, server: Hub):
    asked, whole = REQUESTS[path], f"/api/{kind}/org/a/{path}"
    method = "GET" if asked is None else "POST"
    route = route_of(method, whole.partition("?")[0])
    assert route is not None
    status, answer = ask(server, method, whole, asked)
    assert status == 200
    assert answer not in ([], None)
    if (shape := route.answers[200]) is not None:
        assert differences(answer, shape) == []
    if route.needs:
        status, answer = ask(server, method, whole, {})
        assert (status, answer["error"]) == (422, f"the request lacks {', '.join(route.needs)}")


def test_repositories_are_created_as_the_document_says(server: Hub):
    (route,) = [r for r in ROUTES if r.path == "/api/repos/create"]
    asked = {"name": "new", "organization": "org", "type": "dataset", "private": True}
    for expected in (200, 409):
        status, answer = ask(server, "POST", "/api/repos/create", asked)
        assert status == expected
        assert differences(answer, route.answers[status]) == []
    assert ask(server, "POST", "/api/repos/create", {"organization": "org"})[0] == 422


def test_every_documented_route_is_asked_for_here():
    """Files apart, whose answers are no JSON; tests/unit/sources/test_hub.py and the clients read them."""
    paths = {f"/api/models/o/r/{path.partition('?')[0]}": asked for path, asked in REQUESTS.items()}
    asked_for = [route_of("GET" if asked is None else "POST", path) for path, asked in paths.items()]
    assert all(route in asked_for or route.path.startswith("/") for route in ROUTES)


def test_what_differs_is_seen():
    shape = {"a": int, "b?": [{"c": str}]}
    assert differences({"a": 1, "b": [{"c": ""}]}, shape) == []
    assert differences({"b": [{"c": 1}], "d": 0}, shape) == [
        "answer.a is missing",
        "answer.d is not in the document",
        "answer.b[0].c is 1",
    ]
    route = route_of("POST", "/api/models/o/r/preupload/main")
    assert route is not None
    assert missing_fields(route, {"files": [{"path": "p", "size": 1}]}) == ["files.sample"]


def test_clients_ask_for_these_routes_alone(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "right")
    ask_the_double(monkeypatch, server, tmp_path)
    del server.asked[:]
    api = HfApi()
    try:
        for type_ in ("model", "dataset"):
            what: Any = {"repo_id": "org/by-client", "repo_type": type_}
            api.create_repo(**what, private=True)
            files = {"a.safetensors": WEIGHTS, "README.md": b"---\nlicense: mit\n---\n"}
            add = [CommitOperationAdd(path, content) for path, content in files.items()]
            api.create_commit(**what, operations=add, commit_message="first")
            api.create_tag(**what, tag="v1")
            api.repo_info(**what, revision="v1")
            assert len(list(api.list_repo_tree(**what, recursive=True))) == 3
            assert [tag.name for tag in api.list_repo_refs(**what).tags] == ["v1"]
            assert [c.title for c in api.list_repo_commits(**what)] == ["first", "initial commit"]
            assert {p.path for p in api.get_paths_info(**what, paths=list(files))} == set(files)
            read = api.hf_hub_download(**what, filename="a.safetensors", revision="v1")
            assert Path(read).read_bytes() == WEIGHTS
    finally:
        close_session()
    package = Path(huggingface_hub.__file__).parent
    source = "".join(path.read_text(encoding="utf-8") for path in package.glob("*.py"))
    used: set[str] = set()
    for line in server.asked:
        method, path = line.split(" ", 1)
        about_it = "org/by-client" in path or path == "/api/validate-yaml"
        if about_it and route_of(method, path) is None:
            matching = [u for u in UNDOCUMENTED if u.method == method and u.pattern.fullmatch(path)]
            assert matching, f"{line} is in neither table"
            assert matching[0].asked_by in source
            used.add(matching[0].asked_by)
    assert used
