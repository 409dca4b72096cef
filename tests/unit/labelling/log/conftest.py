"""Every test of the log runs on SQLite, and again on PostgreSQL (thorough) unless it is marked ``sqlite``."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.labelling.log.log import Log
from pipeline.labelling.log.opening import open_database
from tests.helpers.postgres_server import PostgresServer
from tests.unit.labelling.helpers import ITEMS, open_log

log_module = importlib.import_module("pipeline.labelling.log.log")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    params: list[Any] = ["sqlite"]
    if metafunc.definition.get_closest_marker("sqlite") is None:
        params.append(pytest.param("postgres", marks=pytest.mark.thorough))
    metafunc.parametrize("backend", params, indirect=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    server.start()
    yield server
    server.remove()


@pytest.fixture(autouse=True)
def backend(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the logs of this test are; each test has its own schemas in PostgreSQL."""
    if request.param == "postgres":
        url, prefix = request.getfixturevalue("postgres").url, tmp_path.name

        def opened(directory: Path, _: str | None = None, **options: Any) -> Any:
            place = directory.with_name(f"{prefix}-{directory.name}")
            return open_database(place, url, **options)

        monkeypatch.setattr(log_module, "open_database", opened)
    return request.param


@pytest.fixture
def log(backend: str, tmp_path: Path) -> Iterator[Log]:
    log = open_log(tmp_path / "labels", ITEMS)
    yield log
    log.close()


@pytest.fixture
def who(log: Log) -> str:
    return log.people.add("first").id
