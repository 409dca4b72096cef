"""What is measured: our trainer and TRL 1.12's own, on the same random GPT-2, prompts and sizes."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

EOS, PAD = 0, 1


@dataclass(frozen=True)
class Size:
    """A model and the shape of one update.

    Attributes:
        shape: of GPT-2's config.
        rows: completions of an update.
        micro: rows of a training pass.
        prompt, completion: tokens.
    """

    name: str
    shape: dict[str, Any]
    rows: int
    micro: int
    prompt: int
    completion: int
    epochs: int = 4


GPT2 = Size("gpt2-124m", {}, rows=16, micro=8, prompt=32, completion=48)
DEMO = Size(
    "demo", {"n_layer": 4, "n_embd": 192, "n_head": 4, "n_positions": 128, "vocab_size": 1024}, 64, 32, 8, 32
)


def base(size: Size, natural: bool) -> Any:
    """A random GPT-2 without dropout.

    Args:
        natural: let it end a completion with the same probability at every token, half of them within half of the
            length: one channel of the last norm is a constant that only the end-of-sequence token reads.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        **size.shape, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=EOS, eos_token_id=EOS,
        pad_token_id=PAD,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    if natural:
        chance = 1 - 0.5 ** (2 / size.completion)
        norm, embedding = model.transformer.ln_f, model.transformer.wte
        with torch.no_grad():
            norm.weight[0], norm.bias[0] = 0.0, 1.0
            embedding.weight[:, 0] = 0.0
            # The other logits are near 0, so their weights sum to about the size of the vocabulary.
            embedding.weight[EOS, 0] = float(torch.tensor(chance / (1 - chance) * config.vocab_size).log())
    return model


def tokenizer(size: Size) -> Any:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {"<eos>": EOS, "<pad>": PAD} | {f"w{i}": i for i in range(2, size.shape.get("vocab_size", 50257))}
    core = Tokenizer(models.WordLevel(words, unk_token="w2"))
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<eos>", pad_token="<pad>", padding_side="left"
    )


def prompts(size: Size) -> list[list[int]]:
    vocabulary = size.shape.get("vocab_size", 50257)
    generator = torch.Generator().manual_seed(1)
    return torch.randint(2, vocabulary, (size.rows * 8, size.prompt), generator=generator).tolist()


def lora(model: Any) -> Any:
    """PEFT's default for GPT-2, which TRL's users get: rank 8 on the attention's input projection."""
    from pipeline.modeling.lora import lora_config

    return lora_config(model, r=8, alpha=16, dropout=0.0, target_modules=["c_attn"], task_type="CAUSAL_LM")


def settings(size: Size, directory: str, natural: bool, updates: int) -> dict[str, Any]:
    return {
        "output_dir": directory, "per_device_train_batch_size": size.micro,
        "gradient_accumulation_steps": size.rows // size.micro, "total_episodes": size.rows * updates,
        "response_length": size.completion, "num_ppo_epochs": size.epochs, "learning_rate": 1e-5,
        "temperature": 1.0, "stop_token": "eos" if natural else None, "num_sample_generations": 0,
        "local_rollout_forward_batch_size": size.rows, "report_to": "none", "use_cpu": True, "bf16": False,
        "gradient_checkpointing": False, "save_strategy": "no", "disable_tqdm": True,
    }  # fmt: skip


class Case:
    """A trainer that does one update at a time."""

    trainer: Any

    def update(self) -> None:
        raise NotImplementedError

    def warm(self) -> None:
        """A first update of one epoch, which pays for memory that is touched for the first time."""
        epochs, self.trainer.args.num_ppo_epochs = self.trainer.args.num_ppo_epochs, 1
        self.update()
        self.trainer.args.num_ppo_epochs = epochs


class Ours(Case):
    """One update at a time of this project's trainer: policy, reference, reward model and value on one base."""

    def __init__(self, size: Size, directory: Path, natural: bool = False, bf16: bool = False) -> None:
        from peft import get_peft_model

        from pipeline.modeling.loading import fuse_activations
        from pipeline.scoring.reward_adapter import RewardRole, Scoring
        from pipeline.trainers.ppo.section import PPOSection
        from pipeline.trainers.ppo.trainer import PPOTrainer

        model = fuse_activations(base(size, natural)).to(torch.bfloat16 if bf16 else torch.float32)
        width = model.config.n_embd
        config = lora(model)
        peft = get_peft_model(model, config, adapter_name="policy")
        peft.add_adapter("reward", copy.deepcopy(config))
        for name, parameter in peft.named_parameters():
            parameter.requires_grad_(".policy." in name)
        torch.manual_seed(2)
        reward = RewardRole(peft, torch.randn(1, width), Scoring("last", 0.0, 1.0, 0), EOS)
        args = PPOSection(**settings(size, str(directory), natural, 10**6 // size.rows), save_seconds=0.0)
        self.trainer = PPOTrainer(args, tokenizer(size), peft, None, reward, prompts(size))
        self.done = 0

    def update(self) -> None:
        self.trainer.step(self.done)
        self.done += 1


class Theirs(Case):
    """One update at a time of TRL 1.12's: it wants a reward model and a value model as large."""

    def __init__(self, size: Size, directory: Path, natural: bool = False) -> None:
        from datasets import Dataset
        from transformers import GPT2Config, GPT2ForSequenceClassification
        from trl.experimental.ppo import PPOConfig, PPOTrainer

        model = base(size, natural)
        config = GPT2Config(**{**model.config.to_dict(), "num_labels": 1})
        value, reward = (GPT2ForSequenceClassification(config) for _ in range(2))
        args = PPOConfig(**settings(size, str(directory), natural, 1))
        data = Dataset.from_dict({"input_ids": prompts(size)})
        self.trainer = PPOTrainer(
            args, tokenizer(size), model, None, reward, data, value, eval_dataset=data, peft_config=lora(model)
        )
        self.trainer.log = lambda *_: None  # type: ignore[method-assign]
        self.trainer.accelerator.print = lambda *_: None  # type: ignore[method-assign]

    def update(self) -> None:
        self.trainer.train()
