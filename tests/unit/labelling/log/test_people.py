"""People: ids, names, links and the secret behind them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.base.errors import StoreError
from pipeline.labelling.log.database import Refused
from pipeline.labelling.log.log import Log


def test_people_and_their_links(log: Log) -> None:
    one, two = log.people.add("  first   person "), log.people.add("second")
    assert one.id.startswith("p_")
    assert len(one.id) == 12
    assert log.people.add("first person") == one
    assert (one.name, one.active) == ("first person", True)
    assert log.people.all() == [one, two]
    assert (log.people.by_token(one.token), log.people.by_token(two.token)) == (one, two)
    for wrong in ("", "x", one.token[:-1], one.token.upper(), "\ud800", log.people.operator_token, "é"):
        assert log.people.by_token(wrong) is None
    assert len({one.token, two.token, log.people.operator_token, log.people.salt}) == 4
    log.people.withdraw(one.id)
    assert (log.people.by_token(one.token), log.people.all()[0].active) == (None, False)
    assert log.people.by_token(log.people.all()[0].token) is None
    back = log.people.add("first person")
    assert (back.id, back.active) == (one.id, True)
    # The old link stays dead.
    assert (log.people.by_token(one.token), log.people.by_token(back.token)) == (None, back)
    with pytest.raises(Refused):
        log.people.withdraw("p_0123456789")
    for name in ("", "  ", "a\0b", "\ud800", "x" * 101):
        with pytest.raises(Refused):
            log.people.add(name)


@pytest.mark.sqlite
def test_links_and_the_salt_are_the_same_tomorrow_and_differ_between_projects(tmp_path: Path) -> None:
    logs = [Log(tmp_path / "one"), Log(tmp_path / "one"), Log(tmp_path / "two")]
    logs[0].people.add("first")
    assert logs[0].people.all() == logs[1].people.all()
    assert (logs[0].people.salt, logs[0].people.operator_token) == (
        logs[1].people.salt,
        logs[1].people.operator_token,
    )
    assert logs[0].people.salt != logs[2].people.salt
    assert (tmp_path / "one" / "secret").stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in (tmp_path / "one").iterdir() if "sqlite" not in p.name) == ["secret"]


@pytest.mark.sqlite
def test_a_damaged_secret(tmp_path: Path) -> None:
    Log(tmp_path / "l").close()
    for text in ("", "0" * 63, "é" * 64):
        (tmp_path / "l" / "secret").write_text(text)
        with pytest.raises(StoreError, match="secret: is damaged"):
            Log(tmp_path / "l")
