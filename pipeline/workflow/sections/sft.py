"""The ``sft`` section."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.workflow.sections import trl_keys
from pipeline.workflow.sections.training import TrainingFields, check_training


@dataclass(init=False, repr=False, eq=False)
class SFTFields(TrainingFields):
    """Our keys: the shape of a model trained from scratch, when no ``base_model`` is given."""

    n_layer: int = field(default=4, metadata={"help": "Blocks of a model from scratch."})
    n_embd: int = field(default=192, metadata={"help": "Width of a model from scratch."})
    n_head: int = field(default=4, metadata={"help": "Attention heads of a model from scratch."})
    n_positions: int = field(default=128, metadata={"help": "Longest text of a model from scratch, in tokens."})
    vocab_size: int = field(default=1024, metadata={"help": "Byte-level BPE vocabulary trained on the corpus."})
    tokenizer: str | None = field(default=None, metadata={"help": "Use this tokenizer instead of training one."})
    eval_share: float = field(default=0.02, metadata={"help": "Share of the corpus held out for the eval loss."})

    def check_rules(self) -> None:
        """Raises ValueError where our keys contradict each other."""
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd {self.n_embd} does not divide by n_head {self.n_head}")


@dataclass(repr=False, eq=False)
class SFTKeys(SFTFields, trl_keys.SFTConfig):
    """All keys of the section: ours and TRL's."""

    def __post_init__(self) -> None:
        self.check_rules()
        check_training(self)
