"""The URL of ``label.database``, and where a project's answers are."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pipeline.base.errors import ConfigError, StoreError
from pipeline.labelling.log.log import Log
from pipeline.labelling.log.opening import URL_FILE, open_database
from pipeline.labelling.log.postgres_url import PostgresUrl
from pipeline.labelling.settings import LabelSection

pytestmark = pytest.mark.sqlite


@pytest.mark.parametrize(
    ("text", "host", "port", "user", "database", "sslmode", "shown"),
    [
        ("postgresql://ann@db.lab:6000/votes", "db.lab", 6000, "ann", "votes", "verify-full", None),
        ("postgres://ann@[::1]/votes", "::1", 5432, "ann", "votes", "disable", "postgresql://ann@[::1]:5432/votes"),
        ("postgresql://ann@10.0.0.3/?sslmode=require", "10.0.0.3", 5432, "ann", "ann", "require",
         "postgresql://ann@10.0.0.3:5432/ann"),
        ("postgresql://a%40b@/votes?host=/run/postgresql", "/run/postgresql", 5432, "a@b", "votes", "disable",
         "postgresql://a@b@/votes?host=/run/postgresql"),
    ],
)  # fmt: skip
def test_parts_of_a_url(
    text: str, host: str, port: int, user: str, database: str, sslmode: str, shown: str | None
) -> None:
    url = PostgresUrl.parse(text)
    assert (url.host, url.port, url.user, url.database, url.sslmode) == (host, port, user, database, sslmode)
    assert str(url) == (shown or text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("mysql://ann@db/votes", "should be the URL of a PostgreSQL database"),
        ("votes.sqlite3", "should be the URL of a PostgreSQL database"),
        ("postgresql://ann:secret@db/votes", "has a password"),
        ("postgresql://ann@db/votes?sslmode=prefer", "sslmode=prefer"),
        ("postgresql://ann@db/votes?connect_timeout=3", "connect_timeout"),
        ("postgresql://ann@db:x/votes", "port"),
    ],
)
def test_urls_that_are_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        LabelSection(database=text)
    assert str(caught.value).startswith("database ")
    assert "secret" not in str(caught.value)


def test_a_server_of_another_host_proves_who_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "x")
    arguments = PostgresUrl.parse("postgresql://ann@db.lab/votes").arguments()
    assert arguments["password"] == "x"
    assert arguments["ssl_context"].check_hostname
    encrypted = PostgresUrl.parse("postgresql://ann@db.lab/votes?sslmode=require").arguments()["ssl_context"]
    assert not encrypted.check_hostname
    assert PostgresUrl.parse("postgresql://ann@localhost/votes").arguments()["ssl_context"] is False


def test_answers_stay_where_they_are(tmp_path: Path) -> None:
    url, directory = "postgresql://ann@127.0.0.1/votes", tmp_path / "x-labels"
    Log(directory).close()
    with pytest.raises(ConfigError, match=r"label\.database: .* there are answers in .*sqlite3 already"):
        open_database(directory, url)
    moved = tmp_path / "y-labels"
    moved.mkdir()
    (moved / URL_FILE).write_text("postgresql://ann@127.0.0.1/others\n")
    with pytest.raises(ConfigError, match=r"but the answers are in postgresql://ann@127.0.0.1/others"):
        open_database(moved, url)
    (moved / URL_FILE).write_text("")
    with pytest.raises(StoreError, match=r"database\.url: is empty"):
        open_database(moved)


def test_without_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pg8000", None)
    with pytest.raises(ConfigError, match="needs the package pg8000"):
        open_database(tmp_path / "x-labels", "postgresql://ann@127.0.0.1/votes")
    assert not (tmp_path / "x-labels").exists()
