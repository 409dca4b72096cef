"""Ids of texts: those that calling the tokenizer gives."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from pipeline.modeling.scratch import TURN, train_tokenizer
from pipeline.modeling.tokens import encode_completions, encode_prompts
from tests.conftest import tiny_tokenizer

TEXTS = ["a good film", "", " and a bad one .", f"{TURN}user\nwas it good?<|im_end|>", "水 ß \n\n"]


def called(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    return tokenizer(texts, add_special_tokens=False)["input_ids"]


# Mutations caught: a text's special tokens that are cut in pieces; those that a tokenizer adds itself; truncation
# and padding of a call before that stay switched on.
@pytest.mark.parametrize("split", [False, True])
def test_ids_are_those_of_a_call(split: bool) -> None:
    tokenizer = train_tokenizer(TEXTS, 400, chat=True)
    tokenizer.split_special_tokens = split
    expected = called(tokenizer, TEXTS)
    assert max(map(len, expected)) > 2
    tokenizer(TEXTS, truncation=True, max_length=2, padding="max_length")
    tokenizer.backend_tokenizer.encode_special_tokens = not split
    assert encode_completions(tokenizer, TEXTS) == expected
    assert encode_prompts(tokenizer, TEXTS) == [row or [tokenizer.bos_token_id] for row in expected]
    assert (tokenizer.convert_tokens_to_ids(TURN) in expected[3]) is not split


# Mutation caught: the class not asked.
def test_a_class_that_changes_texts_before_is_called() -> None:
    class Lower(PreTrainedTokenizerFast):
        def _encode_plus(self, text: Any, **more: Any) -> Any:
            return super()._encode_plus([one.lower() for one in text], **more)

    plain = tiny_tokenizer()
    lower = Lower(tokenizer_object=plain.backend_tokenizer, eos_token="<eos>", pad_token="<pad>")
    assert encode_completions(plain, ["W3 w4"]) == [[0, 4]]
    assert encode_completions(lower, ["W3 w4"]) == [[3, 4]]
