"""Trainers on TRL's: sft, reward, PPO."""
