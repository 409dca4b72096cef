"""The sections of a config: keys with their types, defaults and help. Needs no torch."""
