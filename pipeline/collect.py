"""collect: sample completions of the base, and let an annotator choose between them.

    make collect
    python -m pipeline.collect --config configs/demo.yaml collect.comparisons=2000

Leaves ``data/NAME-prompts`` (splits train, select, test), ``NAME-comparisons`` (pairs of completions) and
``NAME-preferences`` (who chose what, and the pairs to train on). Under ``annotator: human`` it serves the page of
``label`` until enough is answered. The body is :mod:`pipeline.stages.collect`.
"""

from __future__ import annotations

from pipeline.base.cli import run_cli
from pipeline.workflow.stage import stage_main


def main(argv: list[str] | None = None) -> int:
    return stage_main("collect", "pipeline.stages.collect:collect", argv)


if __name__ == "__main__":
    run_cli(main)
