"""The address under which a proxy serves the page to the world: ``label.public_url``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class PublicAddress:
    """Scheme, name and port as a browser has them.

    Attributes:
        origin: as the Origin header spells it: lower case, without the scheme's own port.
        name: the host's name or address, without brackets.
    """

    scheme: str
    name: str
    port: int | None

    @classmethod
    def parse(cls, url: str) -> PublicAddress:
        """Read ``https://annotate.example.org``.

        Raises:
            ValueError: it is no such address, or has a path: a page of somebody else under the same name could
                read what people are shown and answer for them, so it has to have a name, or a port, of its own.
        """
        try:
            parts = urlsplit(url.strip())
            name, port = parts.hostname or "", parts.port
        except ValueError as err:
            raise ValueError(f"public_url {url!r} is no address: {err}") from None
        plain = re.fullmatch(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?|[0-9a-f:.]+", name)
        if parts.scheme not in _DEFAULT_PORTS or not plain or parts.username is not None:
            raise ValueError(f"public_url {url!r} is no address such as https://annotate.example.org")
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError(
                f"public_url {url!r} has a path; other pages of that name could read this one:"
                " give it a name of its own, such as https://annotate.example.org"
            )
        return cls(parts.scheme, name, None if port == _DEFAULT_PORTS[parts.scheme] else port)

    @property
    def origin(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        return f"{self.scheme}://{name}" + ("" if self.port is None else f":{self.port}")

    @property
    def secure(self) -> bool:
        return self.scheme == "https"

    def is_asked(self, host: str) -> bool:
        """Whether a Host header is that of a request which came through the proxy.

        Proxies leave out the port of the name they serve, or keep it (nginx: ``$host``, ``$http_host``).
        """
        name = f"[{self.name}]" if ":" in self.name else self.name
        return host.lower() in (name, f"{name}:{self.port or _DEFAULT_PORTS[self.scheme]}")
