"""Look closely at a model that was trained: scores token by token, harm beside the base, swapped groups."""
