"""sweep: run an experiment over seeds and settings, and aggregate the figures with intervals.

    make sweep SEEDS=5
    python -m pipeline.sweep --config configs/demo.yaml --seeds 5 --grid ppo.kl_coef=0.02,0.1

Each run is versioned as any other, and runs share the stages that their settings leave equal. Leaves
``data/NAME-sweep`` with a table of every run and the frontier. The body is :mod:`pipeline.stages.sweep`.
"""

from __future__ import annotations

from pipeline.base.cli import run_cli
from pipeline.stages.sweep import main

if __name__ == "__main__":
    run_cli(main)
