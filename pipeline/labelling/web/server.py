"""Serve the labelling page on a local socket: start it, list its links, stop it within two seconds."""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pipeline.base.errors import ConfigError, PipelineError
from pipeline.base.process import say
from pipeline.labelling.settings import LabelSection
from pipeline.labelling.web.context import HERE, Consent
from pipeline.labelling.web.request_checks import WILDCARDS

if TYPE_CHECKING:
    from uvicorn import Config

    from pipeline.labelling.log.log import Log

SHUTDOWN_SECONDS = 1
LINGER_SECONDS = 1.0
POLL_SECONDS = 0.2
TEXT_BYTES = 1024 * 1024


class Server:
    """Serves one labelling project while the ``with`` block runs.

    Args:
        name: of the project; the page's default title.
        publish, renderer: see :func:`pipeline.labelling.web.app.build_app`.
    Attributes:
        stage, host_key, port_key: how messages name the command and the settings of the address.
        port: the port; with the setting 0 it is known on entering.
    Raises:
        PipelineError: on entering, if the address cannot be bound or a text file cannot be read.
    """

    stage, host_key, port_key = "label", "label.host", "label.port"

    def __init__(
        self,
        log: Log,
        settings: LabelSection,
        name: str,
        publish: Callable[[], str] | None,
        renderer: str | None = None,
    ) -> None:
        self.log, self.settings, self.name, self.publish = log, settings, name, publish
        self.renderer = renderer
        self.port = settings.port
        self._socket: socket.socket | None = None
        self._server: Any = None
        self._thread: threading.Thread | None = None

    def app(self) -> Any:
        """The app that is served. Raises ConfigError where a text file cannot be read."""
        from pipeline.labelling.web.app import build_app

        settings = self.settings
        guidelines = None if settings.guidelines is None else read_text(settings.guidelines, "label.guidelines")
        return build_app(
            self.log,
            settings,
            title=settings.title or self.name,
            guidelines=guidelines,
            consent=read_consent(settings.consent),
            publish=self.publish,
            hosts=own_names(settings.host),
            public=settings.public,
            renderer=self.renderer,
        )

    def __enter__(self) -> Self:
        app = self.app()
        self._socket = bind(self.settings.host, self.settings.port, self.host_key, self.port_key)
        self.port = self._socket.getsockname()[1]
        self._server = _uvicorn(app)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="labelling page", daemon=True
        )
        self._thread.start()
        for line in self._warnings():
            say(self.stage, line)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(timeout=SHUTDOWN_SECONDS + 1)
        if self._socket is not None:
            self._socket.close()

    def _warnings(self) -> list[str]:
        """Warnings about access from other machines and missing encryption."""
        public, warned = self.settings.public, list[str]()
        if not is_loopback(self.settings.host):
            warned = [
                f"the page is reachable from other machines ({self.local_url}): anybody with a link can answer,",
                "and traffic is unencrypted: in an untrusted network use an SSH tunnel",
            ]
            if public is not None:
                warned[1] += ", or label.host: 127.0.0.1 behind the proxy"
        elif public is not None and not public.secure and not is_loopback(public.name):
            warned = [f"{public.origin} is not https: answers and keys are sent unencrypted"]
        return warned

    @property
    def url(self) -> str:
        """The address for people, without a trailing slash: ``label.public_url``, or the local one."""
        return self.settings.public.origin if self.settings.public is not None else self.local_url

    @property
    def local_url(self) -> str:
        """The address on this machine, to which a proxy forwards requests."""
        host = "127.0.0.1" if self.settings.host in WILDCARDS else self.settings.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def links(self) -> list[tuple[str, str]]:
        """(name, link) of the operator and of each active person. A link is its owner's key."""
        people = [(person.name, person.token) for person in self.log.people.all() if person.active]
        tokens = [("operator", self.log.people.operator_token), *people]
        return [(name, f"{self.url}/join/{token}") for name, token in tokens]

    def wait(self, until: Callable[[], bool]) -> None:
        """Serve until ``until()``, called five times a second, is true.

        Raises:
            KeyboardInterrupt: at Ctrl-C.
            RuntimeError: the server ended by itself, a bug.
        """
        assert self._thread is not None
        while not until():
            if not self._thread.is_alive():
                raise RuntimeError("the labelling page ended by itself")
            time.sleep(POLL_SECONDS)
        # The operator's browser still loads the page after the redirect.
        time.sleep(LINGER_SECONDS)


