"""Diversity in the verdict, on the page and in its picture."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.evaluation.policy.headline import headline, verdict
from pipeline.reporting import diversity_rows
from pipeline.reporting.figures.diversity import diversity_frontier, trade
from pipeline.reporting.figures.sweep import Evaluated, sweep_diversity
from pipeline.reporting.page import Report, render_page
from pipeline.reporting.pictures import of_diversity
from tests.unit.reporting.given import change, entry, evaluation, newer, newer_json, stats, varied_json


# Catches: a collapse told after the rise, or in a verdict that is still called good.
def test_collapsed_comes_before_rose() -> None:
    mood, sentences = verdict(stats(diversity=varied_json()))
    assert mood == "bad"
    assert sentences[0] == (
        "Collapsed: 4.5 effective closing sentences, base 83 (0.05 [0.05, 0.06]); "
        '52 % end in "My friends <loved> it." (base: 1 %).'
    )
    assert sentences[1].startswith("Gold score rose from 0.11 to 0.57")
    assert len(sentences) == 2


def test_diversity_is_in_the_first_lines_of_a_healthy_run() -> None:
    mood, sentences = verdict(stats(diversity=varied_json(collapsed=False)))
    assert mood == "good"
    assert sentences[0].startswith("Gold score rose")
    assert sentences[1] == (
        "Diversity: 79 effective closing sentences, base 83 (0.95 [0.86, 1.05]); "
        '5 % end in "It works." (base: 4 %).'
    )
    assert len(verdict(stats())[1]) == 1  # an evaluation of before


def test_a_collapse_of_what_completions_begin_with() -> None:
    fallen = varied_json()
    fallen["collapse"] |= {"place": "begin"}
    fallen["opening"]["policy"]["text"] = ""
    assert "; 52 % are empty (base" in headline(stats(diversity=fallen))[1]


# Catches: a proxy's rise that reads as success where nothing knows the truth.
@pytest.mark.parametrize("judges", [{}, {"other": newer_json()["judges"]["classifier"]}])
def test_a_task_without_truth_says_so_first_and_offers_a_judge(judges: dict[str, Any]) -> None:
    mood, text = headline(stats(gold_score=None, judges=judges))
    assert mood == "unknown"
    assert text.startswith("Not known whether it worked: this task has no gold score.")
    assert "no evidence" in text
    assert ("other prefers the policy on 0.70 [0.60, 0.80]" if judges else "evaluate.judges") in text


def test_the_page_names_the_sentences_with_both_shares() -> None:
    page = render_page(Report("demo", evaluation=newer(diversity=varied_json())))
    assert page.index("Collapsed:") < page.index("Gold score rose")
    assert '<section id="diversity">' in page
    assert "My friends &lt;loved&gt; it." in page
    assert "0.52 [0.50,\u00a00.54]" in page
    assert "Closing sentences, PPO beside best-of-n" in page
    assert '<section id="diversity">' not in render_page(Report("demo", evaluation=newer()))


def test_rows_by_hand() -> None:
    rows = {row[0]: row[1:] for row in diversity_rows.measure_rows(newer(diversity=varied_json()).diversity)}
    assert rows["Effective closing sentences, of 400 completions"][:3] == (
        "83 [75, 91]",
        "4.5 [4.0, 5.0]",
        "× 0.05 [0.05, 0.06]",
    )
    assert "Similarity by meaning, one prompt (cosine)" not in rows
    by_meaning = varied_json(embedding_within=change(0.2, 0.5, 0.2, 0.4), embedding_model="org/model")
    rows = {row[0]: row[1:] for row in diversity_rows.measure_rows(newer(diversity=by_meaning).diversity)}
    assert rows["Similarity by meaning, one prompt (cosine)"][2].startswith("+0.30")
    assert "org/model" in diversity_rows.note(newer(diversity=by_meaning).diversity)
    assert diversity_rows.quoted("") == "(empty)"
    assert diversity_rows.quoted("x" * 200).endswith("x…”")
    table = diversity_rows.best_of_n_table(newer(diversity=varied_json()).diversity)
    assert table is not None
    assert [row[0] for row in table.rows] == ["base", "best of 4", "best of 16", "PPO"]
    for what in (diversity_rows.measure_rows, diversity_rows.sentence_table, diversity_rows.best_of_n_table):
        assert not what(stats().diversity)


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
