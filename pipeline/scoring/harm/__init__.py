"""Screens of harm: a short list of words, or a classifier; and texts on which a screen is measured itself."""
