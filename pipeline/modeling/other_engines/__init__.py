"""Models in the formats of other engines: GGUF files read and written, and what verl reads."""
