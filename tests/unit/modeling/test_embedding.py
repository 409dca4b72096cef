"""Embeddings from a tiny local model: batches change nothing, padding counts for nothing, bad models are named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from pipeline.base.errors import ModelError
from pipeline.modeling.embedding import load_embedder

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "sat", "good", "bad"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("encoder")
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(path)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
        initializer_range=0.4,
    )
    BertModel(config).save_pretrained(path)
    return path


# Catches: a mean that counts padding, vectors in the order of length, no unit length.
def test_the_mean_of_the_tokens_states(encoder: Path) -> None:
    embed = load_embedder(str(encoder), "cpu", "x.yaml", "evaluate.embedding_model")
    texts = ["the cat sat good bad the cat", "good", "", "bad cat"]
    together = embed(texts, batch_size=2)
    assert together.shape == (4, 16)
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    for text, vector in zip(texts, together, strict=True):
        assert embed([text])[0] == pytest.approx(vector, abs=1e-5)
    ids = torch.tensor([[2, 7, 3]])
    states = embed.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
    assert together[1] == pytest.approx(
        torch.nn.functional.normalize(states.mean(0), dim=0).detach().numpy(), abs=1e-5
    )
    assert len(embed(["the " * 100])) == 1  # longer than the model can read


def test_pooling_by_the_first_token_where_the_model_says_so(encoder: Path, tmp_path: Path) -> None:
    for file in encoder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    embed = load_embedder(str(tmp_path), "cpu", "x.yaml", "evaluate.embedding_model")
    states = embed.model(input_ids=torch.tensor([[2, 7, 3]])).last_hidden_state[0, 0]
    assert embed(["good"])[0] == pytest.approx(
        torch.nn.functional.normalize(states, dim=0).detach().numpy(), abs=1e-5
    )


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    for source in (str(tmp_path / "none"), str(tmp_path)):
        with pytest.raises(ModelError) as caught:
            load_embedder(source, "cpu", "x.yaml", "evaluate.embedding_model")
        assert "x.yaml: evaluate.embedding_model" in str(caught.value)
