"""readers: an adapter for each reader on one base, from their own likes and dislikes, beside one for all.

    make readers CONFIG=configs/news_likes.yaml
    python -m pipeline.readers --config configs/news_likes.yaml readers.least_votes=50

The same command continues what is not done. Each reader's versions are called NAME-READER-..., the record of them
all data/NAME-readers. The code is in pipeline/stages/readers.
"""

from __future__ import annotations

from pipeline.base.cli import run_cli
from pipeline.stages.readers.readers import main

if __name__ == "__main__":
    run_cli(main)