def bind(host: str, port: int, host_key: str = "label.host", port_key: str = "label.port") -> socket.socket:
    """A listening socket.

    Args:
        host_key, port_key: of the settings, for messages.

    Raises:
        PipelineError: the name is unknown, the port is taken, or it may not be used.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError):
        what = "is not an address of this machine."
        raise ConfigError(f"{host_key} = {host}", what, "Use 127.0.0.1.") from None
    sock = socket.socket(family, kind, proto)
    try:
        # Otherwise the port of a page just closed stays taken for a minute.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(128)
    except OSError as err:
        sock.close()
        raise _cannot_listen(err, f"{host_key} = {host}", port_key, port) from None
    return sock


def _cannot_listen(err: OSError, host: str, port_key: str, port: int) -> PipelineError:
    where = f"{port_key} = {port}"
    if err.errno == errno.EADDRINUSE:
        remedy = f"Is this page open already? Else choose another: {port_key}=0 takes any free one."
        return ConfigError(where, "another program listens there.", remedy)
    if err.errno in (errno.EACCES, errno.EPERM):
        return ConfigError(where, "may not be used by this user.", "Choose one above 1023.")
    if err.errno == errno.EADDRNOTAVAIL:
        return ConfigError(host, "is not an address of this machine.", "Use 127.0.0.1.")
    return ConfigError(host, f"{err.strerror}.", "Use 127.0.0.1.")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def own_names(host: str) -> list[str]:
    """The page's host names for :func:`pipeline.labelling.web.request_checks.host_allowed`."""
    names = [host, "127.0.0.1", "localhost", "::1"]
    return names if is_loopback(host) else [*names, socket.gethostname(), socket.getfqdn()]


def read_text(file: str, key: str) -> str:
    """Read a text file of the config. Raises ConfigError if missing, unreadable, not UTF-8 or over a megabyte."""
    where = f"{key}: {file}"
    try:
        raw = Path(file).read_bytes()
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(where, "is not UTF-8 text.", "Save it as UTF-8.") from None
    except OSError as err:
        raise ConfigError(where, f"{err.strerror or err}.", "Name a text file.") from None
    if len(raw) > TEXT_BYTES:
        raise ConfigError(where, f"has {len(raw):,} bytes.", "Keep it below a megabyte.")
    if not text.strip():
        raise ConfigError(where, "is empty.", f"Write it, or leave out {key}.")
    return text


def read_consent(file: str | None) -> Consent:
    """The consent text of a file, or the default one. Its version is the file's name."""
    path = file or str(HERE / "templates" / "consent.txt")
    text = read_text(path, "label.consent")
    version = Path(path).stem if file else "default"
    return Consent(text, version, hashlib.sha256(text.encode("utf-8")).hexdigest())


def _uvicorn(app: Any) -> Any:
    import uvicorn

    from pipeline.labelling.web import connections

    protocol = connections.connection_class()
    config: Config = uvicorn.Config(
        app,
        http=protocol,
        backlog=connections.BACKLOG,
        # A client's X-Forwarded headers are not trusted; label.public_url is.
        proxy_headers=False,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="critical",
        server_header=False,
        # Closing connections and a backlog of new ones exceed the limit for a moment.
        limit_concurrency=protocol.most + 2 * connections.BACKLOG,
        timeout_keep_alive=connections.KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    return uvicorn.Server(config)
