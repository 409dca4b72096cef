"""PPO: rollout, optimisation, checkpoints, console."""
