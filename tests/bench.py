"""``make bench``: seconds per PPO update of the demo-sized model, ours against TRL 1.12's own trainer.

Both run in one process on the same base, prompts and sizes, in interleaved rounds; TRL gets a value model and a
reward model of the base's size, which its trainer demands. Refuses to judge when the cores were not free. The last
line is one JSON object.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

ROUNDS = int(os.environ.get("ROUNDS", "5"))
SIZES: dict[str, Any] = {
    "per_device_train_batch_size": 32, "gradient_accumulation_steps": 2, "response_length": 32,
    "num_ppo_epochs": 4, "learning_rate": 1e-4, "report_to": "none", "use_cpu": True, "bf16": False,
    "gradient_checkpointing": False, "save_strategy": "no", "disable_tqdm": True, "num_sample_generations": 0,
    "temperature": 1.0, "stop_token": None,
}  # fmt: skip


def base() -> tuple[Any, Any]:
    from pipeline.modeling.scratch import new_gpt2, train_tokenizer
    from pipeline.tasks.reviews import Task

    torch.manual_seed(0)
    tokenizer = train_tokenizer(Task().corpus(0), 1024)
    tokenizer.padding_side = "left"
    return new_gpt2(tokenizer, n_layer=4, n_embd=192, n_head=4, n_positions=128), tokenizer


def peft(model: Any) -> Any:
    from peft import get_peft_model

    from pipeline.modeling.lora import lora_config

    config = lora_config(model, r=8, alpha=16, dropout=0.0, target_modules=None, task_type="CAUSAL_LM")
    return get_peft_model(model, config, adapter_name="policy")


class Clock:
    """Seconds of each update after the first, by a callback at its end."""

    def __init__(self) -> None:
        from transformers import TrainerCallback

        marks = self.marks = []

        class Mark(TrainerCallback):
            def on_step_end(self, *_: Any, **__: Any) -> None:
                marks.append((time.perf_counter(), time.process_time()))

        self.callback = Mark()

    def seconds(self) -> tuple[float, float]:
        """(wall, processor) seconds between the first two updates' ends."""
        (wall, cpu), (wall2, cpu2) = self.marks[-2:]
        return wall2 - wall, cpu2 - cpu


def ours(prompts: list[list[int]], directory: str) -> tuple[float, float]:
    from pipeline.trainers.ppo import PPOSection, PPOTrainer

    model, tokenizer = base()
    clock, head = Clock(), torch.zeros(1, 192)
    from pipeline.modeling.scoring import score_rows

    def score(p: Any, c: Any) -> torch.Tensor:
        return score_rows(model, head, [[*a, *b] for a, b in zip(p, c, strict=True)])

    args = PPOSection(output_dir=directory, total_episodes=128, **SIZES)
    trainer = PPOTrainer(args, tokenizer, peft(model), score, prompts, callbacks=[clock.callback])
    trainer.log = lambda *_: None  # type: ignore[method-assign]
    trainer.train()
    return clock.seconds()


def theirs(prompts: list[list[int]], directory: str) -> tuple[float, float]:
    from datasets import Dataset
    from transformers import GPT2Config, GPT2ForSequenceClassification
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    model, tokenizer = base()
    config = GPT2Config(**{**model.config.to_dict(), "num_labels": 1, "id2label": {0: "r"}, "label2id": {"r": 0}})
    clock, data = Clock(), Dataset.from_dict({"input_ids": prompts})
    trainer = PPOTrainer(
        PPOConfig(output_dir=directory, total_episodes=128, **SIZES), tokenizer, peft(model), None,
        GPT2ForSequenceClassification(config), data, GPT2ForSequenceClassification(config), eval_dataset=data,
        callbacks=[clock.callback],
    )  # fmt: skip
    trainer.log = lambda *_: None  # type: ignore[method-assign]
    trainer.train()
    return clock.seconds()


def main() -> int:
    from pipeline.modeling.tokens import encode_prompts
    from pipeline.tasks.reviews import Task

    _, tokenizer = base()
    prompts = encode_prompts(tokenizer, Task().prompts("train", 512, 0))
    taken: dict[str, list[float]] = {"ours": [], "trl": []}
    busy = 0
    with tempfile.TemporaryDirectory() as directory:
        while len(taken["ours"]) < ROUNDS:
            runs = {"trl": theirs(prompts, directory), "ours": ours(prompts, directory)}
            # Fewer processor seconds than wall seconds means that somebody else had the cores.
            if any(cpu < wall for wall, cpu in runs.values()):
                busy += 1
                print("a round was dropped: the cores were not free", flush=True)
                if busy > ROUNDS:
                    print("error: the cores were never free", file=sys.stderr)
                    return 2
                continue
            for name, (wall, _) in runs.items():
                taken[name].append(wall)
            print(
                f"round {len(taken['ours'])}: " + ", ".join(f"{n} {w:.2f} s" for n, (w, _) in runs.items()),
                flush=True,
            )
    ratios = [t / o for t, o in zip(taken["trl"], taken["ours"], strict=True)]
    spread = {n: (min(v), statistics.median(v), max(v)) for n, v in {**taken, "ratio": ratios}.items()}
    print(f"\n{'':12}{'min':>8}{'median':>8}{'max':>8}")
    for name, values in spread.items():
        print(f"{name:12}" + "".join(f"{v:8.2f}" for v in values))
    result = {"speedup_demo_fp32": round(spread["ratio"][1], 3), "rounds": ROUNDS, "dropped": busy}
    print(json.dumps({**result, "threads": torch.get_num_threads(), "torch": torch.__version__}))
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    sys.exit(main())
