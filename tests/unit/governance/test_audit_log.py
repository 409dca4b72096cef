"""The chain: a change is named, an unfinished line is none, and a kill loses nothing that was said."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.base.errors import StoreError
from pipeline.governance.audit_log import AuditLog
from tests.helpers.dying import die_before_every_step


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    log = AuditLog(tmp_path)
    for number in range(4):
        log.append("approved", "Ann", {"ref": f"p@v{number}", "note": "read"})
    return log


def lines(log: AuditLog) -> list[str]:
    return log.path.read_text().splitlines()


def rewrite(log: AuditLog, new: list[str]) -> None:
    log.path.write_text("".join(f"{line}\n" for line in new))


def edited(old: list[str]) -> list[str]:
    return [old[0].replace("Ann", "Bob"), *old[1:]]


def test_events_come_back(log: AuditLog):
    assert [(e.number, e.by, e.facts["ref"]) for e in log.events()] == [
        (n + 1, "Ann", f"p@v{n}") for n in range(4)
    ]
    assert log.problems() == []
    assert AuditLog(log.directory.parent / "empty").events() == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        pytest.param(edited, "line 1 was changed, moved or removed", id="a word"),
        pytest.param(
            lambda old: [old[0], old[2], old[1], old[3]], "line 2 was changed, moved or removed", id="swap"
        ),
        pytest.param(lambda old: [old[0], *old[2:]], "line 2 was changed, moved or removed", id="one gone"),
        pytest.param(lambda old: old[1:], "line 1 was changed, moved or removed", id="the first gone"),
        pytest.param(lambda old: [*old[:2], "{}", *old[2:]], "line 3 was changed, moved or removed", id="added"),
        pytest.param(lambda old: [*old[:3], "not JSON"], "line 4 was changed, moved or removed", id="no JSON"),
        # Mutation caught: head.json not read.
        pytest.param(lambda old: old[:3], "events are missing at the end: there were 4, and 3 are left", id="cut"),
        pytest.param(lambda old: [], "events are missing at the end: there were 4, and 0 are left", id="emptied"),
    ],
)
def test_every_change_is_named(log: AuditLog, change: Callable[[list[str]], list[str]], problem: str):
    rewrite(log, change(lines(log)))
    assert log.problems() == [problem]
    with pytest.raises(StoreError, match=problem):
        log.events()
    # Fails closed: nothing is written after a change.
    before = log.path.read_bytes()
    with pytest.raises(StoreError):
        log.append("approved", "Ann", {})
    assert log.path.read_bytes() == before


def test_a_line_with_a_new_hash_breaks_the_next(log: AuditLog):
    # Mutation caught: the event before is not among what is hashed.
    events = log.events()
    forged = AuditLog(log.directory.parent / "other")
    forged.append("approved", "Bob", dict(events[0].facts))
    rewrite(log, [lines(forged)[0], *lines(log)[1:]])
    assert log.problems() == ["line 2 was changed, moved or removed"]


def test_head(log: AuditLog):
    log.head.write_text(json.dumps({"number": 4, "hash": "0" * 64}))
    assert log.problems() == ["head.json names another last event"]
    log.head.unlink()
    assert log.problems() == ["head.json is missing"]


def test_a_noted_hash_shows_a_log_that_was_written_anew(log: AuditLog, tmp_path: Path):
    noted = log.events()[2].hash
    assert log.problems(noted) == []
    other = AuditLog(tmp_path / "other")
    other.append("approved", "Ann", {})
    assert other.problems() == []
    assert other.problems(noted) == [f"no event has the hash {noted}: the log was cut or written anew"]


def test_an_unfinished_line_was_never_said(log: AuditLog):
    whole = log.path.read_bytes()
    log.path.write_bytes(whole + b'{"number": 5, "ti')
    assert log.problems() == []
    log.append("withdrawn", "Ann", {"ref": "p@v0"})
    assert log.path.read_bytes().startswith(whole + b'{"by"')
    assert len(log.events()) == 5


def test_several_append_at_once(tmp_path: Path):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda k: AuditLog(tmp_path).append("approved", str(k), {}), range(20)))
    assert [e.number for e in AuditLog(tmp_path).events()] == list(range(1, 21))


def test_a_kill_at_any_step(tmp_path: Path):
    (tmp_path / "before").mkdir()
    AuditLog(tmp_path / "before").append("approved", "Ann", {"ref": "a"})
    code = """
    from pipeline.governance.audit_log import AuditLog
    def work(root):
        AuditLog(root).append("approved", "Bob", {"ref": "b"})
    """
    copies = die_before_every_step(tmp_path, code, ("replace", "truncate", "fsync", "open"))
    assert len(copies) > 3
    for copy in copies:
        log = AuditLog(copy)
        assert log.problems() == []
        log.append("approved", "Cy", {"ref": "c"})
        assert [e.by for e in log.events()] in (["Ann", "Cy"], ["Ann", "Bob", "Cy"])
    assert [e.by for e in AuditLog(copies[-1]).events()] == ["Ann", "Bob", "Cy"]
