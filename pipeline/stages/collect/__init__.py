"""The stage ``collect``: split prompts, draw comparisons, have somebody choose, write what was chosen."""
