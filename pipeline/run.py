"""run: do consecutive stages in one go; the libraries are imported once for all of them.

    make
    python -m pipeline.run sft collect reward ppo evaluate report --config configs/demo.yaml ppo.kl_coef=0.1

Each stage does what its own command does, in a process of its own that is forked when the libraries are loaded. A
stage that ends with an error ends the command, with its exit status; the stages before it are published. Of one
process per stage only: several ranks are launched with a stage each. The code is in
pipeline/workflow/consecutive_stages.py.
"""

from __future__ import annotations

from pipeline.base.cli import run_cli
from pipeline.workflow.consecutive_stages import main

if __name__ == "__main__":
    run_cli(main)
