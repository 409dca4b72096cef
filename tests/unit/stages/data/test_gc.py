"""``python -m pipeline data gc`` asks before it removes."""

from __future__ import annotations

import io

import pytest

from pipeline.base.errors import ConfigError
from pipeline.stages.data import data
from pipeline.store.store import Store
from tests.helpers.versions import publish_votes


class Terminal(io.StringIO):
    """A keyboard at which somebody types."""

    def isatty(self) -> bool:
        return True


# Seen failing with: collected without a question, or without --yes where nobody can be asked.
@pytest.mark.parametrize(
    ("answer", "flags", "left"),
    [("y\n", [], 1), ("\n", [], 2), ("n\n", [], 2), (None, [], 2), (None, ["--yes"], 1)],
)
def test_gc_says_what_would_go_and_asks(
    store: Store,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    answer: str | None,
    flags: list[str],
    left: int,
) -> None:
    for ids in ("a", "ab"):
        publish_votes(store, ids)
    monkeypatch.setattr("sys.stdin", io.StringIO() if answer is None else Terminal(answer))
    if answer is None and not flags:
        with pytest.raises(ConfigError, match=r"nobody is there to be asked. Add --yes"):
            data.main(["gc", "--root", str(store.root)])
    else:
        assert data.main(["gc", *flags, "--root", str(store.root)]) == 0
    said = capsys.readouterr().out
    assert "prefs@v000001" in said
    assert ("freed" in said) == (left == 1)
    assert len(store.versions("prefs")) == left
    # Nothing to collect is nothing to ask.
    store.gc()
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert data.main(["gc", "--root", str(store.root)]) == 0
