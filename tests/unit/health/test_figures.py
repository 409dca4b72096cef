"""Figures of a history: medians, scatter and since when, by hand."""

from __future__ import annotations

import math

import pytest

from pipeline.health.figures import Figures


def test_medians_and_scatter_by_hand():
    figures = Figures()
    for i, value in enumerate([1, 2, 9, 4, 5, 6, 7, 8, 30, 10], 1):
        figures.take({"update": i, "x": value})
    assert (figures.start("x"), figures.now("x"), figures.now("x", 3)) == (4, 8, 10)
    # Steps 1 7 5 1 1 1 1 22 20: their median is 1.
    assert figures.scatter("x") == pytest.approx(1.4826 / math.sqrt(2))
    assert figures.column("x").peak == (4.2, 0)
    assert figures.since("x") == 8
    assert figures.moved("x").error == pytest.approx(1.25 * 1.4826 / math.sqrt(2) * math.sqrt(2 / 5))


def test_what_is_not_known_yet():
    figures = Figures()
    for i in range(1, 10):
        figures.take({"update": i, "x": 1.0, "episode": 64 * i})
    assert figures.start("x") is None
    assert figures.moved("x") is None
    assert (figures.last("x", 10), figures.now("y"), figures.count("y")) == ([], None, 0)
    assert figures.batch == 64


def test_scatter_is_that_of_late():
    figures = Figures()
    for i in range(1, 301):
        figures.take({"update": i, "x": (-1) ** i * (100.0 if i <= 150 else 1.0)})
    # A step of 2. Mutation caught: the scatter of the whole run.
    assert figures.scatter("x") == pytest.approx(1.4826 * 2 / math.sqrt(2))
