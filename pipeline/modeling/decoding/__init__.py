"""Sampling completions: drawing tokens, the cache, and the loops that decode."""
