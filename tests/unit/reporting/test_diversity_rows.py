"""The rows of the page's table on diversity."""

from __future__ import annotations

from pipeline.reporting import diversity_rows
from tests.unit.reporting.given import both, change, entry, favourite, newer, stats, varied_json


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
    assert "none is there twice" not in str(rows)
    for what in (diversity_rows.measure_rows, diversity_rows.sentence_table, diversity_rows.best_of_n_table):
        assert not what(stats().diversity)


def test_patterns_stand_below_the_sentences() -> None:
    old = newer(diversity=varied_json()).diversity  # of before patterns were counted
    assert not any("pattern" in row[0] for row in diversity_rows.measure_rows(old))
    assert "pattern" not in diversity_rows.note(old)
    forms = {"base": favourite("…", 0.21, 0.44), "policy": favourite("the … was …", 0.44, 0.05)}
    shown = {"patterns": entry(9.4, 8.0, 11.0), "patterns_ratio": entry(0.31, 0.2, 0.4)}
    varied = varied_json(patterns=both(48, 13) | {"at": 900}, pattern=forms)
    varied["best_of_n"]["policy"] |= shown | {"pattern": {"text": "the … was …", "share": 0.4}}
    new = newer(diversity=varied).diversity
    rows = {row[0]: row[1:] for row in diversity_rows.measure_rows(new)}
    assert rows["Effective patterns, of 900 sentences on each side"][1] == "13 [12, 14]"
    assert rows["Most common pattern (share of sentences)"][2] == "PPO: “the … was …”; base: “…”"
    assert "… is any run of others" in diversity_rows.note(new)
    table = diversity_rows.best_of_n_table(new)
    assert table is not None
    assert table.rows[-1][-3:] == ("9.4 [8.0, 11.0]", "0.31 [0.20, 0.40]", "40 % “the … was …”")
    assert table.rows[0][-3:] == ("–", "–", "–")


# Catches: an arbitrary one of 400 sentences that are there once, quoted as the most common one.
def test_a_sentence_that_is_there_once_is_not_called_common() -> None:
    once = favourite("It works.", 1 / 400, 0.0)
    alone = dict.fromkeys(("base", "policy"), once)
    common = [{"text": "It works.", "base": entry(0.0, 0.0, 0.0), "policy": once["share"]}]
    varied = varied_json(False, closing=alone, opening=alone | {"base": once | {"count": 2}}, common=common)
    diversity = newer(diversity=varied).diversity
    rows = {row[0]: row[3] for row in diversity_rows.measure_rows(diversity)}
    assert rows["Most common closing sentence (share)"] == "PPO: none is there twice; base: none is there twice"
    assert rows["Most common first sentence (share)"] == "PPO: none is there twice; base: \u201cIt works.\u201d"
    assert diversity_rows.sentence_table(diversity) is None
    twice = newer(diversity=varied | {"common": [*common, common[0] | {"policy": entry(2 / 400, 0.0, 0.1)}]})
    table = diversity_rows.sentence_table(twice.diversity)
    assert table is not None
    assert len(table.rows) == 1
