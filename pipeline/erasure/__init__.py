"""Erase a person: find what is theirs, replace the versions that hold it."""
