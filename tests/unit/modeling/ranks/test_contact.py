"""One rank notices that another is gone, by its silence or by what it said last."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from torch.distributed import DistNetworkError

from pipeline.base.errors import ConfigError, LostRankError, ModelError, PipelineError
from pipeline.modeling.ranks import contact as module
from pipeline.modeling.ranks.contact import ENDED, Contact, in_contact, is_broken
from pipeline.modeling.ranks.exchange import rank_timeout


class Table(dict[str, bytes]):
    """A store without a server."""

    def set(self, key: str, value: str) -> None:
        self[key] = value.encode()

    def multi_get(self, keys: list[str]) -> list[bytes]:
        return [self[key] for key in keys]


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Table:
    """What three ranks said, of which this is the first."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RLHF_RANK_TIMEOUT", "60")
    said = Table({"1": b"0", "2": b"0"})
    monkeypatch.setattr(Contact, "_connect", lambda self: said)
    monkeypatch.setattr(module, "prefixed", lambda store, name: store)
    monkeypatch.setattr(module, "together", lambda message, name: [message, {"host": "b"}, {"host": "c"}])
    return said


class Turns:
    """An event that is set after some waits."""

    def __init__(self, count: int) -> None:
        self.left = count

    def wait(self, seconds: float) -> bool:
        self.left -= 1
        return self.left < 0

    def is_set(self) -> bool:
        return False

    def set(self) -> None:
        pass


def contact(turns: int = 0) -> Any:
    made: Any = Contact("ppo", lambda: "The last checkpoint is that of step 7.")
    made.stopped = Turns(turns)
    return made


def clock(monkeypatch: pytest.MonkeyPatch, *times: float) -> None:
    ticks: Iterator[float] = iter(times)
    monkeypatch.setattr(module.time, "monotonic", lambda: next(ticks))


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The statuses with which the process was ended, if it were not for the test."""
    statuses: list[int] = []
    monkeypatch.setattr(module.os, "_exit", statuses.append)
    return statuses


def test_a_silent_rank_ends_the_process(
    table: Table, monkeypatch: pytest.MonkeyPatch, ended: list[int], capsys: pytest.CaptureFixture[str]
):
    made = contact(1)
    clock(monkeypatch, *map(float, range(63)))
    table.set("1", ENDED)  # which is through, and no longer gives signs
    made._talk()
    made.stopped = Turns(61)
    made._listen()
    assert ended == [75]
    assert capsys.readouterr().err == (
        "error: ppo: rank 2 of 3 on c lost contact 61 s ago. The last checkpoint is that of step 7. "
        "Run the same command again, with any number of ranks.\n"
    )


# Seen failing with: silence by the clock, which ends every rank of a machine that was suspended.
def test_time_in_which_this_process_stood_still_is_no_silence(
    table: Table, monkeypatch: pytest.MonkeyPatch, ended: list[int]
):
    made = contact(3)
    clock(monkeypatch, 0.0, 1.0, 3600.0, 3601.0)
    made._listen()
    assert ended == []
    assert made.silent[1] == 4.0


def test_a_sign_ends_the_silence(table: Table):
    made = contact(1)
    made.silent = [0.0, 50.0, 50.0]
    made.words = ["", "4", "9"]
    table.update({"1": b"5", "2": b"9"})
    made._talk()
    assert made.silent == [0.0, 0.0, 50.0]


def test_the_error_of_another_rank_is_passed_on(table: Table):
    made = contact()
    made.leave(ModelError("ppo.reward", "the scores are not all finite.", "Give a number for each."))
    assert json.loads(table["0"]) == ["ppo.reward", "the scores are not all finite.", "Give a number for each."]
    made.words = ["", "3", table["0"].decode()]
    problem = made._gone(1e9)
    assert problem.status == 2
    assert str(problem) == (
        "ppo: rank 2 of 3 on c: ppo.reward: the scores are not all finite. Give a number for each."
    )
    made.leave(KeyError("x"))
    made.words[2] = table["0"].decode()
    assert str(made._gone(1e9)) == "ppo: rank 2 of 3 on c: ended in KeyError: 'x'. See its output."


@pytest.mark.parametrize(
    ("err", "broken"),
    [
        (RuntimeError("[/gloo/transport/tcp/pair.cc:544] Connection closed by peer [10.0.0.2]:9"), True),
        (RuntimeError("Timed out waiting 1800000ms for recv operation to complete"), True),
        (DistNetworkError("failed to recv, got 0 bytes"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("Connection closed by peer"), False),
    ],
)
def test_which_errors_are_of_a_broken_connection(err: Exception, broken: bool):
    assert is_broken(err) == broken


def test_a_broken_connection_names_the_silent_rank(table: Table, monkeypatch: pytest.MonkeyPatch):
    def silent(self: Contact) -> None:
        self.silent[1] = 100.0

    monkeypatch.setattr(Contact, "start", silent)
    monkeypatch.setattr(module.signal, "signal", lambda *_: None)
    monkeypatch.setattr(Contact, "end_soon", lambda *_: None)
    with pytest.raises(LostRankError, match="rank 1 of 3 on b lost contact 100 s ago"), in_contact("ppo", str):
        raise RuntimeError("Connection closed by peer")
    with pytest.raises(ZeroDivisionError), in_contact("ppo", str):
        raise ZeroDivisionError("x")
    assert json.loads(table["0"])[1] == "ended in ZeroDivisionError: x."
    with in_contact("ppo", str):
        pass
    assert table["0"] == ENDED.encode()


@pytest.mark.parametrize("text", ["soon", "0", "nan", "-5", "1e9"])
def test_a_timeout_that_is_none(text: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RLHF_RANK_TIMEOUT", text)
    with pytest.raises(ConfigError, match=r"RLHF_RANK_TIMEOUT: .* is not a number of seconds from 1"):
        rank_timeout()
    monkeypatch.setenv("RLHF_RANK_TIMEOUT", "")
    assert rank_timeout() == 300


def test_statuses():
    assert (PipelineError.status, LostRankError.status) == (2, 75)
