"""Figures of a history: medians, scatter and since when, by hand."""

from __future__ import annotations

import math

import pytest

from pipeline.health.figures import History


def test_medians_and_scatter_by_hand():
    history = History()
    for i, value in enumerate([1, 2, 9, 4, 5, 6, 7, 8, 30, 10], 1):
        history.take({"update": i, "x": value})
    assert (history.start("x"), history.now("x"), history.now("x", 3)) == (4, 8, 10)
    # Steps 1 7 5 1 1 1 1 22 20: their median is 1.
    assert history.scatter("x") == pytest.approx(1.4826 / math.sqrt(2))
    assert history.column("x").peak == (4.2, 0)
    assert history.since("x") == 8
    assert history.moved("x").error == pytest.approx(1.25 * 1.4826 / math.sqrt(2) * math.sqrt(2 / 5))


def test_what_is_not_known_yet():
    history = History()
    for i in range(1, 10):
        history.take({"update": i, "x": 1.0, "episode": 64 * i})
    assert history.start("x") is None
    assert history.moved("x") is None
    assert (history.last("x", 10), history.now("y"), history.count("y")) == ([], None, 0)
    assert history.batch == 64


def test_scatter_is_that_of_late():
    history = History()
    for i in range(1, 301):
        history.take({"update": i, "x": (-1) ** i * (100.0 if i <= 150 else 1.0)})
    # A step of 2. Mutation caught: the scatter of the whole run.
    assert history.scatter("x") == pytest.approx(1.4826 * 2 / math.sqrt(2))
