"""Versions: immutable directories with a manifest, a content id and parents."""
