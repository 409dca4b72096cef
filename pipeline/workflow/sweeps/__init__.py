"""Sweeps: which runs there are, how they are launched, and as jobs of a cluster."""
