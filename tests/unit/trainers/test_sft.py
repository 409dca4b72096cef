"""A step of sft against TRL's own trainer: the same loss, gradients and figures on rows of unequal length."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from pipeline.modeling.lora import lora_config, merge_into
from pipeline.modeling.precision import cast_base_to_bf16
from pipeline.trainers import sft
from pipeline.trainers.sft import SFTSection, Trainer, tokenizer_texts
from tests.conftest import tiny_gpt2, tiny_llama, tiny_tokenizer
from tests.unit.modeling.unpadded.test_rows import tiny_bloom, tiny_mistral

ROWS = [[5, 6, 7, 8, 9, 3], [9, 1, 4], [3, 8], [2, 2, 4, 6]]


def arguments(kind: type[SFTConfig], root: Path, **more: Any) -> Any:
    return kind(
        output_dir=str(root), report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False,
        save_strategy="no", disable_tqdm=True, per_device_train_batch_size=len(ROWS), per_device_eval_batch_size=3,
        **more,
    )  # fmt: skip


def made(kind: Any, args: Any, model: Any, lora: bool) -> Any:
    torch.manual_seed(4)
    data = Dataset.from_dict({"input_ids": ROWS})
    config = {"r": 2, "alpha": 4, "dropout": 0.0, "target_modules": None, "task_type": "CAUSAL_LM"}
    trainer = kind(
        model=model, args=args, processing_class=tiny_tokenizer(), train_dataset=data, eval_dataset=data,
        peft_config=lora_config(model, **config) if lora else None,
    )  # fmt: skip
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:  # zero at the start, which would hide A's gradient
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(5))
    return trainer


def step(trainer: Any, items: int | None) -> tuple[float, dict[str, torch.Tensor], dict[str, Any]]:
    batch = trainer._prepare_inputs(trainer.data_collator([trainer.train_dataset[i] for i in range(len(ROWS))]))
    loss = trainer.compute_loss(trainer.model.train(), batch, num_items_in_batch=items)
    loss.backward()
    grads = {n: p.grad for n, p in trainer.model.named_parameters() if p.grad is not None}
    return float(loss.detach()), grads, {k: v[-1] for k, v in trainer._metrics["train"].items()}


@pytest.mark.agrees(
    "SFT: loss, gradients and figures of a step are those of TRL's `SFTTrainer`, on four kinds of models, "
    "with LoRA and without."
)
@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("items", [None, 40])
@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama, tiny_bloom, lambda: tiny_mistral(3)])
def test_loss_gradients_and_figures_are_trls(make: Any, items: int | None, lora: bool, tmp_path: Path):
    model = make()
    theirs = made(SFTTrainer, arguments(SFTConfig, tmp_path), copy.deepcopy(model), lora)
    ours = made(Trainer, arguments(SFTSection, tmp_path), model, lora)
    (loss, grads, figures), (own_loss, own_grads, own_figures) = step(theirs, items), step(ours, items)
    assert own_loss == pytest.approx(loss, rel=1e-5)
    assert own_grads.keys() == grads.keys()
    for name, grad in grads.items():
        # Mutations caught: targets not shifted; the last token of a row predicting the next row's first.
        assert float((own_grads[name] - grad).norm() / grad.norm().clamp(min=1e-6)) < 1e-5 * 3, name
    assert own_figures == pytest.approx(figures, rel=1e-5)
    assert ours.evaluate()["eval_loss"] == pytest.approx(theirs.evaluate()["eval_loss"], rel=1e-5)


def test_checkpointed_blocks_and_other_losses_are_left_as_they_are(tmp_path: Path):
    for more in ({"loss_type": "nll"}, {"loss_type": "dft"}, {"gradient_checkpointing": True}):
        section = arguments(SFTSection, tmp_path)
        for key, value in more.items():
            setattr(section, key, value)
        theirs = arguments(SFTConfig, tmp_path)
        for key, value in more.items():
            setattr(theirs, key, value)
        model = tiny_gpt2()
        expected = step(made(SFTTrainer, theirs, copy.deepcopy(model), False), None)[0]
        assert step(made(Trainer, section, model, False), None)[0] == pytest.approx(expected, rel=1e-5)


def test_a_base_in_bf16_learns_as_one_in_fp32_and_is_merged_in_its_own_precision(tmp_path: Path):
    model = tiny_gpt2()
    exact = step(made(Trainer, arguments(SFTSection, tmp_path), copy.deepcopy(model), True), None)
    cast = copy.deepcopy(model)
    cast_base_to_bf16(cast, adapted=True)
    trainer = made(Trainer, arguments(SFTSection, tmp_path), cast, True)
    rounded = step(trainer, None)
    assert rounded[0] == pytest.approx(exact[0], rel=0.02)
    assert {p.dtype for n, p in trainer.model.named_parameters() if "lora_" in n} == {torch.float32}
    for name, grad in exact[1].items():
        assert float(torch.cosine_similarity(grad.flatten(), rounded[1][name].flatten(), dim=0)) > 0.99, name
    whole = copy.deepcopy(model)
    merged: Any = merge_into(whole, trainer.model)
    layer = trainer.model.get_base_model().transformer.h[0].attn.c_attn
    # Mutation caught: the update added to the rounded weights.
    expected = model.transformer.h[0].attn.c_attn.weight + layer.get_delta_weight("default")
    assert torch.equal(merged.transformer.h[0].attn.c_attn.weight, expected)


# Mutations caught: the first ones alone, of a sorted corpus; a step that leaves out more than it has to.
@pytest.mark.parametrize(("most", "read"), [(7, "abcdefg"), (6, "aceg"), (4, "aceg"), (3, "adg"), (1, "a")])
def test_a_tokenizer_learns_from_every_part_of_a_large_corpus(
    most: int, read: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sft, "TOKENIZER_TEXTS", most)
    assert "".join(map(str, tokenizer_texts([*"abcdefg"]))) == read
