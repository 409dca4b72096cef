"""report: write a page that says whether the policy got better, with its pictures.

    make report
    python -m pipeline.report --runs demo-policy@v1 demo-policy@v2      compare runs on one page
    python -m pipeline.report --table                                   print the results table

Writes data/NAME-report/versions/vNNNNNN/report.html. The code is in pipeline/stages/report.py and
pipeline/stages/several_runs.py, the page itself in pipeline/reporting/.
"""

from __future__ import annotations

import sys

from pipeline.base.cli import run_cli, run_module
from pipeline.workflow.stage_command import BODIES, stage_main


def main(argv: list[str] | None = None) -> int:
    args = sys.argv[1:] if argv is None else argv
    if {"--table", "--runs"} & set(args):
        return run_module("pipeline.stages.several_runs", args)
    return stage_main("report", BODIES["report"], argv)


if __name__ == "__main__":
    run_cli(main)
