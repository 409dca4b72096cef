"""Readers: everybody's votes make a shared reward model and policy, each one's own make theirs."""
