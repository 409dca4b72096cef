"""``python -m pipeline data``: list, show, diff, tag, verify, export and collect versions."""
