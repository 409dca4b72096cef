"""Serve the page on which people try a policy, by the labelling page's server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.routing import Mount

from pipeline.chat.asking import Talk
from pipeline.chat.web import api
from pipeline.labelling.log.log import Log
from pipeline.labelling.settings import LabelSection
from pipeline.labelling.web.app import StaticPages, guarded_app
from pipeline.labelling.web.context import Site
from pipeline.labelling.web.server import Server, own_names, read_consent

HERE = Path(__file__).parent
CONSENT = HERE / "templates" / "consent.txt"


class TryServer(Server):
    """Serves a policy while the ``with`` block runs.

    Args:
        settings: ``host``, ``port``, ``public_url``, ``title`` and ``consent`` count.
    """

    stage, host_key, port_key = "try", "--host", "--port"

    def __init__(self, log: Log, settings: LabelSection, talk: Talk) -> None:
        super().__init__(log, settings, talk.served.project, None)
        self.talk = talk

    def app(self) -> Any:
        """The app that is served. Raises ConfigError where the consent text cannot be read."""
        settings = self.settings
        title = settings.title or f"Try {self.name}"
        consent = read_consent(settings.consent or str(CONSENT))
        site = Site(self.log, settings, title, None, consent, None, settings.public, "try")
        pages = [*api.routes(), Mount("/try", StaticPages(directory=HERE / "static"))]
        app = guarded_app(site, pages, own_names(settings.host))
        app.state.talk = self.talk
        return app

    def links(self) -> list[tuple[str, str]]:
        """(name, link) of each active person; there is no operator's page."""
        return [(name, link) for name, link in super().links()[1:]]
