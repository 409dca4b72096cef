"""The labelling interface for a terminal."""
