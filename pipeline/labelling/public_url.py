"""Parse ``label.public_url``, the address at which a proxy serves the page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class PublicAddress:
    """Scheme, host name or address (without brackets) and port, as a browser has them."""

    scheme: str
    name: str
    port: int | None

    @classmethod
    def parse(cls, url: str) -> PublicAddress:
        """Read ``https://annotate.example.org``.

        Raises:
            ValueError: not such an address, or one with a path: another page of the same origin could read this
                one and answer for people, so it needs an origin of its own.
        """
        try:
            parts = urlsplit(url.strip())
            name, port = parts.hostname or "", parts.port
        except ValueError as err:
            raise ValueError(f"public_url {url!r} is not an address: {err}") from None
        plain = re.fullmatch(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?|[0-9a-f:.]+", name)
        if parts.scheme not in _DEFAULT_PORTS or not plain or parts.username is not None:
            raise ValueError(f"public_url {url!r} is not an address such as https://annotate.example.org")
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError(
                f"public_url {url!r} has a path; other pages of that name could read this one:"
                " give it a name of its own, such as https://annotate.example.org"
            )
        return cls(parts.scheme, name, None if port == _DEFAULT_PORTS[parts.scheme] else port)

    @property
    def _host(self) -> str:
        return f"[{self.name}]" if ":" in self.name else self.name

    @property
    def origin(self) -> str:
        """As the Origin header spells it: lower case, without the scheme's default port."""
        return f"{self.scheme}://{self._host}" + ("" if self.port is None else f":{self.port}")

    @property
    def secure(self) -> bool:
        return self.scheme == "https"

    def is_asked(self, host: str) -> bool:
        """Whether a Host header names this address, with its port or without (nginx ``$http_host``, ``$host``)."""
        return host.lower() in (self._host, f"{self._host}:{self.port or _DEFAULT_PORTS[self.scheme]}")
