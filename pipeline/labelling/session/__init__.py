"""Labelling within an experiment: ask about comparisons, publish the answers."""
