"""label: serve the page on which people choose between completions, and publish their choices.

    make label CONFIG=configs/people.yaml
    python -m pipeline.label --config configs/people.yaml --terminal Ada     label here, without a page

The votes are in data/NAME-labels, an append-only log that outlives every run. Writes a version of
NAME-preferences: with annotator: human the one that collect waits for, else one more. The code is in
pipeline/stages/label.py.
"""

from __future__ import annotations

from pipeline.base.cli import run_cli
from pipeline.stages.label import main

if __name__ == "__main__":
    run_cli(main)
