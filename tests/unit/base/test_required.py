"""What versions ask for is only ever added to."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.base.errors import StoreError
from pipeline.base.required import REQUIRED, strictest
from pipeline.store.store import Store
from tests.helpers.versions import publish


@pytest.mark.parametrize(
    ("asked", "all_of_it"),
    [
        ([{"consent": True}, {"consent": False}], {"consent": True}),
        ([{"consent": False}, {"consent": True}, None], {"consent": True}),
        ([{"harm": 0.2}, {"harm": 0.1}, {"harm": None}], {"harm": 0.1}),
        ([{"harm": 0}, {"harm": 1}], {"harm": 0}),  # 0 is a limit, not the absence of one
        (
            [{"data": {"email": 3, "all": 9}}, {"data": {"all": 5}}, {"data": {}}],
            {"data": {"email": 3, "all": 5}},
        ),
        ([{"data": {}}, {"sign_off": False}, {}], {}),
    ],
)
def test_of_two_the_stricter_one(asked: list[Any], all_of_it: dict[str, Any]):
    assert strictest(*asked) == all_of_it
    assert strictest(*reversed(asked)) == all_of_it


@pytest.mark.parametrize(
    "asked", [[{"consent": "no"}], [{"consent": True}, {"consent": 0.1}], [["consent"]], [{"a": float("nan")}]]
)
def test_what_is_no_requirement_weakens_none(asked: list[Any]):
    # Mutation caught: a value of another kind taking the place of the one before it.
    with pytest.raises(StoreError, match="which is no requirement"):
        strictest(*asked, where="x@v1")


def test_a_version_asks_for_what_its_parents_ask_for(store: Store):
    strict = publish(store, name="rows", governance={REQUIRED: {"sign_off": True, "harm": 0.1}})
    lax = publish(store, name="other", parents=[(strict, "x")], governance={REQUIRED: {"harm": 0.5, "a": False}})
    plain = publish(store, name="third", parents=[(lax, "x")])
    assert plain.manifest.governance == {REQUIRED: {"sign_off": True, "harm": 0.1}}
    assert publish(store, name="alone").manifest.governance == {}
