"""Every measured case does one step at a tiny size; no time is asserted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.store.store import Store
from tests.bench import collect, evaluate, floor, ppo, reward, sft, smollm2, store
from tests.bench.models import EOS, Size, base, saved_base, tokenizer

TINY = Size(
    "tiny",
    {"n_layer": 2, "n_embd": 32, "n_head": 2, "n_positions": 64, "vocab_size": 64},
    rows=4, micro=2, prompt=5, completion=6, epochs=1, steps=2,
)  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["bf16", "trl bf16"])
def test_reward(name: str, tmp_path: Path) -> None:
    case: Any = reward.cases(TINY, tmp_path)[name]()
    case.warm()
    assert case.run() > 0
    assert len(case.pairs.kept) == TINY.micro * TINY.steps


@pytest.mark.thorough
def test_trainers_do_the_same_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many steps over as many rows: else the rates would not compare."""
    from transformers import Trainer

    steps: list[int] = []
    train = Trainer.train

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = train(self, *args, **kwargs)
        steps.append(self.state.global_step)
        return result

    monkeypatch.setattr(Trainer, "train", counted)
    for name in ("trl", "fp32"):
        reward.cases(TINY, tmp_path)[name]().run()
        sft.cases(TINY, tmp_path, adapt=True)[name]().run()
    assert steps == [TINY.steps] * 4


@pytest.mark.parametrize("name", ["trl", "fp32", "bf16"])
def test_sft_from_scratch(name: str, tmp_path: Path) -> None:
    case: Any = sft.cases(TINY, tmp_path, adapt=False)[name]()
    assert case.run() > 0


@pytest.mark.parametrize("natural", [True, False])
@pytest.mark.parametrize("name", ["generate", "fp32", "bf16", "generate bf16"])
def test_collect(name: str, natural: bool, tmp_path: Path) -> None:
    collect.cases(TINY, tmp_path, natural)[name]().run()


def test_both_ways_of_sampling_have_the_same_prompts(tmp_path: Path) -> None:
    ours: Any = collect.cases(TINY, tmp_path, natural=True)["fp32"]()
    theirs: Any = collect.cases(TINY, tmp_path, natural=True)["generate"]()
    assert ours.prompts == [p for p in theirs.prompts for _ in range(collect.PER_PROMPT)]
    assert len(ours.prompts) == collect.completions(TINY, natural=True)


@pytest.mark.parametrize("name", ["loop", "fp32", "bf16", "loop bf16"])
def test_evaluate(name: str, tmp_path: Path) -> None:
    evaluate.cases(TINY, tmp_path)[name]().run()


@pytest.mark.thorough
def test_ppo_and_its_floor(tmp_path: Path) -> None:
    import torch

    case = ppo.Ours(TINY, tmp_path, bf16=True, trunk_layers=1)
    case.warm()
    case.run()
    assert case.done == 2
    ppo.Theirs(TINY, tmp_path, natural=True).run()
    seconds, flops = floor.seconds(TINY, torch.float32)
    assert seconds > 0 < flops


def test_natural_completions_end_half_of_the_time_within_half_of_the_length() -> None:
    import torch

    model = base(Size("t", TINY.shape, 1, 1, 1, completion=20), natural=True)
    chance = model(torch.randint(2, 64, (64, 8))).logits.softmax(-1)[..., EOS]
    assert 1 - float((1 - chance.mean()) ** 10) == pytest.approx(0.5, abs=0.05)


def test_a_text_has_a_token_for_each_word() -> None:
    assert tokenizer(TINY)("w5 w6 w63")["input_ids"] == [5, 6, 63]


def test_a_base_is_written_once(tmp_path: Path) -> None:
    path = Path(saved_base(TINY, tmp_path))
    written = (path / "model.safetensors").stat().st_mtime_ns
    assert Path(saved_base(TINY, tmp_path)) == path
    assert (path / "model.safetensors").stat().st_mtime_ns == written
    assert saved_base(TINY, tmp_path, natural=True) != str(path)


def test_the_store_of_many_versions_is_one_that_it_reads(tmp_path: Path) -> None:
    data = Store(tmp_path)
    store.build(data, "many", 7)
    assert [v.number for v in data.versions("many")] == list(range(1, 8))
    assert data.resolve("many").number == 7
    assert data.resolve("many@v3").verify() == []
    assert store.publish(data, "many", list(store.rows(5))).number == 8
    found = data.find("many", "key 2")
    assert found is not None
    assert found.number == 2
    store.find(data)


def test_plain_and_published_rows_are_the_same(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    store.plain_write(tmp_path / "rows.parquet", store.rows(30))
    version = store.publish(Store(tmp_path / "data"), "rows", store.rows(30))
    assert version.rows() == pq.read_table(tmp_path / "rows.parquet").to_pylist()


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["trl", "bf16", "trunk"])
def test_an_update_of_a_llama(name: str, tmp_path: Path) -> None:
    shape = {**smollm2.SMOLLM2.shape, "vocab_size": 64, "hidden_size": 36, "intermediate_size": 48}
    size = replace(TINY, shape=shape, family="llama")
    case: Any = smollm2.cases(size, tmp_path)[name]()
    case.warm()
    if name == "trunk":
        trained = {n for n, p in case.trainer.model.named_parameters() if p.requires_grad and "lora_" in n}
        layers = {int(n.split("layers.")[1].split(".")[0]) for n in trained}
        assert layers == set(range(smollm2.TRUNK, 30))
