"""Numbers in, numbers out. No store, no torch, no network."""
