"""configs/gpt2-imdb.yaml and gpt2-hh.yaml at their real sizes without the Hub. Slow: minutes each.

GPT-2 124M of random weights, local files in the shapes of IMDB and HH-RLHF with texts as long as theirs, two
updates of each stage. ``GPT2_TOKENIZER=DIR``, with GPT-2's own tokenizer, takes that instead of a small one
that is trained here.
"""

from __future__ import annotations

import importlib
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.store.store import Store
from pipeline.workflow.experiment import STAGES
from tests.helpers.row_files import write_rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

OPINION = "the film was not good but the story of a slow and funny actor has never had a bad ending"
WORDS = OPINION.split()
END = "<|endoftext|>"


def sentence(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(5, 25))).capitalize() + "."


def text(rng: random.Random, length: int) -> str:
    """About ``length`` words."""
    parts: list[str] = []
    while sum(part.count(" ") + 1 for part in parts) < length:
        parts.append(sentence(rng))
    return " ".join(parts)


def byte_level_tokenizer(directory: Path) -> None:
    """A tokenizer such as GPT-2's repository has: end, beginning and unknown are one token, and no pad."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GPT2TokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator([text(random.Random(i), 200) for i in range(20)], trainer)
    GPT2TokenizerFast(tokenizer_object=bpe, eos_token=END, bos_token=END, unk_token=END).save_pretrained(directory)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory like openai-community/gpt2."""
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    directory = tmp_path_factory.mktemp("models") / "gpt2"
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config())  # the defaults are GPT-2 124M's
    assert sum(p.numel() for p in model.parameters()) == 124_439_808
    model.save_pretrained(directory)
    if own := os.environ.get("GPT2_TOKENIZER"):
        AutoTokenizer.from_pretrained(own).save_pretrained(directory)
    else:
        byte_level_tokenizer(directory)
    return directory


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """A directory like distilbert's on SST-2: a pad token of its own, labels NEGATIVE and POSITIVE."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import DistilBertConfig, DistilBertForSequenceClassification, PreTrainedTokenizerFast

    directory = tmp_path / "distilbert"
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *dict.fromkeys(word.lower() for word in WORDS)]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()  # type: ignore[assignment]
    backend.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(directory)
    torch.manual_seed(0)
    labels = {0: "NEGATIVE", 1: "POSITIVE"}
    config = DistilBertConfig(
        vocab_size=len(vocabulary), dim=32, hidden_dim=64, n_layers=2, n_heads=2, id2label=labels,
        label2id={name: i for i, name in labels.items()},
    )  # fmt: skip
    DistilBertForSequenceClassification(config).save_pretrained(directory)
    return directory


def imdb(directory: Path) -> Path:
    """Two splits of ``text`` and ``label``; reviews of 30 to 1,200 words, with HTML breaks."""
    rng = random.Random(0)
    for split, n in (("train", 160), ("test", 40)):
        lengths = [rng.choice([30, 120, 230, 600, 1200]) for _ in range(n)]
        rows = [
            {"text": text(rng, k).replace(". ", ".<br /><br />", 1), "label": i % 2} for i, k in enumerate(lengths)
        ]
        (directory / "imdb").mkdir(parents=True, exist_ok=True)
        write_rows(directory / "imdb" / f"{split}.jsonl", rows)
    return directory / "imdb"


def hh(directory: Path) -> Path:
    """Two splits of ``chosen`` and ``rejected``: one to five turns, up to 1,500 words, alike up to the last."""
    rng = random.Random(0)
    for split, n in (("train", 160), ("test", 20)):
        rows: list[dict[str, Any]] = []
        for _ in range(n):
            turns = rng.randint(1, 5)
            dialogue = "".join(
                f"\n\nHuman: {text(rng, rng.choice([10, 40, 150]))}\n\nAssistant:"
                + (f" {text(rng, rng.choice([20, 60, 150]))}" if turn < turns - 1 else "")
                for turn in range(turns)
            )
            rows.append(
                {side: f"{dialogue} {text(rng, rng.choice([5, 40, 200]))}" for side in ("chosen", "rejected")}
            )
        (directory / "hh").mkdir(parents=True, exist_ok=True)
        write_rows(directory / "hh" / f"{split}.jsonl", rows)
    return directory / "hh"


SMALL = {  # two updates, of fewer rows than on a GPU; lengths stay as they are
    "sft.max_steps": 2,
    "sft.per_device_train_batch_size": 2,
    "sft.gradient_accumulation_steps": 2,
    "reward.max_steps": 2,
    "reward.per_device_train_batch_size": 2,
    "reward.gradient_accumulation_steps": 2,
    "reward.reference_samples": 8,
    "ppo.total_episodes": 4,
    "ppo.per_device_train_batch_size": 1,
    "ppo.gradient_accumulation_steps": 2,
    "ppo.num_mini_batches": 1,
    "evaluate.prompts": 3,
    "evaluate.best_of": 0,
}


def walk(config: str, tmp_path: Path, **settings: Any) -> Store:
    """Run all stages, and check that the policy learnt, its figures are finite and its base is on record."""
    overrides = [f"{key}={json.dumps(value)}" for key, value in {**SMALL, **settings}.items()]
    for stage in STAGES:
        command = ["--config", f"configs/{config}.yaml", f"data_dir={tmp_path / 'data'}", *overrides]
        assert importlib.import_module(f"pipeline.{stage}").main(command) == 0
    store = Store(tmp_path / "data")
    policy = store.resolve(f"{config}-policy").manifest
    assert policy.stats["updates"] == 2
    assert policy.stats["stopped"] is None
    assert store.resolve(f"{config}-base").manifest.stats["steps"] == 2
    assert (store.resolve(f"{config}-report").path / "report.html").is_file()
    return store


def test_gpt2_imdb(gpt2: Path, classifier: Path, tmp_path: Path):
    store = walk(
        "gpt2-imdb",
        tmp_path,
        **{
            "base_model": str(gpt2),
            "task_args.dataset": str(imdb(tmp_path)),
            "collect.annotator_args.model": str(classifier),
            "collect.comparisons": 40,
        },
    )
    assert store.resolve("gpt2-imdb-base").manifest.stats["texts_cut"] > 0  # at max_length 128


def test_gpt2_hh(gpt2: Path, tmp_path: Path):
    rows = str(hh(tmp_path))
    store = walk(
        "gpt2-hh",
        tmp_path,
        **{"base_model": str(gpt2), "task_args.dataset": rows, "collect.annotator_args.dataset": rows},
    )
    assert store.resolve("gpt2-hh-base").manifest.stats["texts_cut"] > 0  # at max_length 512
    assert store.resolve("gpt2-hh-preferences").manifest.splits["train"].rows > 100
