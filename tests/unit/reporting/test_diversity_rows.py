"""The rows of the page's table on diversity."""

from __future__ import annotations

from pipeline.reporting import diversity_rows
from tests.unit.reporting.given import change, newer, stats, varied_json


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
