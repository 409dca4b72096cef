"""Read and write rows of other people's formats: preferences, votes, likes, demonstrations."""
