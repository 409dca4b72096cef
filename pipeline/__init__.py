"""RLHF on one machine: preferences, a reward model, PPO with LoRA - every stage versioned and measured."""

__version__ = "0.1.0"
