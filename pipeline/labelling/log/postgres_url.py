"""``label.database``: the URL of a PostgreSQL database, as libpq writes it, without a password."""

from __future__ import annotations

import getpass
import os
import ssl
from dataclasses import dataclass
from typing import Any, Literal, get_args
from urllib.parse import parse_qs, unquote, urlsplit

from pipeline.base.errors import ConfigError

SslMode = Literal["disable", "require", "verify-full"]
_SCHEMES = ("postgresql", "postgres")


@dataclass(frozen=True)
class PostgresUrl:
    """Where the server is: a host, or the directory of its socket (``?host=/run/postgresql``).

    The password is the environment's ``PGPASSWORD``, so that none gets into configs and versions. Connections to
    other hosts are encrypted and the host's certificate is verified, unless ``sslmode`` says otherwise.
    """

    host: str
    port: int
    user: str
    database: str
    sslmode: SslMode

    @classmethod
    def parse(cls, text: str) -> PostgresUrl:
        """Raises ValueError, whose message goes after the key's name."""
        url, example = urlsplit(text), "postgresql://user@host:5432/database"
        if url.scheme not in _SCHEMES:
            raise ValueError(f"should be the URL of a PostgreSQL database, such as {example}")
        if url.password is not None:
            raise ValueError(
                "has a password, which would get into versions; put it into the environment (PGPASSWORD)"
            )
        options = {key: values[-1] for key, values in parse_qs(url.query).items()}
        if unknown := sorted(options.keys() - {"host", "sslmode"}):
            raise ValueError(f"has options that are not known here: {', '.join(unknown)} (host, sslmode are)")
        host = options.get("host") or url.hostname or "127.0.0.1"
        sslmode = _sslmode(options.get("sslmode"), host)
        try:
            port = url.port or 5432
        except ValueError:
            raise ValueError("has a port that is not a number from 0 to 65535") from None
        user = unquote(url.username or "") or getpass.getuser()
        return cls(host, port, user, unquote(url.path.strip("/")) or user, sslmode)

    @classmethod
    def checked(cls, text: str) -> PostgresUrl:
        """:meth:`parse` for ``label.database``; raises ConfigError."""
        try:
            return cls.parse(text)
        except ValueError as err:
            raise ConfigError("label.database", f"{err}.") from None

    def __str__(self) -> str:
        if self.host.startswith("/"):
            return f"postgresql://{self.user}@/{self.database}?host={self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"postgresql://{self.user}@{host}:{self.port}/{self.database}"

    def arguments(self) -> dict[str, Any]:
        """Of the driver's connection."""
        place: dict[str, Any] = (
            {"unix_sock": f"{self.host}/.s.PGSQL.{self.port}"}
            if self.host.startswith("/")
            else {"host": self.host, "port": self.port, "ssl_context": self._ssl_context()}
        )
        return place | {"user": self.user, "database": self.database, "password": os.environ.get("PGPASSWORD")}

    def _ssl_context(self) -> ssl.SSLContext | Literal[False]:
        if self.sslmode == "disable":
            return False  # None would try TLS first, and verify nothing (pg8000 1.31)
        context = ssl.create_default_context()
        if self.sslmode == "require":  # encrypted, to whom is not known: as libpq has it
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context


def _sslmode(text: str | None, host: str) -> SslMode:
    if text is None:
        return "disable" if _is_local(host) else "verify-full"
    for mode in get_args(SslMode):
        if text == mode:
            return mode
    raise ValueError(f"has sslmode={text}, which should be one of: {', '.join(get_args(SslMode))}")


def _is_local(host: str) -> bool:
    return host.startswith("/") or host in ("localhost", "127.0.0.1", "::1")
