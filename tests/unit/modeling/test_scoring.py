"""A reward model's score: the same alone, padded, on a shared base and in Hugging Face's own classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipeline.core.errors import ModelError
from pipeline.modeling.lora import lora_config, save_adapter
from pipeline.modeling.samples import Samples
from pipeline.modeling.scoring import RewardRole, Scoring, score_position, score_rows, scored_rows
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
