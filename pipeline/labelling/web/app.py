"""Build the web app of one labelling project from the routes in api.py and operator.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from pipeline.base.errors import DataError, PipelineError
from pipeline.labelling.log.database import LogFull, Refused
from pipeline.labelling.public_url import PublicAddress
from pipeline.labelling.settings import LabelSection
from pipeline.labelling.web import api, operator
from pipeline.labelling.web.context import HERE, Consent, Site, page, refuse, set_cookie
from pipeline.labelling.web.request_checks import Guard, Refusal

if TYPE_CHECKING:
    from pipeline.labelling.log.log import Log

__all__ = ["Consent", "build_app"]


def build_app(
    log: Log,
    settings: LabelSection,
    *,
    title: str,
    guidelines: str | None,
    consent: Consent,
    publish: Callable[[], str] | None,
    hosts: Sequence[str],
    public: PublicAddress | None = None,
    renderer: str | None = None,
) -> Starlette:
    """The ASGI app.

    Args:
        guidelines: text shown beside the items.
        publish: called in a worker thread for the operator; returns the message to show, raises PipelineError on
            failure. None: no button.
        hosts: allowed host names, of any port; see :func:`request_checks.host_allowed`.
        public: the address of a proxy in front of it.
        renderer: what draws the texts, one of :data:`pipeline.labelling.web.context.RENDERERS`.
    """
    site = Site(log, settings, title, guidelines, consent, publish, public, renderer=renderer)
    return guarded_app(site, [*api.routes(), *operator.routes()], hosts)


def guarded_app(site: Site, routes: Sequence[BaseRoute], hosts: Sequence[str]) -> Starlette:
    """The app of ``routes`` behind people's links, with the guards and static files that all pages here share."""
    app = Starlette(
        routes=[
            Route("/", _front),
            Route("/favicon.ico", _no_icon),
            Route("/join/{token}", _join),
            *routes,
            Mount("/static", StaticPages(directory=HERE / "static")),
        ],
        middleware=[Middleware(Guard, hosts=hosts, refuse=refuse, public=site.public, stage=site.stage)],
        exception_handlers={HTTPException: _refused, PipelineError: _cannot},
    )
    app.state.site = site
    return app


def _join(request: Request) -> Response:
    """Exchange the token in a link for a cookie, so that no later address contains it."""
    site: Site = request.app.state.site
    token = request.path_params["token"]
    if site.is_operator(token):
        who, path, to = "operator", "/operator", "/operator/"
    elif person := site.person_of(token):
        who = person.id
        path = to = f"/a/{person.id}/"
    else:
        raise Refusal(404, "This link is unknown or was withdrawn. Ask for a new one.", "unknown token")
    answer = RedirectResponse(to, 303)
    set_cookie(answer, site.cookie(who), token, path, secure=site.encrypted(request))
    return answer


def _front(request: Request) -> Response:
    text = "Open your personal link: it starts with this address and ends with your key."
    return page("message.html.jinja", {"title": "This page needs your link", "text": text, "again": None})


def _no_icon(request: Request) -> Response:
    return Response(status_code=204)


def _refused(request: Request, err: Exception) -> Response:
    """Convert Starlette's own errors (no such route, wrong method) to refusals."""
    status = err.status_code if isinstance(err, HTTPException) else 500
    texts = {404: "There is no such page.", 405: "This method is not allowed here."}
    raise Refusal(status, texts.get(status, "This cannot be served."))


def _cannot(request: Request, err: Exception) -> Response:
    """Convert errors of the log and of what was sent to refusals. Nothing was recorded."""
    if isinstance(err, Refused):
        raise Refusal(409, str(err), "refused by the log") from err
    if isinstance(err, DataError):
        raise Refusal(400, str(err), "refused") from err
    status = 507 if isinstance(err, LogFull) else 503
    raise Refusal(status, str(err), type(err).__name__, "full") from err


class StaticPages(StaticFiles):
    """Static files, which a browser caches and revalidates."""

    def file_response(self, *args, **kwargs) -> Response:
        answer = super().file_response(*args, **kwargs)
        answer.headers["Cache-Control"] = "no-cache"
        return answer
