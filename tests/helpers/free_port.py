"""A port for a server that starts later, or again: nobody else is given it in between."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_GIVEN_OUT = Path("/proc/sys/net/ipv4/ip_local_port_range")
_WIDTH = 12_000


def free_port() -> int:
    """A port below those that the system gives to whoever asks for any, which clients do too."""
    lowest = int(_GIVEN_OUT.read_text().split()[0]) if _GIVEN_OUT.exists() else 32_768
    below = range(max(1024, lowest - _WIDTH), lowest) or range(1024, 65_536)
    draw = random.SystemRandom()  # tests at the same time may have the same seed
    while True:
        port = draw.choice(below)
        with socket.socket() as bound:
            try:
                bound.bind(("", port))
            except OSError:
                continue
        return port
