"""Rows run through a causal base without their padding, and the prefix that two rows share once."""
