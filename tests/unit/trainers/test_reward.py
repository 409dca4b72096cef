"""Reward training: a step of it is one of TRL's own, in passes; precision, the head, and what it learns."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification
from trl import RewardConfig, RewardTrainer

from pipeline.modeling.lora import lora_config
from pipeline.scoring.reward_adapter import score_rows
from pipeline.trainers.packed_classifier import classifier, set_up_passes
from pipeline.trainers.reward import Pairs, RewardSection, Trainer, score_head, train
from tests.conftest import tiny_gpt2, tiny_llama, tiny_tokenizer

GOOD, BAD = 3, 4


def ragged_pairs(n: int, seed: int, margins: bool = False) -> Pairs:
    """Noise after a common prompt, in which one word, anywhere, says which completion is chosen."""
    rng = random.Random(seed)

    def words(least: int, most: int) -> list[int]:
        return [rng.randrange(10, 50) for _ in range(rng.randrange(least, most))]

    sides: dict[int, list[list[int]]] = {GOOD: [], BAD: []}
    for _ in range(n):
        prompt = words(1, 9)
        for word, rows in sides.items():
            completion = words(1, 9)
            completion.insert(rng.randrange(len(completion) + 1), word)
            rows.append([*prompt, *completion, 51])
    margin = [rng.random() for _ in range(n)] if margins else None
    return Pairs(sides[GOOD], sides[BAD], margin, list(range(n)), 0)


def base_in(root: Path, kind: str = "gpt2") -> str:
    model = tiny_gpt2() if kind == "gpt2" else tiny_llama()
    model.config.pad_token_id = None
    model.save_pretrained(root / "base")
    return str(root / "base")


def settings(root: Path, **more: Any) -> dict[str, Any]:
    return {
        "output_dir": str(root / "work"), "report_to": "none", "use_cpu": True, "bf16": False,
        "disable_tqdm": True, "gradient_checkpointing": False, "save_strategy": "no",
        "per_device_train_batch_size": 8,
        "center_rewards_coefficient": 0.01, "logging_steps": 1, **more,
    }  # fmt: skip


def set_weights(model: Any) -> None:
    """An adapter and a head that do something."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or "score.modules_to_save" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)


def theirs(root: Path, base: str, pairs: Pairs) -> Any:
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)
    trainer = RewardTrainer(
        model=model, args=RewardConfig(**settings(root)), processing_class=tiny_tokenizer(),
        train_dataset=pairs.dataset(),
        peft_config=lora_config(model, r=4, alpha=8, dropout=0.0, target_modules=None, task_type="SEQ_CLS"),
    )  # fmt: skip
    set_weights(trainer.model)
    return trainer


def ours(root: Path, base: str, pairs: Pairs, rows_per_pass: int | None = None, **more: Any) -> Any:
    args = RewardSection(**settings(root, lora_r=4, lora_alpha=8, **more))
    model = classifier(base, None, 0)
    rows = set_up_passes(model, args, (pairs.chosen_ids, pairs.rejected_ids))
    trainer = Trainer(
        model=model, args=args, processing_class=tiny_tokenizer(), train_dataset=pairs.dataset(),
        rows_per_pass=rows_per_pass or rows, peft_config=lora_config(model, **args.lora(), task_type="SEQ_CLS"),
    )  # fmt: skip
    set_weights(trainer.model)
    return trainer


def step(trainer: Any) -> tuple[float, dict[str, Tensor], dict[str, list[float]]]:
    """The loss, the gradients and the figures of one step on all of the trainer's pairs."""
    trainer.current_gradient_accumulation_steps = 1
    loss = trainer.training_step(trainer.model, trainer.data_collator(list(trainer.train_dataset)))
    gradients = {n: p.grad for n, p in trainer.model.named_parameters() if p.grad is not None}
    return loss.item(), gradients, dict(trainer._metrics["train"])


def assert_same_step(ours: Any, theirs: Any, rtol: float = 1e-5) -> None:
    loss, gradients, figures = step(ours)
    expected_loss, expected, expected_figures = step(theirs)
    assert loss == pytest.approx(expected_loss, rel=rtol)
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (gradients[name] - gradient).norm() <= rtol * gradient.norm(), name
    assert figures.keys() == expected_figures.keys()
    for name, values in expected_figures.items():
        assert figures[name] == pytest.approx(values, rel=1e-4), name


