"""Statistics of a set of texts: words, sentences, diversity, collapse. Needs no torch."""
