"""ppo: train the policy, a LoRA adapter, with PPO against the reward model.

    make ppo
    accelerate launch --config_file configs/accelerate/cpu.yaml -m pipeline.ppo --config configs/demo.yaml

Each update samples completions, scores them, estimates advantages with GAE and optimises TRL's clipped loss with a
KL penalty to the base. After an interruption the same command continues. Writes data/NAME-rollouts (every
completion with its score and KL) and data/NAME-policy: a PEFT adapter, metrics.jsonl and a card. The stage is in
pipeline/stages/ppo.py, the algorithm in pipeline/trainers/ppo/trainer.py.
"""

from __future__ import annotations

from pipeline.base.cli import run_cli
from pipeline.modeling.ranks import in_contact, together
from pipeline.workflow.stage_command import BODIES, stage_main


def main(argv: list[str] | None = None) -> int:
    return stage_main("ppo", BODIES["ppo"], argv, together, in_contact)


if __name__ == "__main__":
    run_cli(main)
