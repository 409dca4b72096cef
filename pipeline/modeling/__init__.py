"""The base model and its LoRA roles: loading, sampling, log-probabilities."""
