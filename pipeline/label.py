"""label: serve the page on which people choose between completions, and publish their choices.

    make label CONFIG=configs/people.yaml
    python -m pipeline.label --config configs/people.yaml --terminal Ada     label here, without a page

The votes are in ``data/NAME-labels``, an append-only log that outlives every run. Leaves a version of
``NAME-preferences``: the one that ``collect`` waits for under ``annotator: human``, else one beside the others.
The body is :mod:`pipeline.stages.label`.
"""

from __future__ import annotations

from pipeline.base.cli import run_cli
from pipeline.stages.label import main

if __name__ == "__main__":
    run_cli(main)
