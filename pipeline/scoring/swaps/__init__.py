"""Prompts and completions that differ in one attribute of a person, to see whether a score or a policy goes by it."""
