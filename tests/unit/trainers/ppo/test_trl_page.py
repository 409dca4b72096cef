"""docs/trl.md says what the marked tests prove, and the marked tests run TRL."""

from __future__ import annotations

from tests.generated.trl_page import AGREES, GROUPS, PAGE, page, proofs

RUNS_TRL = ("TRLTrainer", "launch('trl'")


def test_the_page_is_made_from_the_tests():
    text = PAGE.read_text(encoding="utf-8")
    assert page(text) == text, "make generated"


# Mutation caught: a difference claimed by a test that looks at ours alone.
def test_a_difference_is_shown_on_both():
    marked = proofs()
    assert {proof.group for proof in marked} == {*GROUPS, AGREES}
    assert len({proof.statement for proof in marked}) == len(marked) > 30
    for proof in marked:
        assert proof.statement.endswith("."), proof.statement
        assert "|" not in proof.statement
        if proof.group != AGREES:
            assert any(word in proof.source for word in RUNS_TRL), proof.test
