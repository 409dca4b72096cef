"""What every stage is measured on: random GPT-2s, a tokenizer of words, and prompts and texts of given lengths."""

from __future__ import annotations

import dataclasses
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from transformers.utils import logging

from tests.bench.harness import QUICK

EOS, PAD = 0, 1
logging.disable_progress_bar()


@dataclass(frozen=True)
class Size:
    """A model and the shape of one update.

    Attributes:
        shape: of the config of ``family``.
        rows: completions of an update of PPO, and of a batch that is decoded.
        micro: rows of a training pass; pairs of a step of the reward model, texts of one of SFT.
        prompt, completion: tokens.
        epochs: of PPO.
        steps: of a training run of the reward model or SFT.
    """

    name: str
    shape: dict[str, Any]
    rows: int
    micro: int
    prompt: int
    completion: int
    epochs: int = 4
    steps: int = 4
    family: Literal["gpt2", "llama"] = "gpt2"


GPT2 = Size("gpt2-124m", {}, rows=16, micro=8, prompt=32, completion=48)
DEMO = Size(
    "demo",
    {"n_layer": 4, "n_embd": 192, "n_head": 4, "n_positions": 128, "vocab_size": 1024},
    rows=64, micro=32, prompt=8, completion=32, steps=16,
)  # fmt: skip
if QUICK:
    # Half of the blocks: to make and to load a model of random weights takes as long as an update of it.
    GPT2 = dataclasses.replace(
        GPT2, name="gpt2-82m", shape={"n_layer": 6}, rows=4, micro=4, prompt=16, completion=24, epochs=1, steps=2
    )
    DEMO = dataclasses.replace(DEMO, steps=3, epochs=2)


def vocabulary(size: Size) -> int:
    return size.shape.get("vocab_size", 50257)


def base(size: Size, natural: bool = False, device: str = "cpu") -> Any:
    """A random model without dropout: a GPT-2, or a Llama where the size says so.

    Args:
        natural: let it end a completion with the same probability at every token, half of them within half of the
            length: one channel of the last norm is a constant that only the end-of-sequence token reads. GPT-2's.
    """
    from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

    torch.manual_seed(0)
    special = {"bos_token_id": EOS, "eos_token_id": EOS, "pad_token_id": PAD}
    if size.family == "llama":
        config: Any = LlamaConfig(**size.shape, **special)
    else:
        config = GPT2Config(**size.shape, **special, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config).eval()
    if natural:
        chance = 1 - 0.5 ** (2 / size.completion)
        norm, embedding = model.transformer.ln_f, model.transformer.wte
        with torch.no_grad():
            norm.weight[0], norm.bias[0] = 0.0, 1.0
            embedding.weight[:, 0] = 0.0
            # The other logits are near 0, so their weights sum to about the size of the vocabulary.
            embedding.weight[EOS, 0] = float(torch.tensor(chance / (1 - chance) * config.vocab_size).log())
    return model


def saved_base(size: Size, out: Path, natural: bool = False) -> str:
    """The directory of :func:`base` and its :func:`tokenizer`, written once."""
    directory = out / f"{size.name}{'-natural' if natural else ''}"
    if not directory.exists():
        base(size, natural).save_pretrained(directory)
        tokenizer(size).save_pretrained(directory)
    return str(directory)


def tokenizer(size: Size) -> Any:
    """One token a word, ``w0`` to the last: a text of n words is n tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<eos>": EOS, "<pad>": PAD} | {f"w{i}": i for i in range(2, vocabulary(size))}
    core = Tokenizer(models.WordLevel(words, unk_token="w2"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<eos>", pad_token="<pad>", padding_side="left"
    )


def prompts(size: Size) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(2, vocabulary(size), (size.rows * 8, size.prompt), generator=generator).tolist()


def text(size: Size, tokens: int, pace: random.Random) -> str:
    """A text of random words, ``tokens`` tokens long."""
    return " ".join(f"w{pace.randrange(2, vocabulary(size))}" for _ in range(tokens))


def varied(length: int, pace: random.Random) -> int:
    """A length between half and one and a half of ``length``."""
    return pace.randint(max(1, length // 2), length + length // 2)


def lora(model: Any, first_layer: int = 0) -> Any:
    """PEFT's defaults, which TRL's users get: rank 8 on the attention's input projection, or on its q and v."""
    from pipeline.modeling.lora import lora_config

    targets = ["c_attn"] if model.config.model_type == "gpt2" else ["q_proj", "v_proj"]
    settings: dict[str, Any] = {"r": 8, "alpha": 16, "dropout": 0.0, "target_modules": targets}
    return lora_config(model, **settings, task_type="CAUSAL_LM", first_layer=first_layer)


def section_lora(model: Any, task_type: str) -> Any:
    """What the sections ``reward`` and ``sft`` take by default: rank 8 on every linear layer of the blocks."""
    from pipeline.modeling.lora import lora_config

    return lora_config(model, r=8, alpha=16, dropout=0.0, target_modules=None, task_type=task_type)
