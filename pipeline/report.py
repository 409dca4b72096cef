"""report: one page that says whether it worked, with its pictures.

    make report
    python -m pipeline.report --runs demo-policy@v1 demo-policy@v2      compare runs on one page
    python -m pipeline.report --table                                   the results table

Leaves ``data/NAME-report/vNNNNNN/report.html``. The bodies are :mod:`pipeline.stages.report` and
:mod:`pipeline.stages.several_runs`; what a page looks like is :mod:`pipeline.reporting`'s.
"""

from __future__ import annotations

import sys

from pipeline.base.cli import run_cli
from pipeline.workflow.stage import stage_main


def main(argv: list[str] | None = None) -> int:
    args = sys.argv[1:] if argv is None else argv
    if {"--table", "--runs"} & set(args):
        from pipeline.stages import several_runs

        return several_runs.main(args)
    return stage_main("report", "pipeline.stages.report:report", argv)


if __name__ == "__main__":
    run_cli(main)
