"""What needs no validator is what the validator would return."""

from __future__ import annotations

from itertools import product
from typing import Any, Literal

import pytest

from pipeline.base.errors import ConfigError
from pipeline.workflow.key_checks import unknown_and_mistyped
from pipeline.workflow.key_checks.unknown_and_mistyped import accepted

HINTS: list[Any] = [
    *(int, float, str, bool, Any, dict[str, Any], dict[str, str], list[str], list[float], Literal["a", "b"]),
    *(int | None, float | None, str | None, int | float, float | str, str | list[str], Literal["a", 1] | None),
    *(list[Literal["a", "b"]], dict[str, float] | None, dict[str, Any] | str | list[str] | None, dict, list),
]
VALUES: list[Any] = [
    *(
        0,
        1,
        -3,
        10**400,
        1.5,
        float("inf"),
        True,
        False,
        None,
        "a",
        "b",
        "c",
        "",
        "1",
        "1.5",
        "1e-3",
        "3E+2",
        ".5",
    ),
    *(
        "1.",
        "-1",
        "1_000",
        " 1",
        "1\n",
        "inf",
        "nan",
        "0x1",
        "１",
        "1e999",
        [],
        ["a"],
        ["a", 1],
        [1, 2.5],
        ["1e-3"],
    ),
    *({}, {"a": "b"}, {"a": 1}, {"a": 1.5}, {1: "a"}, {"a": {"b": [1]}}, {"a": None}),
]


# Mutations caught: 1 passes for a float as it is; True for 1 of a Literal; a mapping with a number as a key.
@pytest.mark.parametrize("hint", HINTS, ids=str)
def test_converted_as_the_validator_does(hint: Any, monkeypatch: pytest.MonkeyPatch):
    quick = [repr(accepted(hint, [value])) for value in VALUES]
    monkeypatch.setattr(unknown_and_mistyped, "_is_one", lambda *_: False)
    monkeypatch.setattr(unknown_and_mistyped, "DECIMAL", unknown_and_mistyped.re.compile("(?!)"))
    assert quick == [repr(accepted(hint, [value])) for value in VALUES]


def test_a_container_is_a_copy():
    for value, hint in product([{"a": 1}, ["a"]], [Any, dict[str, Any] | list[str]]):
        (made,) = accepted(hint, [value])
        assert made == value
        assert hint is Any or made is not value


def test_a_wrong_type_is_named():
    with pytest.raises(ConfigError, match=r"x = 'a' should be a whole number"):
        unknown_and_mistyped._convert("a", int, "x.yaml", "x")
