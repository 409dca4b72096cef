"""The pointwise loss: what it is, what does not change it, and that a model learns by it."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.base.errors import DataError
from pipeline.base.records import reader_of
from pipeline.evaluation.reward.pointwise_metrics import auc
from pipeline.modeling.lora import save_adapter
from pipeline.modeling.reader_heads import save_reader_heads
from pipeline.modeling.tokens import pad_id
from pipeline.scoring.reward_adapter import score_position, score_rows
from pipeline.trainers import pointwise, reward
from pipeline.trainers.pointwise import Collator, Labelled, PointwiseTrainer, log_odds, pointwise_loss
from pipeline.trainers.reward import RewardSection, score_head, tokenize_pairs
from tests.conftest import tiny_gpt2, tiny_tokenizer

GOOD, BAD = "w3", "w4"


def toy(n: int, seed: int, likes: float = 0.5) -> list[dict[str, Any]]:
    """Noise in which one word, anywhere, says whether the completion is liked."""
    rng = random.Random(seed)
    rows: list[dict[str, Any]] = []
    for i in range(n):
        label = rng.random() < likes
        words = [f"w{rng.randrange(10, 50)}" for _ in range(rng.randrange(3, 7))]
        words.insert(rng.randrange(len(words)), GOOD if label else BAD)
        rows.append({"id": str(i), "prompt": "w1 w2", "completion": " ".join(words), "label": label})
    return rows


def settings(root: Path, **more: Any) -> RewardSection:
    known: dict[str, Any] = {
        "report_to": "none", "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "disable_tqdm": True,
        "save_strategy": "no", "per_device_train_batch_size": 16, "loss": "pointwise",
    }  # fmt: skip
    return RewardSection(output_dir=str(root / "work"), **{**known, **more})


def base_in(root: Path, model: Any) -> str:
    model.save_pretrained(root / "base")
    return str(root / "base")


def tokenized(rows: Sequence[dict[str, Any]], tokenizer: Any, max_length: int = 100) -> Labelled:
    return pointwise.tokenize_labelled(tokenizer, rows, max_length, score_position(tokenizer))


def trained(root: Path, base: Any, rows: Sequence[dict[str, Any]], tokenizer: Any, **more: Any) -> tuple[Any, Any]:
    args = settings(root, **more)
    data = tokenized(rows, tokenizer)
    made = pointwise.train(args, base_in(root, base), None, tokenizer, data, root / "metrics.jsonl")
    return made.model, made.figures


# Catches: a sum for the mean, likes and dislikes swapped, the offset left out or its sign.
def test_loss_equals_a_plain_loop():
    scores, liked, offset = [0.3, -1.2, 2.0, 0.0], [1.0, 1.0, 0.0, 0.0], 0.7
    total = 0.0
    for score, label in zip(scores, liked, strict=True):
        like = 1 / (1 + math.exp(-(score + offset)))
        total -= math.log(like) if label else math.log(1 - like)
    found = pointwise_loss(torch.tensor(scores), torch.tensor(liked), offset)
    assert found.item() == pytest.approx(total / 4, rel=1e-6)


def gradient(scores: Sequence[float], liked: Sequence[bool], offset: float) -> torch.Tensor:
    given = torch.tensor(scores, requires_grad=True)
    pointwise_loss(given, torch.tensor(liked).float(), offset).backward()
    assert given.grad is not None
    return given.grad


def test_swapping_the_labels_flips_the_gradient():
    scores, liked = [0.3, -1.2, 2.0, 0.0, 0.4], [True, True, False, False, True]
    swapped = [not label for label in liked]
    before, after = gradient(scores, liked, 0.4), gradient(scores, swapped, 0.4)
    assert torch.equal(before.sign(), -after.sign())
    # Dislikes for likes is the whole problem in the mirror, and so is the gradient.
    torch.testing.assert_close(gradient([-s for s in scores], swapped, -0.4), -before)


# Catches: the log-odds of dislikes; no offset.
def test_the_offset_leaves_no_common_shift_to_learn():
    labels = [True] * 9 + [False]
    assert log_odds(labels) == pytest.approx(math.log(9))
    assert gradient([0.0] * 10, labels, log_odds(labels)).sum().item() == pytest.approx(0.0, abs=1e-7)
    assert abs(gradient([0.0] * 10, labels, 0.0).sum().item()) > 0.3


@pytest.mark.parametrize(("labels", "said"), [([True] * 3, "all 3 completions are likes"), ([False], "dislikes")])
def test_labels_that_are_all_alike(labels: list[bool], said: str):
    with pytest.raises(DataError, match=said):
        log_odds(labels)


@pytest.mark.parametrize("pad_is_eos", [False, True])
def test_rows_are_those_of_pairs(pad_is_eos: bool):
    tokenizer = tiny_tokenizer(pad_is_eos)
    rows = toy(12, seed=0)
    position = score_position(tokenizer)
    pairs = [{"prompt": r["prompt"], "chosen": r["completion"], "rejected": "w5"} for r in rows]
    assert tokenized(rows, tokenizer).ids == tokenize_pairs(tokenizer, pairs, 100, position).chosen_ids


# Catches: labels of rows that were dropped.
def test_long_rows_are_dropped_with_their_labels():
    rows = [
        {"prompt": "w1", "completion": "w2 w3 w4 w5", "label": True},
        {"prompt": "w1", "completion": "w2", "label": False},
    ]
    found = tokenized(rows, tiny_tokenizer(), max_length=3)
    assert (found.ids, found.labels, found.kept, found.dropped) == ([[1, 2, 51]], [False], [1], 1)
    assert tokenized([], tiny_tokenizer()).ids == []


# Mutations caught: a row's number counted within its batch; labels or readers of rows that were dropped.
@pytest.mark.parametrize("readers", [False, True])
def test_rows_in_a_file_are_those_of_memory(readers: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reward, "ROWS", 5)
    tokenizer = tiny_tokenizer()
    rows = [row | {"annotator": f"person {i % 3}"} for i, row in enumerate(toy(23, seed=0))]
    limit = sorted(len(ids) for ids in tokenized(rows, tokenizer).ids)[12]
    path, position = tmp_path / "rows.arrow", score_position(tokenizer)
    found = pointwise.tokenize_labelled(tokenizer, rows, limit, position, path, readers)
    kept = [i for i, ids in enumerate(tokenized(rows, tokenizer).ids) if len(ids) <= limit]
    assert 0 < found.dropped == len(rows) - len(kept)
    assert found.kept == kept
    assert found.labels == [rows[i]["label"] for i in kept]
    names = [reader_of(rows[i]["annotator"]) for i in kept] if readers else []
    held = Labelled([*found.ids], [*found.labels], kept, found.dropped, found.longest, names)
    assert found.dataset()[:] == held.dataset()[:]
    assert list(found.readers) == names
    again = pointwise.tokenize_labelled(tokenizer, iter(()), limit, position, path, readers)
    assert (again.ids, again.dropped, again.longest) == (held.ids, held.dropped, held.longest)


@pytest.fixture(params=[False, True], ids=["own padding token", "padding is eos"])
def trainer(request: pytest.FixtureRequest, tmp_path: Path, base: Any) -> Any:
    """A trainer before its first step, whose adapter does something, and its tokenised rows."""
    from pipeline.modeling.lora import lora_config
    from pipeline.trainers.reward import classifier

    tokenizer = tiny_tokenizer(request.param)
    base.config.pad_token_id = None
    model = classifier(base_in(tmp_path, base), None, 0)
    args = settings(tmp_path)
    rows = tokenized(toy(16, seed=1, likes=0.8), tokenizer)
    made: Any = PointwiseTrainer(
        model=model, args=args, data_collator=Collator(pad_id(tokenizer)), processing_class=tokenizer,
        train_dataset=rows.dataset(), offset=log_odds(rows.labels),
        peft_config=lora_config(model, **args.lora(), task_type="SEQ_CLS"),
    )  # fmt: skip
    with torch.no_grad():
        for name, parameter in made.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    made.rows = rows
    return made


def loss_of(trainer: Any, rows: list[dict[str, Any]], extra: int = 0) -> float:
    batch = trainer.data_collator(rows)
    wider = {"input_ids": trainer.data_collator.fill, "attention_mask": 0}
    for name, fill in wider.items():
        batch[name] = torch.nn.functional.pad(batch[name], (0, extra), value=fill)
    with torch.no_grad():
        return trainer.compute_loss(trainer.model, batch).item()


# Catches: padded with another token than the one by which the scored position is found.
def test_padding_does_not_change_the_loss(trainer: Any):
    rows = list(trainer.train_dataset)
    assert len({len(r["input_ids"]) for r in rows}) > 2
    whole = loss_of(trainer, rows)
    assert loss_of(trainer, rows, extra=7) == pytest.approx(whole, abs=1e-5)
    alone = [loss_of(trainer, [row]) for row in rows]
    assert sum(alone) / len(alone) == pytest.approx(whole, abs=1e-5)


# Catches: a loss at another token than the one that is scored when it is published.
def test_the_loss_is_that_of_the_published_score(trainer: Any):
    scores = score_rows(trainer.model.eval(), score_head(trainer.model), trainer.rows.ids)
    expected = pointwise_loss(scores, torch.tensor(trainer.rows.labels).float(), trainer.offset).item()
    assert loss_of(trainer, list(trainer.train_dataset)) == pytest.approx(expected, abs=1e-5)


# Catches: figures of the pairs' halves, accuracy without the offset.
def test_figures_of_a_batch(trainer: Any):
    rows = list(trainer.train_dataset)
    loss_of(trainer, rows)
    found = {k: v[-1] for k, v in trainer._metrics["train"].items()}
    scores = score_rows(trainer.model.eval(), score_head(trainer.model), trainer.rows.ids)
    right = [(s > -trainer.offset) == label for s, label in zip(scores.tolist(), trainer.rows.labels, strict=True)]
    assert found["num_tokens"] == sum(len(r["input_ids"]) for r in rows)
    assert found["accuracy"] == pytest.approx(sum(right) / len(right))
    assert found["mean_reward"] == pytest.approx(scores.mean().item(), abs=1e-5)
    assert (found["min_reward"], found["max_reward"]) == (
        pytest.approx(scores.min().item(), abs=1e-5), pytest.approx(scores.max().item(), abs=1e-5),
    )  # fmt: skip


# Catches: labels that do not reach the loss, columns dropped, a frozen head. Nine likes for each dislike.
@pytest.mark.thorough
@pytest.mark.parametrize("likes", [0.5, 0.9])
def test_it_learns(tmp_path: Path, likes: float):
    tokenizer = tiny_tokenizer()
    data = toy(480, seed=2, likes=likes)
    model, figures = trained(
        tmp_path, tiny_gpt2(), data, tokenizer, num_train_epochs=3.0, learning_rate=1e-2, logging_steps=10
    )
    assert figures["steps"] == 90
    assert figures["completions"] == 480
    assert figures["likes"] == sum(r["label"] for r in data)
    held_out = tokenized(toy(200, seed=3), tokenizer)
    area = auc(score_rows(model, score_head(model), held_out.ids), held_out.labels)
    assert area.value > 0.9
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 10
    with torch.no_grad():
        assert not any(
            p.requires_grad for n, p in model.named_parameters() if "lora" not in n and "score" not in n
        )


def test_too_few_for_a_batch(tmp_path: Path):
    with pytest.raises(DataError, match="3 completions are too few for a batch of 16"):
        trained(tmp_path, tiny_gpt2(), toy(3, seed=0), tiny_tokenizer())


def opinions(n: int, seed: int, readers: Sequence[str]) -> list[dict[str, Any]]:
    """Of two readers one likes what the other does not: together they like nothing."""
    rows: list[dict[str, Any]] = []
    for i, row in enumerate(toy(n, seed)):
        side = i % len(readers)
        rows.append({**row, "label": row["label"] != (side == 1), "annotator": readers[side]})
    return rows


# Mutations caught: the readers' heads left out of the loss; the shared head in place of a reader's; rows numbered
# in another order than the heads are.
@pytest.mark.thorough
def test_each_reader_has_a_head_where_tastes_cancel_out(tmp_path: Path):
    tokenizer, names = tiny_tokenizer(), ["p_00000000aa", "p_00000000bb"]
    args = settings(tmp_path, learning_rate=1e-2, num_train_epochs=4)
    position = score_position(tokenizer)
    data = pointwise.tokenize_labelled(tokenizer, opinions(480, 0, names), 100, position, readers=True)
    base = base_in(tmp_path, tiny_gpt2())
    made = pointwise.train(args, base, None, tokenizer, data, tmp_path / "metrics.jsonl")
    readers = [reader_of(name) for name in names]
    assert list(made.heads) == sorted(readers)
    assert score_head(made.model).shape == made.heads[readers[0]].shape == (1, 32)
    held_out = toy(120, 1)
    ids, liked = tokenized(held_out, tokenizer).ids, [row["label"] for row in held_out]

    def area(head: torch.Tensor) -> float:
        return auc(score_rows(made.model, head, ids).tolist(), liked).value

    shared = score_head(made.model)
    assert area(shared + made.heads[readers[0]]) > 0.9
    assert area(shared + made.heads[readers[1]]) < 0.1

    # A reader's own model begins with the trunk, the shared head and theirs, as the stage leaves them.
    start = tmp_path / "start"
    save_adapter(made.model, "default", start, base=base, revision=None, tokenizer=tokenizer)
    save_reader_heads(start, made.heads)
    own = [row for row in opinions(480, 0, names) if row["annotator"] == names[1]][:16]
    for reader, below in ((readers[1], True), ("r00000000", None)):
        args = settings(tmp_path / reader, learning_rate=1e-6, max_steps=1, reader=reader, head_only=True)
        begun = pointwise.train(
            args, base, None, tokenizer, tokenized(own, tokenizer), tmp_path / "m.jsonl", start, ids
        )
        # Before training it is measured as everybody's.
        assert begun.before == pytest.approx(score_rows(made.model, shared, ids).tolist(), abs=1e-5)
        after = auc(score_rows(begun.model, score_head(begun.model), ids).tolist(), liked).value
        assert after < 0.1 if below else after == pytest.approx(area(shared), abs=0.05)
        assert begun.heads == {}
        trunk = [(n, p) for n, p in begun.model.named_parameters() if "lora_" in n]
        expected = dict(made.model.named_parameters())
        assert all(torch.equal(p, expected[n]) for n, p in trunk)
