"""Held-out evaluations compared with each other."""

from __future__ import annotations

from pipeline.trainers.ppo.held_out import HeldOutEval, OveroptimisationMonitor


def test_keep_best_keeps_none_below_without_a_stop():
    monitor = OveroptimisationMonitor(None, 0, diversity_floor=0.5)
    counts = [40.0, 30.0, 20.0, 19.9, 25.0, 8.0]
    kept = [monitor.add(HeldOutEval(u, 1.0, float(u), [], count)) for u, count in enumerate(counts)]
    assert kept == [True, True, True, False, True, False]
    assert (monitor.best and monitor.best.update, monitor.varied and monitor.varied.update) == (4, 4)
    # An evaluation without a count is above any floor.
    assert monitor.add(HeldOutEval(9, 1.0, 9.0))
