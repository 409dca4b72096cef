"""Files that are written from code, and the code that writes them; a test holds each."""
