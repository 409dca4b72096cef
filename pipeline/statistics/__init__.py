"""Intervals, one rule for over-optimisation, numbers as text."""