# Seen failing with: a pass's mean loss added without its share; margins in the batch's order; the rejected rows of
# other pairs; minima averaged over passes.
@pytest.mark.agrees(
    "Reward model: loss, gradients and figures of a step are those of TRL's `RewardTrainer`, with margins "
    "too, on GPT-2 and Llama."
)
@pytest.mark.parametrize("rows_per_pass", [8, 3, 1])
@pytest.mark.parametrize("margins", [False, True])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_step_is_one_of_trls(tmp_path: Path, kind: str, margins: bool, rows_per_pass: int):
    base, pairs = base_in(tmp_path, kind), ragged_pairs(8, seed=1, margins=margins)
    assert_same_step(ours(tmp_path, base, pairs, rows_per_pass), theirs(tmp_path, base, pairs))


# The way of a base that does not fit, and of blocks that are computed again in the backward pass.
def test_a_step_on_padded_rows_is_one_of_trls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    base, pairs = base_in(tmp_path, "llama"), ragged_pairs(8, seed=1, margins=True)
    assert_same_step(ours(tmp_path, base, pairs, 3, gradient_checkpointing=True), theirs(tmp_path, base, pairs))
    monkeypatch.setattr("pipeline.trainers.packed_classifier.fits", lambda *_: False)
    assert_same_step(ours(tmp_path, base, pairs, 3), theirs(tmp_path, base, pairs))


# Mutation caught: an order of its own.
def test_batches_come_in_trls_order(tmp_path: Path):
    base, pairs = base_in(tmp_path), ragged_pairs(40, seed=1)
    loaders = [make(tmp_path, base, pairs).get_train_dataloader() for make in (ours, theirs)]
    assert [type(loader.get_sampler()).__name__ for loader in loaders] == ["SameOrder", "SeedableRandomSampler"]
    for mine, trls in zip(*loaders, strict=True):
        assert torch.equal(mine["input_ids"], trls["input_ids"])


def tokens_of_a_pass(trainer: Any) -> int:
    """Tokens that the base's embedding reads in one step."""
    seen: list[int] = []
    embedding = trainer.model.get_base_model().get_input_embeddings()
    embedding.register_forward_hook(lambda _m, args, _out: seen.append(args[0].numel()))
    step(trainer)
    return sum(seen)


def test_shared_prompts_are_read_once_unless_there_is_dropout(tmp_path: Path):
    base, pairs = base_in(tmp_path), ragged_pairs(8, seed=1)
    both = sum(map(len, [*pairs.chosen_ids, *pairs.rejected_ids]))
    shared = 0
    for chosen, rejected in zip(pairs.chosen_ids, pairs.rejected_ids, strict=True):
        shared += next(i for i, (c, r) in enumerate(zip(chosen, rejected, strict=False)) if c != r)
    assert tokens_of_a_pass(ours(tmp_path, base, pairs)) == both - shared
    # Two sides of a pair would have the same noise on their prompt.
    assert tokens_of_a_pass(ours(tmp_path, base, pairs, lora_dropout=0.1)) == both


def test_bf16_is_of_the_base_alone(tmp_path: Path):
    base, pairs = base_in(tmp_path), ragged_pairs(8, seed=1)
    exact, rounded = ours(tmp_path, base, pairs), ours(tmp_path, base, pairs, bf16=True)
    assert rounded.accelerator.mixed_precision == "no"
    dtypes = {n: p.dtype for n, p in rounded.model.named_parameters()}
    trained = [n for n, p in rounded.model.named_parameters() if p.requires_grad]
    assert {dtypes[n] for n in trained} == {torch.float32}
    assert {d for n, d in dtypes.items() if n not in trained and "score" not in n} == {torch.bfloat16}
    loss, gradients, _ = step(rounded)
    expected_loss, expected, _ = step(exact)
    assert loss == pytest.approx(expected_loss, abs=0.01)
    for name, gradient in expected.items():
        cosine = torch.nn.functional.cosine_similarity(gradients[name].flatten(), gradient.flatten(), 0)
        assert cosine > 0.98, name
    rows = [*pairs.chosen_ids, *pairs.rejected_ids]
    scores, exact_scores = (score_rows(t.model.eval(), score_head(t.model), rows) for t in (rounded, exact))
    # Twelve sets of pairs were .02 to .06 apart on one processor; this one was .030, and .038 on one without AVX.
    # Without the adapter they are .9 to 2.3 apart.
    assert (scores - exact_scores).abs().max() < 0.2 * exact_scores.std()


