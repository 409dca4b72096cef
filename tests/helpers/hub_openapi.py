"""What the Hub's OpenAPI document says of the routes that the double answers: needed fields, answers, statuses.

Facts of https://huggingface.co/.well-known/openapi.json of August 2026 ("Hub API Endpoints" 0.0.1), written down
by hand. It leaves out two things without which no client could work: ``path`` in the entries of a tree, ``oid``
and ``size`` of an LFS file in those of paths-info. They are marked below. It has none of :data:`UNDOCUMENTED`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

Shape = Any
"""A type; a pattern of a string; a list of what is in a list; a dict by key, where ``key?`` need not be there."""

HEX_24 = re.compile(r"[0-9a-f]{24}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
KIND = re.compile("file|directory|unknown")

_REF = {"name": str, "ref": str, "targetCommit": str}
_COMMIT = {"id": str, "title": str, "message": str, "authors": [{"user": str, "avatar?": str}], "date": TIME}
_ENTRY = {"type": KIND, "oid": str, "xetHash?": str}
_LFS = {"oid": str, "size": int, "pointerSize": int}
_UPLOAD = {"path": str, "uploadMode": re.compile("lfs|regular"), "shouldIgnore": bool, "oid?": str}


@dataclass(frozen=True)
class Route:
    """One operation.

    Attributes:
        path: below ``/api/models/{id}`` and ``/api/datasets/{id}``, unless it begins with a slash.
        needs: fields that the request's JSON has to have; of a list the fields of each of its items.
        answers: the shape of the answer for each status; None where the document does not say it.
    """

    method: str
    path: str
    needs: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    answers: dict[int, Shape] = field(default_factory=dict[int, Shape])

    @property
    def pattern(self) -> re.Pattern[str]:
        below = self.path if self.path.startswith("/") else f"/api/(models|datasets)/[^/]+/[^/]+/{self.path}"
        return re.compile(re.sub(r"\{path\}", ".*", re.sub(r"\{(?!path)\w+\}", "[^/]+", below)))


ROUTES = (
    Route(
        "POST",
        "/api/repos/create",
        {"name": ()},
        {200: {"url": str, "name": str, "id": HEX_24}, 409: {"error": str, "url": str}},
    ),
    Route(
        "POST",
        "preupload/{rev}",
        {"files": ("path", "size", "sample")},
        {200: {"files": [_UPLOAD], "commitOid": str}, 422: None},
    ),
    Route(
        "POST",
        "commit/{rev}",
        {},
        {200: {"success": bool, "pullRequestUrl?": str, "commitOid": str, "commitUrl": str, "hookOutput": str}},
    ),
    Route("POST", "tag/{rev}", {"tag": ()}, {200: None}),
    Route(
        "GET",
        "refs",
        {},
        {200: {"tags": [_REF], "branches": [_REF], "converts": [_REF], "pullRequests?": [_REF]}},
    ),
    Route("GET", "commits/{rev}", {}, {200: [{**_COMMIT, "formatted?": dict}]}),
    # size of an LFS file and oid: clients'
    Route(
        "POST",
        "paths-info/{rev}",
        {"paths": (), "expand": ()},
        {200: [{**_ENTRY, "size": int, "path": str, "lfs?": _LFS, "lastCommit?": dict}]},
    ),
    # path: clients'
    Route(
        "GET",
        "tree/{rev}/{path}",
        {},
        {200: [{**_ENTRY, "size?": int, "path": str, "lfs?": _LFS, "lastCommit?": dict}]},
    ),
    Route("GET", "/datasets/{namespace}/{repo}/resolve/{rev}/{path}", {}, {200: None, 302: None, 304: None}),
    Route("GET", "/{namespace}/{repo}/resolve/{rev}/{path}", {}, {200: None, 302: None, 304: None}),
)


@dataclass(frozen=True)
class Undocumented:
    """A route that clients ask for and the document does not have; ``asked_by`` is a piece of huggingface_hub."""

    method: str
    pattern: re.Pattern[str]
    asked_by: str


UNDOCUMENTED = (
    Undocumented("GET", re.compile("/api/models/[^/]+/[^/]+"), "/api/models/{repo_id}"),
    Undocumented("GET", re.compile("/api/datasets/[^/]+/[^/]+"), "/api/datasets/{repo_id}"),
    Undocumented("GET", re.compile("/api/(models|datasets)/[^/]+/[^/]+/revision/.+"), "/revision/{quote(revision"),
    Undocumented(
        "GET", re.compile("/api/(models|datasets)/[^/]+/[^/]+/tree/[^/]+"), "/tree/{revision}{encoded_path"
    ),
    Undocumented("POST", re.compile("/api/validate-yaml"), "/api/validate-yaml"),
    Undocumented(
        "POST", re.compile(r"/(datasets/)?[^/]+/[^/]+\.git/info/lfs/objects/batch"), "info/lfs/objects/batch"
    ),
    Undocumented(
        "HEAD", re.compile("/(datasets/)?[^/]+/[^/]+/resolve/[^/]+/.+"), "/resolve/{revision}/{filename}"
    ),
)


def route_of(method: str, path: str) -> Route | None:
    """The documented operation of a request."""
    return next((r for r in ROUTES if r.method == method and r.pattern.fullmatch(path)), None)


def missing_fields(route: Route, asked: Mapping[str, Any]) -> list[str]:
    """The fields that the document needs of a request, and that ``asked`` has not."""
    missing = [name for name in route.needs if name not in asked]
    for name, keys in route.needs.items():
        if keys and name in asked:
            missing += [f"{name}.{key}" for item in asked[name] for key in keys if key not in item]
    return missing


def differences(value: Any, shape: Shape, at: str = "answer") -> list[str]:
    """Where an answer has another shape: a field that is missing, or that the document does not allow."""
    if isinstance(shape, dict):
        shapes = cast("dict[str, Shape]", shape)
        names = {key.removesuffix("?"): inner for key, inner in shapes.items()}
        if not isinstance(value, dict):
            return [f"{at} is no object"]
        content = cast("dict[str, Any]", value)
        wrong = [f"{at}.{key} is missing" for key in shapes if not key.endswith("?") and key not in content]
        wrong += [f"{at}.{key} is not in the document" for key in content if key not in names]
        return wrong + [d for k, v in content.items() if k in names for d in differences(v, names[k], f"{at}.{k}")]
    if isinstance(shape, list):
        [inner] = cast("list[Shape]", shape)
        return [d for n, item in enumerate(value) for d in differences(item, inner, f"{at}[{n}]")]
    if isinstance(shape, re.Pattern):
        return [] if isinstance(value, str) and shape.fullmatch(value) else [f"{at} is {value!r}"]
    return [] if isinstance(value, shape) else [f"{at} is {value!r}"]
