"""evaluate: compare the policy with its base on prompts that were used neither to train nor to select it.

    make evaluate
    accelerate launch --config_file configs/accelerate/cpu.yaml -m pipeline.evaluate --config configs/demo.yaml

Samples both models, scores the completions by the reward model, the task's gold score and the judges, and measures
KL, length, diversity and best-of-n, each with an interval over prompts. Writes data/NAME-evaluation with every
completion. The code is in pipeline/stages/evaluate/evaluate.py.
"""

from __future__ import annotations

from pipeline.base.cli import run_cli
from pipeline.modeling.ranks import in_contact, together
from pipeline.workflow.stage_command import BODIES, stage_main


def main(argv: list[str] | None = None) -> int:
    return stage_main("evaluate", BODIES["evaluate"], argv, together, in_contact)


if __name__ == "__main__":
    run_cli(main)
