"""Matplotlib figures, a file for each subject; ``common`` has their style."""