def test_the_head_has_its_own_learning_rate(tmp_path: Path):
    base, pairs = base_in(tmp_path), ragged_pairs(16, seed=1)
    for rate, expected in ((None, {1e-3}), (0.1, {0.1})):
        trainer = ours(tmp_path, base, pairs, learning_rate=1e-3, head_learning_rate=rate, weight_decay=0.1)
        optimizer = trainer.create_optimizer()
        head = score_head(trainer.model)
        rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
        assert {rates[id(head)]} == expected
        assert len(rates) == sum(p.requires_grad for p in trainer.model.parameters())
        assert {r for p, r in rates.items() if p != id(head)} == {1e-3}
        assert {g["weight_decay"] for g in optimizer.param_groups if g["params"]} == {0.1}


def accuracy(model: Any, pairs: Pairs) -> float:
    chosen, rejected = (
        score_rows(model, score_head(model), rows) for rows in (pairs.chosen_ids, pairs.rejected_ids)
    )
    return (chosen > rejected).float().mean().item()


LEARNS: dict[str, Any] = {"learning_rate": 1e-2, "num_train_epochs": 2.0}
TO_LEARN, HELD_OUT = ragged_pairs(320, seed=2), ragged_pairs(200, seed=3)


@pytest.fixture(scope="module")
def trls_accuracy(tmp_path_factory: pytest.TempPathFactory) -> float:
    """What TRL's own trainer reaches, in fp32."""
    root = tmp_path_factory.mktemp("trl")
    base, args = base_in(root), RewardSection(**settings(root, **LEARNS))
    trainer = RewardTrainer(
        model=classifier(base, None, 0), args=RewardConfig(**settings(root, **LEARNS)),
        processing_class=tiny_tokenizer(), train_dataset=TO_LEARN.dataset(),
        peft_config=lora_config(classifier(base, None, 0), **args.lora(), task_type="SEQ_CLS"),
    )  # fmt: skip
    trainer.train()
    return accuracy(cast("Any", trainer.accelerator.unwrap_model(trainer.model)).eval(), HELD_OUT)


@pytest.mark.agrees("Reward model: after two epochs it is as accurate on held-out pairs as with TRL's, to 0.04.")
@pytest.mark.parametrize("bf16", [False, pytest.param(True, marks=pytest.mark.thorough)])
def test_it_learns_as_trls_does(tmp_path: Path, trls_accuracy: float, bf16: bool):
    args = RewardSection(**settings(tmp_path, bf16=bf16, **LEARNS))
    model, figures = train(args, base_in(tmp_path), None, tiny_tokenizer(), TO_LEARN, tmp_path / "metrics.jsonl")
    assert figures["steps"] == 80
    assert accuracy(model, HELD_OUT) > 0.95
    assert accuracy(model, HELD_OUT) == pytest.approx(trls_accuracy, abs=0.04)


def test_the_loss_starts_at_the_logarithm_of_two_on_large_states(tmp_path: Path):
    model = tiny_llama()
    model.config.pad_token_id = None
    with torch.no_grad():
        model.model.norm.weight.mul_(30)  # as of some pretrained bases
    model.save_pretrained(tmp_path / "base")
    pairs = ragged_pairs(32, seed=1)
    args = RewardSection(**settings(tmp_path, max_steps=1))
    metrics = tmp_path / "metrics.jsonl"
    train(args, str(tmp_path / "base"), None, tiny_tokenizer(), pairs, metrics)
    assert json.loads(metrics.read_text().splitlines()[0])["loss"] == pytest.approx(0.693, abs=0.02)
