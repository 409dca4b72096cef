"""Two hosts on one machine: two network namespaces joined by a cable that can be pulled; else two addresses."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

CLONE_NEWNET, CLONE_NEWUTS = 0x40000000, 0x04000000


@dataclass(frozen=True)
class Host:
    """One of two hosts.

    Attributes:
        namespace: of its network; None where there may be none, and it is the machine itself.
        interface: by which it reaches the other.
    """

    name: str
    address: str
    namespace: str | None
    interface: str

    def command(self, *command: str) -> list[str]:
        """A command line that runs on this host."""
        if self.namespace is None:
            return list(command)
        named = 'hostname "$0" && exec "$@"'
        return ["ip", "netns", "exec", self.namespace, "unshare", "--uts", "sh", "-c", named, self.name, *command]

    def enter(self) -> None:
        """Move this process, which has one thread, to this host."""
        if self.namespace is None:
            return
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{self.namespace}") as namespace:
            if libc.setns(namespace.fileno(), CLONE_NEWNET) or libc.unshare(CLONE_NEWUTS):
                raise OSError(ctypes.get_errno(), "cannot enter the namespace")
        socket.sethostname(self.name)

    def environment(self, rank: int, master: Host, port: int, size: int = 2) -> dict[str, str]:
        """What a launcher would set for a process of this host."""
        return {
            "RANK": str(rank),
            "LOCAL_RANK": "0",
            "WORLD_SIZE": str(size),
            "MASTER_ADDR": master.address,
            "MASTER_PORT": str(port),
            "GLOO_SOCKET_IFNAME": self.interface,
        }


@dataclass(frozen=True)
class TwoHosts:
    """Attributes:
    first, second: the hosts.
    cable: whether :meth:`pull` works.
    """

    first: Host
    second: Host

    @property
    def cable(self) -> bool:
        return self.second.namespace is not None

    def pull(self) -> None:
        """Pull the cable: packets are lost, and nobody is told."""
        assert self.second.namespace is not None
        _ip("-n", self.second.namespace, "link", "set", self.second.interface, "down")

    def plug(self) -> None:
        assert self.second.namespace is not None
        _ip("-n", self.second.namespace, "link", "set", self.second.interface, "up")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@contextmanager
def two_hosts() -> Iterator[TwoHosts]:
    """Two hosts in namespaces, by ``ip`` as root; where that is not allowed, 127.0.0.1 and 127.0.0.2."""
    with ExitStack() as stack:
        try:
            yield stack.enter_context(_namespaces())
        except _NotAllowed:
            here = socket.gethostname()
            yield TwoHosts(Host(here, "127.0.0.1", None, "lo"), Host(here, "127.0.0.2", None, "lo"))


class _NotAllowed(Exception):
    pass


@contextmanager
def _namespaces() -> Iterator[TwoHosts]:
    if shutil.which("ip") is None or os.geteuid() != 0:
        raise _NotAllowed
    mark = f"{os.getpid() % 100000}"
    hosts = [
        Host(f"host-{n}", f"10.213.7.{i}", f"rlhf-{n}-{mark}", f"v{n}{mark}") for i, n in ((1, "a"), (2, "b"))
    ]
    names = [host.namespace or "" for host in hosts]
    with ExitStack() as stack:
        try:
            for name in names:
                _ip("netns", "add", name)
                stack.callback(subprocess.run, ["ip", "netns", "delete", name], check=False, capture_output=True)
            first, second = hosts
            ends = ["name", first.interface, "netns", names[0], "type", "veth"]
            _ip("link", "add", *ends, "peer", "name", second.interface, "netns", names[1])
            for name in names:  # where ``ip netns exec`` shows it as /etc/hosts
                own = Path("/etc/netns", name)
                stack.callback(shutil.rmtree, own, ignore_errors=True)
                own.mkdir(parents=True)
                lines = ["127.0.0.1 localhost", *(f"{host.address} {host.name}" for host in hosts)]
                (own / "hosts").write_text("\n".join(lines) + "\n")
            for host, name in zip(hosts, names, strict=True):
                _ip("-n", name, "address", "add", f"{host.address}/24", "dev", host.interface)
                for link in ("lo", host.interface):
                    _ip("-n", name, "link", "set", link, "up")
            subprocess.run(first.command("true"), check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as err:
            raise _NotAllowed from err
        yield TwoHosts(*hosts)
