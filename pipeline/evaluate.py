"""evaluate: compare the policy with its base on prompts that neither trained nor chose it.

    make evaluate
    accelerate launch --config_file configs/accelerate/cpu.yaml -m pipeline.evaluate --config configs/demo.yaml

Samples both sides, scores them by the reward model, the task's gold score and the judges, and measures KL, length,
diversity and best-of-n, each with an interval over prompts. Leaves ``data/NAME-evaluation`` with every completion.
The body is :mod:`pipeline.stages.evaluate.evaluate`.
"""

from __future__ import annotations

from pipeline.base.cli import run_cli
from pipeline.modeling.ranks import together
from pipeline.workflow.stage import stage_main


def main(argv: list[str] | None = None) -> int:
    return stage_main("evaluate", "pipeline.stages.evaluate.evaluate:evaluate", argv, together)


if __name__ == "__main__":
    run_cli(main)
