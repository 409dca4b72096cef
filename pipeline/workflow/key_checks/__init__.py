"""Every check of a config's keys: unknown, mistyped, out of bounds, idle, secret."""
