"""reward: train a reward model, a LoRA adapter with a score head, on preferences.

    make reward
    accelerate launch --config_file configs/accelerate/cpu.yaml -m pipeline.reward --config configs/demo.yaml
    python -m pipeline.reward --evaluate demo-reward@v1 --on FILE     measure a reward model without training

Writes data/NAME-scores (the score of every held-out completion) and data/NAME-reward: a PEFT adapter with its
accuracy, calibration and baselines. The code is in pipeline/stages/reward.py and
pipeline/stages/measure_reward.py.
"""

from __future__ import annotations

import sys

from pipeline.base.cli import run_cli, run_module
from pipeline.modeling.ranks import in_contact, together
from pipeline.workflow.stage_command import BODIES, stage_main


def main(argv: list[str] | None = None) -> int:
    args = sys.argv[1:] if argv is None else argv
    if "--evaluate" in args:
        return run_module("pipeline.stages.measure_reward", args)
    return stage_main("reward", BODIES["reward"], argv, together, in_contact)


if __name__ == "__main__":
    run_cli(main)
