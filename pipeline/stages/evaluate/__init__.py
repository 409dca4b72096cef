"""evaluate, and what it is made of."""
