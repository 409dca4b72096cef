from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.labelling.log.log import Log
from tests.unit.labelling.helpers import ITEMS, open_log


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = open_log(tmp_path / "labels", ITEMS)
    yield log
    log.close()


@pytest.fixture
def who(log: Log) -> str:
    return log.people.add("first").id
