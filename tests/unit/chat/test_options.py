"""The commands that chat and try name when they end."""

from __future__ import annotations

from argparse import Namespace
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.chat.options import publishing


# Seen failing: with --reader or another data directory, the named command found no vote.
@pytest.mark.parametrize(
    ("reader", "root", "said"),
    [
        (None, "data", "make chat RUN=news PUBLISH=1"),
        ("Ada", "data", "make chat RUN=news-r1-policy@v000001 PUBLISH=1"),
        (None, "/d", 'make chat RUN=news PUBLISH=1 ARGS="--root /d"'),
    ],
)
def test_the_command_that_publishes_finds_the_votes(reader: str | None, root: str, said: str) -> None:
    served: Any = SimpleNamespace(policy=SimpleNamespace(ref="news-r1-policy@v000001"))
    assert publishing("chat", Namespace(policy="news", reader=reader, root=root), served) == said
