"""Diversity in the verdict, on the page and in its picture."""

from __future__ import annotations

import pytest

from pipeline.reporting.figures.diversity import diversity_frontier, trade
from pipeline.reporting.figures.sweep import Evaluated, sweep_diversity
from pipeline.reporting.pictures import of_diversity
from tests.unit.reporting.given import entry, evaluation, newer, newer_json, varied_json


def test_the_picture_shows_gold_where_there_is_gold() -> None:
    json = newer_json(diversity=varied_json())
    for row in json["best_of_n"]["rows"]:
        row["gain"] = {m: entry(row[m]["value"] - 0.1, -0.1, 1.0) for m in ("gold_score", "score")}
    given = evaluation(json)
    drawn = trade(given)
    assert drawn is not None
    assert (drawn.measure, drawn.base, drawn.prompts, len(drawn.best_of_n)) == ("gold_score", 38.0, 64, 2)
    assert drawn.policy.closings.value == 4.0
    assert drawn.policy.gain.value == pytest.approx(0.46)
    diversity_frontier(drawn)
    blind = evaluation(json | {"gold_score": None})
    assert trade(blind) is not None
    assert "no evidence" in of_diversity(blind)[0].caption
    assert sweep_diversity([Evaluated("a", given), Evaluated("b", given)]) is not None
    assert trade(newer()) is None
    assert of_diversity(newer()) == []
    assert sweep_diversity([Evaluated("a", newer())]) is None
    # Best-of-n was off: nothing to be compared with.
    assert trade(newer(diversity=varied_json(best_of_n=None))) is None
