"""Functions of tensors: masks, log-probabilities, KL, GAE."""
