"""The rate at which one person's answers are taken, as the page is served."""

from __future__ import annotations

import pytest

from pipeline.labelling.web.request_checks import Rate, Refusal


# A key held down repeats about thirty times a second; a page that was offline sends what it kept, one by one.
# Mutation caught: another number of events in a second.
def test_twenty_answers_in_a_second_and_no_more() -> None:
    now = [0.0]
    rate = Rate(clock=lambda: now[0])
    for _ in range(20):
        rate.check("p_1")
    with pytest.raises(Refusal, match="More than 20 answers in a second"):
        rate.check("p_1")
    now[0] = 0.5
    for _ in range(10):
        rate.check("p_1")
    with pytest.raises(Refusal) as caught:
        rate.check("p_1")
    assert caught.value.status == 429
