"""Readers as tables and as a picture."""

from __future__ import annotations

from dataclasses import replace

from pipeline.reporting.figures.readers import draw_readers
from pipeline.reporting.reader_rows import HEAD, reader_table, sample_table
from pipeline.results.readers import ReaderFigures, ReadersFigures, Written
from pipeline.statistics.intervals import Estimate

ADA = ReaderFigures(
    reader="r1",
    policy="news-r1-policy@v000001",
    votes=1200,
    held_out=20,
    liked=0.4,
    own_auc=Estimate(0.8, 0.7, 0.9, 20),
    gold_base=Estimate(-0.1, -0.2, 0.0, 200),
    gold_shared=Estimate(0.1, 0.0, 0.2, 200),
    gold_own=Estimate(0.5, 0.4, 0.6, 200),
    gold_over_shared=Estimate(0.4, 0.3, 0.5, 200),
    proxy_over_shared=Estimate(1.0, 0.9, 1.1, 200),
    seconds=12.34,
    kilobytes=147.4,
    samples=(Written(prompt="Here:", shared=" <b>", own=" good", shared_gold=-1.0, own_gold=0.5),),
)
BEN = replace(ADA, reader="r2", gold_over_shared=Estimate(0.1, -0.1, 0.3, 200), samples=())
READERS = ReadersFigures(readers=(ADA, BEN), shared="news-policy@v000001", gold_name="taste", without=3)


def test_a_row_has_every_figure_with_its_interval() -> None:
    table = reader_table(READERS)
    row = dict(zip(HEAD, table.rows[0], strict=True))
    assert row["reader"] == "r1 (news-r1-policy@v000001)"
    assert row["votes"] == "1,200"
    assert row["reward model, AUC: shared"] == "–"
    assert row["gold, over the shared policy"] == "+0.40 [0.30, 0.50]"
    assert (row["seconds"], row["kB"]) == ("12.3", "147")
    assert "1 of 2 readers are surely better served by their own policy" in table.note
    assert "too few votes or all alike: 3." in table.note
    by_proxy = replace(READERS, readers=[replace(ADA, gold_over_shared=None)], without=0)
    assert reader_table(by_proxy).note.endswith(
        "1 of 1 readers are surely better served by their own policy than by the shared one (reward model)."
    )


def test_samples_stand_side_by_side() -> None:
    assert sample_table(READERS).rows == [("r1", "Here:", "<b> (−1.00)", "good (0.50)")]


def test_the_picture_has_a_row_for_each_reader() -> None:
    figure = draw_readers(READERS)
    assert figure is not None
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["r1", "r2"]
    assert len(ax.containers) == 3
    no_gold = dict.fromkeys(("gold_base", "gold_shared", "gold_own", "gold_over_shared"))
    figure = draw_readers(replace(READERS, readers=[replace(ADA, **no_gold)], gold_name=None))
    assert figure is not None
    assert "reward model" in figure.axes[0].get_xlabel()
    assert draw_readers(replace(READERS, readers=[replace(ADA, **no_gold, proxy_over_shared=None)])) is None
