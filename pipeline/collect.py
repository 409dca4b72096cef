"""collect: sample completions from the base, and ask an annotator to choose between them.

    make collect
    python -m pipeline.collect --config configs/demo.yaml collect.comparisons=2000

Writes data/NAME-prompts (splits train, select, test), NAME-comparisons (pairs of completions) and NAME-preferences
(every choice, and the pairs to train on). With annotator: human it serves the page of label until enough is
answered. The code is in pipeline/stages/collect/collect.py.
"""

from __future__ import annotations

from pipeline.base.cli import run_cli
from pipeline.workflow.stage_command import BODIES, stage_main


def main(argv: list[str] | None = None) -> int:
    return stage_main("collect", BODIES["collect"], argv)


if __name__ == "__main__":
    run_cli(main)
