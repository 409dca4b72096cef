"""Broken completions, told from their text alone."""

from __future__ import annotations

import pytest

from pipeline.evaluation.policy.degenerate import degenerate, degenerate_rate
from pipeline.results.policy import DegenerateRate
from pipeline.statistics.bootstrap import wilson

LONG = "We saw the film with my sister in May on a rainy evening, and talked about its music until late at night. "


@pytest.mark.parametrize(
    ("text", "ended", "kind"),
    [
        ("A fine film.", True, None),
        ("  \n ", True, "empty"),
        ("... !!! ??? ...", True, "no words"),
        ("42", True, None),
        ("No, no, no!", True, None),
        ("no no no no", True, None),
        ("It was good. It was good. I liked it.", True, None),
        ("very very very very very good", True, "loop"),
        ("It was good. It was good. It was good. It was good.", True, "loop"),
        # Three rounds, and nothing after the last one: no blank, no mark.
        ("The lid was nice. It is worth it all. It is worth it all. It is worth it all.", True, "loop"),
        ("It is good; it is good; it is good", True, "loop"),
        (LONG + "I love it a lot. I love it a lot. I love it a lot.", True, "ends in a loop"),
        (LONG + "I love it a lot. I love it a lot. I love it a lot. But not all.", True, None),
        (LONG + "It was so very very very very", True, None),
        ("aaaaaaaaaaaaaaaa", True, "loop"),
        ("\u597d\u7684" * 8, True, "loop"),
        ("I saw the film with my sister in May and the end was so so so so so so so", False, "cut in a loop"),
        ("I saw the film with my sister in May and the end was so so so so so so so", True, None),
        ("I saw the film, then my sister saw the film, then my brother saw it too.", False, None),
        # A loop of two fifths of the text, and one of more than half.
        ("I saw it with a friend and it was all right for a while, " + "very " * 8, True, None),
        ("I saw it with a friend and it was all right for a while, " + "very " * 14, True, "loop"),
        ("Maybe maybe maybe maybe. Then the plot turned and all of us were glad that", False, None),
    ],
)
def test_degenerate(text: str, ended: bool, kind: str | None) -> None:
    assert degenerate(text, ended) == kind


# Catches: completions as the unit, a rate of what is fine.
def test_degenerate_rate_by_hand() -> None:
    found = degenerate_rate(["", "good", "bad", "a a a a a a a a a a"], [True] * 4, per_prompt=2)
    assert found == DegenerateRate(**vars(wilson(1, 2)), kinds={"empty": 1, "loop": 1})
