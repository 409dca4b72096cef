"""loop: rounds of collect, reward, PPO and evaluate, each on the samples of the policy of the round before.

    make loop ROUNDS=3
    python -m pipeline.loop --config configs/demo.yaml --rounds 3 loop.start=last

The same command continues what is not done. Every round leaves versions like an ordinary run, and data/NAME-loop
with the figures of all rounds so far. The code is in pipeline/stages/rounds.
"""

from __future__ import annotations

from pipeline.base.cli import run_cli
from pipeline.stages.rounds.loop import main

if __name__ == "__main__":
    run_cli(main)
