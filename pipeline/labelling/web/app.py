"""The web app of one labelling project: its routes put together. What they do is in api.py and operator.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from pipeline.base.errors import PipelineError
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
) -> Starlette:
    """The ASGI app.

    Args:
        guidelines: text shown beside the items.
        publish: called in a worker thread when the operator asks for it; returns what to tell them, raises
            PipelineError with why not. None leaves the button out.
        hosts: the names this page is served under; ports do not matter. See :func:`guard.host_allowed`.
        public: the address of a proxy in front of it.
    """
    site = Site(log, settings, title, guidelines, consent, publish, public)
    app = Starlette(
        routes=[
            Route("/", _front),
            Route("/favicon.ico", _no_icon),
            Route("/join/{token}", _join),
            *api.routes(),
            *operator.routes(),
            Mount("/static", _Static(directory=HERE / "static")),
        ],
        middleware=[Middleware(Guard, hosts=hosts, refuse=refuse, public=public)],
        exception_handlers={HTTPException: _refused, PipelineError: _cannot},
    )
    app.state.site = site
    return app


def _join(request: Request) -> Response:
    """Exchanges the token in a link for a cookie, so that no later address holds it."""
    site: Site = request.app.state.site
    token = request.path_params["token"]
    if site.is_operator(token):
        who, path, to = "operator", "/operator", "/operator/"
    else:
        person = site.person_of(token)
        if person is None:
            raise Refusal(
                404, "This link is not known here, or it was withdrawn. Ask for a new one.", "unknown token"
            )
        who, path = person.id, f"/a/{person.id}/"
        to = path
    answer = RedirectResponse(to, 303)
    set_cookie(answer, site.cookie(who), token, path, secure=site.encrypted(request))
    return answer


def _front(request: Request) -> Response:
    text = "Open the link that you were given: it begins like this address and ends in your own key."
    return page("message.html.jinja", {"title": "This page needs your link", "text": text, "again": None})


def _no_icon(request: Request) -> Response:
    return Response(status_code=204)


def _refused(request: Request, err: Exception) -> Response:
    """Starlette's own refusals (no such route, wrong method) told and logged as all others."""
    status = err.status_code if isinstance(err, HTTPException) else 500
    text = {404: "There is no such page.", 405: "That cannot be done here."}.get(status, "This cannot be served.")
    raise Refusal(status, text)


def _cannot(request: Request, err: Exception) -> Response:
    """What the log said no to. In every case nothing was recorded."""
    if isinstance(err, Refused):
        raise Refusal(409, str(err), "refused by the log") from err
    status = 507 if isinstance(err, LogFull) else 503
    raise Refusal(status, str(err), type(err).__name__, "full") from err


class _Static(StaticFiles):
    """Files that a browser may keep but asks about each time."""

    def file_response(self, *args, **kwargs) -> Response:
        answer = super().file_response(*args, **kwargs)
        answer.headers["Cache-Control"] = "no-cache"
        return answer
