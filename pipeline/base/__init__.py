"""Errors, files, processes, records and terminal text: the base of all other packages. Standard library only."""
