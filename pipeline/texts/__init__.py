"""What a set of texts is like: words, sentences, diversity, collapse. Needs no torch."""
