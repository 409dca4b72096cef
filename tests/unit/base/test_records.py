"""Spellings and ids of records: the short ways give what the long ones do."""

from __future__ import annotations

import hashlib
import json

import pytest

from pipeline.base.records import Comparison, canonical_json, digest, row_id

AWKWARD = "".join(map(chr, range(0x30))) + '"\\/\x7f\u2028\u2029ß水😀\ud800'


# Mutation caught: texts between quotes as they are.
@pytest.mark.parametrize("value", [[AWKWARD], ["a", AWKWARD, ""], [], ["a", None], ["a", 1], [["a"]], ("a", "b")])
def test_a_list_of_texts_is_spelled_as_json_spells_it(value: object) -> None:
    assert canonical_json(value) == json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def test_a_text_of_a_class_of_its_own_is_a_text() -> None:
    class Name(str): ...

    assert canonical_json([Name('a"')]) == '["a\\""]'


# Mutations caught: an id that is kept without its comparison; the likeness of the other side.
def test_a_comparison_comes_back_with_what_was_derived_from_it() -> None:
    for one in (Comparison(" q", "x", AWKWARD), Comparison("q ", AWKWARD, "x")):
        again = Comparison.restored(*one.stored())
        fresh = Comparison(one.prompt, one.completion_a, one.completion_b)
        assert again == one
        assert (again.id, again.alike()) == (fresh.id, fresh.alike())
    assert Comparison("q", "x", "y").alike()[0] == Comparison(" q", "y ", "x").alike()[0]
    assert Comparison("q", "x", "y").id == row_id("q", "x", "y") == digest(["q", "x", "y"])
    whole = '["q","x","y"]'
    assert digest(["q", "x", "y"]) == hashlib.sha256(whole.encode()).hexdigest()
