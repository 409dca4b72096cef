"""Labelling in a terminal."""
