"""A PostgreSQL server of the tests' own, on a socket in a temporary directory (Debian's package: postgresql)."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest


def programs() -> Path:
    """The directory of initdb and pg_ctl; skips the test where there is none, or no driver."""
    pytest.importorskip("pg8000", reason="pg8000 is not installed (the extra postgres)")
    places = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    if (on_path := shutil.which("pg_ctl")) is not None:
        places.append(Path(on_path).resolve().parent)
    for place in places:
        if (place / "pg_ctl").exists() and (place / "initdb").exists():
            return place
    pytest.skip("PostgreSQL is not installed")


class PostgresServer:
    """Start, stop at once, start again. Like initdb it does not run as root: then it is the user ``postgres``."""

    def __init__(self, port: int = 5432) -> None:
        self._bin, self.port = programs(), port
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user is not None and self._user not in {entry.pw_name for entry in pwd.getpwall()}:
            pytest.skip("PostgreSQL needs a user of its own (postgres) where the tests run as root")
        self.directory = Path(tempfile.mkdtemp(prefix="pg-"))  # short: a socket's path has 107 bytes at most
        if self._user is not None:
            shutil.chown(self.directory, self._user)
        self._run("initdb", "-D", str(self.directory / "data"), "-U", "tests", "--auth=trust", "--no-sync")

    @property
    def url(self) -> str:
        return f"postgresql://tests@/postgres?host={self.directory}"

    def start(self, options: str = "-c listen_addresses=''") -> None:
        options = f"-k {self.directory} -p {self.port} -c max_connections=60 {options}"
        self._run("pg_ctl", "-D", str(self.directory / "data"), "-w", "-o", options, "-l", self._log, "start")

    def stop_at_once(self) -> None:
        """As a power cut would: what is not on the disk is lost, and the next start recovers."""
        self._run("pg_ctl", "-D", str(self.directory / "data"), "-m", "immediate", "-w", "stop")

    def remove(self) -> None:
        subprocess.run([self._bin / "pg_ctl", "-D", self.directory / "data", "-m", "immediate", "stop"],
                       user=self._user, capture_output=True, check=False)  # fmt: skip
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def _log(self) -> str:
        return str(self.directory / "log")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._bin / program, *arguments],
            user=self._user, cwd=self.directory, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
            stderr=subprocess.STDOUT if program == "initdb" else subprocess.DEVNULL, check=False,
        )  # fmt: skip
        if done.returncode:
            log = Path(self._log).read_text() if Path(self._log).exists() else ""
            raise RuntimeError(f"{program} {' '.join(arguments)}: {done.stdout or ''}{log[-2000:]}")
