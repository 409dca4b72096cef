"""Labelling as a part of an experiment: what is asked, what is published."""
