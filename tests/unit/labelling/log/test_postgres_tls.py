"""Connections to a PostgreSQL server over TLS: who is verified, who is refused, in words."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pipeline.base.errors import ConfigError
from pipeline.labelling.log.log import Log
from tests.helpers.postgres_server import PostgresServer

pytestmark = [pytest.mark.sqlite, pytest.mark.thorough]  # sqlite: it opens its own


class Endpoint(NamedTuple):
    port: int
    certificate: str


@pytest.fixture(scope="module")
def server() -> Iterator[Endpoint]:
    """Takes TLS alone on 127.0.0.1; its certificate is for `localhost`."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]
    postgres = PostgresServer(number)
    certificate, key = postgres.directory / "server.crt", postgres.directory / "server.key"
    request = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2")
    subprocess.run([*request, *names, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    owner = (postgres.directory / "data").stat().st_uid
    for path in (certificate, key):
        os.chown(path, owner, -1)
        path.chmod(0o600 if path == key else 0o644)
    (postgres.directory / "data" / "pg_hba.conf").write_text("local all all trust\nhostssl all all all trust\n")
    tls = f"-c ssl=on -c ssl_cert_file={certificate} -c ssl_key_file={key}"
    postgres.start(f"-c listen_addresses=127.0.0.1 {tls}")
    postgres.directory.chmod(0o755)
    yield Endpoint(number, str(certificate))
    postgres.remove()


def _answers(directory: Path, host: str, port: int, sslmode: str) -> bool:
    log = Log(directory, f"postgresql://tests@{host}:{port}/postgres?sslmode={sslmode}")
    who = log.people.add("first").id
    log.close()
    return bool(who)


def test_a_certificate_that_is_trusted_and_of_this_host(
    server: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", server.certificate)
    assert _answers(tmp_path / "a-labels", "localhost", server.port, "verify-full")


def test_what_is_not_verified_is_refused(
    server: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"cannot be verified \(self-signed certificate\)\. .*SSL_CERT_FILE"):
        _answers(tmp_path / "b-labels", "localhost", server.port, "verify-full")
    monkeypatch.setenv("SSL_CERT_FILE", server.certificate)
    with pytest.raises(ConfigError, match=r"cannot be verified \(IP address mismatch.*127\.0\.0\.1"):
        _answers(tmp_path / "c-labels", "127.0.0.1", server.port, "verify-full")


def test_disabled_is_not_encrypted(server: Endpoint, tmp_path: Path) -> None:
    """Seen failing with the driver's default, which tries TLS first."""
    with pytest.raises(ConfigError, match=r"refuses us .*no encryption"):
        _answers(tmp_path / "d-labels", "127.0.0.1", server.port, "disable")


def test_encrypted_to_whom_is_not_known(server: Endpoint, tmp_path: Path) -> None:
    assert _answers(tmp_path / "e-labels", "127.0.0.1", server.port, "require")
