"""One file for each family of formats."""
