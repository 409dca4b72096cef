"""Hand a run to another engine."""
