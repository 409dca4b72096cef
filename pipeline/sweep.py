"""sweep: run an experiment over seeds and settings, and aggregate the results with intervals.

    make sweep SEEDS=5
    python -m pipeline.sweep --config configs/demo.yaml --seeds 5 --grid ppo.kl_coef=0.02,0.1

Runs share the stages whose settings are equal. The same command continues what is not done. Writes data/NAME-sweep
with a table of every run and the frontier. The code is in pipeline/stages/sweep/sweep.py.
"""

from __future__ import annotations

from pipeline.base.cli import run_cli
from pipeline.stages.sweep.sweep import main

if __name__ == "__main__":
    run_cli(main)
