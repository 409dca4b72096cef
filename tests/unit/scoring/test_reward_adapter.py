"""A reward model's score: the same alone, padded, on a shared base and in Hugging Face's own classes."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipeline.base.errors import ModelError
from pipeline.modeling.lora import lora_config, save_adapter
from pipeline.scoring.reward_adapter import RewardRole, Scoring, score_position, score_rows, scored_rows
from pipeline.scoring.scorer import Samples
from tests.conftest import tiny_gpt2, tiny_llama, tiny_tokenizer, with_lora

PROMPTS = [[5, 6, 7], [8], [1, 2, 3, 4, 9]]
COMPLETIONS = [[10, 11, 51], [12, 13, 14, 15], []]


def classifier(make: Any, tmp_path: Any, pad: int) -> Any:
    """A PEFT sequence classifier over the base that ``make`` gives, as the reward trainer makes it."""
    from peft import get_peft_model
    from transformers import AutoModelForSequenceClassification

    make().save_pretrained(tmp_path / "base")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=1)
    model.config.pad_token_id = pad
    config = lora_config(model, r=4, alpha=8, dropout=0.0, target_modules=None, task_type="SEQ_CLS")
    peft = get_peft_model(model, config).eval()
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if "lora_B" in name or "score.modules_to_save" in name:
                parameter.normal_(std=0.1)
    return peft


def test_position_follows_the_tokenizer():
    assert score_position(tiny_tokenizer()) == "eos"
    assert score_position(tiny_tokenizer(pad_is_eos=True)) == "last"


def test_rows_end_on_the_scored_token():
    # A completion that ended, one cut by length, an empty one. Mutation caught: EOS doubled where it was sampled.
    assert scored_rows(PROMPTS, COMPLETIONS, 51, "eos") == [
        [5, 6, 7, 10, 11, 51],
        [8, 12, 13, 14, 15, 51],
        [1, 2, 3, 4, 9, 51],
    ]
    assert scored_rows(PROMPTS, COMPLETIONS, 51, "last") == [
        [5, 6, 7, 10, 11],
        [8, 12, 13, 14, 15],
        [1, 2, 3, 4, 9],
    ]


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama])
@pytest.mark.parametrize("pad_is_eos", [False, True])
def test_shared_base_scores_what_hugging_face_scores(make: Any, pad_is_eos: bool, tmp_path: Any):
    tokenizer = tiny_tokenizer(pad_is_eos)
    position = score_position(tokenizer)
    reward = classifier(make, tmp_path, tokenizer.pad_token_id)
    save_adapter(reward, "default", tmp_path / "reward", base="x", revision=None, tokenizer=tokenizer)
    Scoring(position, 0.5, 2.0, 10).save(tmp_path / "reward")
    rows = scored_rows(PROMPTS, COMPLETIONS, 51, position)
    width = max(map(len, rows))
    padded = torch.tensor([r + [tokenizer.pad_token_id] * (width - len(r)) for r in rows])
    mask = torch.tensor([[1] * len(r) + [0] * (width - len(r)) for r in rows])
    theirs = reward(input_ids=padded, attention_mask=mask).logits.squeeze(-1)

    shared = with_lora(make())
    scorer = RewardRole.load(shared, tmp_path / "reward", 51)
    # Mutations caught: the score read one token early or late, the head's LoRA left off, normalisation left out.
    scores = scorer(Samples(PROMPTS, COMPLETIONS, tokenizer))
    torch.testing.assert_close(scores * 2.0 + 0.5, theirs.detach(), atol=1e-5, rtol=1e-5)
    assert shared.active_adapter == "policy"


def test_padded_is_single():
    model = tiny_gpt2()
    head = torch.randn(1, 32, generator=torch.Generator().manual_seed(0))
    rows = scored_rows(PROMPTS, COMPLETIONS, 51, "eos")
    together = score_rows(model, head, rows)
    alone = torch.cat([score_rows(model, head, [r]) for r in rows])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(score_rows(model, head, rows, batch_size=2), alone, atol=1e-5, rtol=1e-5)


def test_a_prompt_that_fills_the_positions():
    # 60 + 4 fit the 64 positions, but not with the end that is scored after a completion cut by length. Mutation
    # caught: no limit, where GPT-2 has no embedding for the last position; the end cut off.
    scorer = RewardRole(
        with_lora(tiny_gpt2()), torch.randn(1, 32), Scoring("eos", 0.0, 1.0, 1), 51, adapter="policy"
    )
    prompt, completion = [i % 50 for i in range(60)], [1, 2, 3, 4]
    scores = scorer(Samples([prompt, [5]], [completion, [6]], tiny_tokenizer()))
    expected = score_rows(scorer.model, scorer.head, [[*prompt[1:], *completion, 51], [5, 6, 51]])
    torch.testing.assert_close(scores, expected)
    assert scorer.truncated == 1


def test_a_directory_that_is_no_reward_adapter(tmp_path: Any):
    with pytest.raises(ModelError, match=r"scoring\.json.*make reward"):
        RewardRole.load(with_lora(tiny_gpt2()), tmp_path, 51)
    Scoring("eos", 0.0, 1.0, 1).save(tmp_path)
    with pytest.raises(ModelError, match=r"holds no adapter_model\.safetensors"):
        RewardRole.load(with_lora(tiny_gpt2()), tmp_path, 51)


def byte_level() -> Any:
    """A byte-level BPE that has merges and a separator of its own."""
    from pipeline.modeling.scratch import train_tokenizer

    tokenizer = train_tokenizer(["the walk goes on, the talk goes on — naïve walks ✓ talks"] * 20, 290)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<sep>"]})
    return tokenizer


def words_with_separators() -> Any:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<sep>", "<turn>"]})
    return tokenizer


@pytest.mark.parametrize("make", [byte_level, words_with_separators])
def test_ppo_scores_the_ids_that_the_reward_model_learns_on(make: Any, monkeypatch: pytest.MonkeyPatch):
    # Whatever is sampled: separators, half a character, a word in other tokens than the tokenizer would take.
    # Mutations caught: special tokens left out of the stored text; the sampled ids scored as they are.
    from pipeline.base.records import Annotation, Comparison, preference_from
    from pipeline.modeling.tokens import decode, encode_prompts
    from pipeline.scoring import reward_adapter
    from pipeline.trainers.reward import tokenize_pairs

    tokenizer = make()
    generator = torch.Generator().manual_seed(0)
    sampled = torch.randint(0, len(tokenizer), (64, 12), generator=generator).tolist()
    separator = tokenizer.convert_tokens_to_ids("<sep>")
    sampled = [[*row[:6], separator, *row[6:]] for row in sampled]
    prompts = ["w1 <sep> w2" if i % 2 else "w3" for i in range(64)]
    stored = [decode(tokenizer, row) for row in sampled]
    rows = [
        vars(preference_from(c := Comparison(p, text, "w1"), Annotation(c.id, "me", "a")))
        for p, text in zip(prompts, stored, strict=True)
    ]
    learnt = tokenize_pairs(tokenizer, rows, 10**9, score_position(tokenizer)).chosen_ids
    scored: list[list[int]] = []

    def keep(model: Any, head: Any, rows: list[list[int]], batch_size: int = 64) -> Any:
        scored.extend(rows)
        return torch.zeros(len(rows))

    monkeypatch.setattr(reward_adapter, "score_rows", keep)
    monkeypatch.setattr(reward_adapter, "active_adapter", lambda *_: contextlib.nullcontext())
    position = score_position(tokenizer)
    model = SimpleNamespace(config=SimpleNamespace(), device="cpu")
    scorer = RewardRole(model, torch.zeros(1, 1), Scoring(position, 0.0, 1.0, 1), tokenizer.eos_token_id)
    scorer(Samples(encode_prompts(tokenizer, prompts), sampled, tokenizer, prompts))
    assert scored == learnt
    ended = [row.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in row else len(row) for row in sampled]
    kept = [separator in row[:end] for row, end in zip(sampled, ended, strict=True)]
    assert [separator in text_ids[1:] for text_ids in learnt[::2]] == kept[::2]  # of prompts without one
    assert separator in learnt[1]  # a special token that is written in a prompt is the token
