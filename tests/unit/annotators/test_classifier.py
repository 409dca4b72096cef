"""The classifier annotator on tiny random models: scores against a plain forward pass, and what it refuses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2ForSequenceClassification,
    PreTrainedTokenizerFast,
)

from pipeline.annotators import Annotator, Context, load_annotator
from pipeline.base.errors import ConfigError, ModelError, PipelineError
from pipeline.base.records import Abstention, Annotation, Comparison
from tests.helpers.refusals import refusal

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "film", "is", "good", "bad", "the", "very", "dull"]
COMPARISONS = [
    Comparison("the film", " is good", " is bad"),
    Comparison("the film is", " very very good", " dull"),
    Comparison("film", " very bad", " is the film"),
    Comparison("is the film", " good good good good", " bad"),
    Comparison("the", " dull film", " very good film"),
]


def save_tokenizer(path: Path, *, bert: bool, pad: bool = True, eos: bool = True) -> None:
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    if bert:
        special = [("[CLS]", 2), ("[SEP]", 3)]
        backend.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, special)  # type: ignore[assignment]
    tokens = (
        {"unk_token": "[UNK]"} | ({"pad_token": "[PAD]"} if pad else {}) | ({"eos_token": "[SEP]"} if eos else {})
    )
    PreTrainedTokenizerFast(tokenizer_object=backend, **tokens).save_pretrained(path)


def bert_config(**options: Any) -> BertConfig:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return BertConfig(vocab_size=len(WORDS), max_position_embeddings=24, initializer_range=0.4, **sizes, **options)


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "tiny-bert"
    labels = {0: "NEGATIVE", 1: "POSITIVE", 2: "NEUTRAL"}
    BertForSequenceClassification(
        bert_config(id2label=labels, label2id={v: k for k, v in labels.items()})
    ).save_pretrained(path)
    save_tokenizer(path, bert=True)
    return path


@pytest.fixture(scope="session")
def reward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GPT-2 with one logit and, as GPT-2 has it, no padding token."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("models") / "tiny-reward"
    config = GPT2Config(
        vocab_size=len(WORDS), n_positions=24, n_embd=16, n_layer=1, n_head=2, num_labels=1, initializer_range=1.0
    )
    GPT2ForSequenceClassification(config).save_pretrained(path)
    save_tokenizer(path, bert=False, pad=False)
    return path


def classifier(model: Path | str, seed: int = 0, **options: Any) -> Annotator:
    context = Context(lambda p, c: None, seed, "configs/x.yaml")
    annotator = load_annotator("classifier", {"model": str(model), "device": "cpu", **options}, context)
    assert isinstance(annotator, Annotator)
    return annotator


def annotations(annotator: Annotator, some: list[Comparison] = COMPARISONS) -> list[Annotation]:
    judged = list(annotator.annotate_all(some))
    assert all(isinstance(j, Annotation) for j in judged), judged
    return [j for j in judged if isinstance(j, Annotation)]


def logits(path: Path, text: str) -> torch.Tensor:
    """One text, unpadded: a plain forward pass."""
    model = AutoModelForSequenceClassification.from_pretrained(path).eval()
    model.config.pad_token_id = None
    with torch.no_grad():
        return model(**AutoTokenizer.from_pretrained(path)(text, return_tensors="pt")).logits[0]


def check(judged: list[Annotation], expected: list[tuple[float, float]]) -> None:
    for annotation, (a, b) in zip(judged, expected, strict=True):
        assert annotation.score_a == pytest.approx(a, rel=1e-4)
        assert annotation.score_b == pytest.approx(b, rel=1e-4)
        assert annotation.choice == ("a" if a > b else "b")


@pytest.mark.parametrize(
    ("label", "index"), [(None, 1), ("negative", 0), ("NEUTRAL", 2)], ids=["default", "negative", "neutral"]
)
def test_probability_of_the_label(bert: Path, label: str | None, index: int) -> None:
    # Catches: the last label by default, prompts left out, padding that counts, batches out of order.
    expected = [
        (
            float(logits(bert, c.prompt + c.completion_a).softmax(-1)[index]),
            float(logits(bert, c.prompt + c.completion_b).softmax(-1)[index]),
        )
        for c in COMPARISONS
    ]
    check(annotations(classifier(bert, label=label, batch_size=4)), expected)


def test_completion_alone(bert: Path) -> None:
    c = COMPARISONS[1]
    expected = [tuple(float(logits(bert, t).softmax(-1)[1]) for t in (c.completion_a, c.completion_b))]
    check(annotations(classifier(bert, on="completion"), [c]), expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_reward_model_gives_its_raw_logit(reward: Path, batch_size: int) -> None:
    # Catches: a sigmoid or softmax on a single logit, and reading the last position of a padded row.
    expected = [
        (float(logits(reward, c.prompt + c.completion_a)[0]), float(logits(reward, c.prompt + c.completion_b)[0]))
        for c in COMPARISONS
    ]
    assert any(abs(value) > 1 for pair in expected for value in pair)  # else a probability could pass
    check(annotations(classifier(reward, batch_size=batch_size)), expected)


def test_one_by_one_is_the_same_as_many(bert: Path) -> None:
    annotator = classifier(bert)
    many = annotations(annotator)
    one = [annotator.annotate(c) for c in COMPARISONS]
    assert [j.choice for j in many] == [j.choice for j in one if isinstance(j, Annotation)]


def test_a_long_text_keeps_the_completion(bert: Path) -> None:
    # Catches: truncation on the right, which cuts off what is judged; ignoring the model's 24 positions.
    long = [Comparison("film " * 40, "good " * 21 + "bad", "good " * 21 + "dull")]
    (judged,) = annotations(classifier(bert, max_length=1000), long)
    expected = [logits(bert, "good " * 21 + word).softmax(-1)[1] for word in ("bad", "dull")]
    check([judged], [(float(expected[0]), float(expected[1]))])


def test_temperature_draws_by_seed_and_comparison(bert: Path) -> None:
    many = [Comparison(f"film {i}", " good", " bad") for i in range(150)]  # numbers are [UNK]: equal scores
    exact = annotations(classifier(bert, batch_size=64), many)
    assert len({j.choice for j in exact}) == 1
    assert exact[0].score_a is not None
    assert exact[0].score_b is not None
    difference = exact[0].score_a - exact[0].score_b
    drawn = annotations(classifier(bert, temperature=abs(difference), batch_size=64), many)
    p = 1 / (1 + math.exp(-math.copysign(1.0, difference)))
    share = sum(j.choice == "a" for j in drawn) / len(many)
    assert abs(share - p) <= 3.3 * math.sqrt(p * (1 - p) / len(many))  # catches: temperature ignored or inverted
    again = annotations(classifier(bert, temperature=abs(difference), batch_size=6), many[::-1])
    assert [j.choice for j in again[::-1]] == [j.choice for j in drawn]


# What it cannot read


def test_abstentions_keep_their_place(bert: Path) -> None:
    some = [COMPARISONS[0], Comparison("film", " ", " good"), Comparison("film", " very", " very"), COMPARISONS[1]]
    judged = list(classifier(bert, batch_size=64).annotate_all(some))
    name = "classifier:tiny-bert"
    assert judged[1] == Abstention(some[1].id, name, "empty completion")
    assert judged[2] == Abstention(some[2].id, name, "equal scores")
    assert [j.comparison_id for j in judged] == [c.id for c in some]
    assert isinstance(judged[0], Annotation)
    assert isinstance(judged[3], Annotation)


def test_min_difference(bert: Path) -> None:
    judged = list(classifier(bert, min_difference=1.0).annotate_all(COMPARISONS))
    assert {j.reason for j in judged if isinstance(j, Abstention)} == {"scores differ by < 1.0"}
    assert len(judged) == len(COMPARISONS)


def test_not_a_number_is_an_abstention(bert: Path) -> None:
    annotator: Any = classifier(bert)
    annotator._classifier.model.classifier.bias.data.fill_(math.nan)  # as half precision may overflow to
    judged = annotator.annotate(COMPARISONS[0])
    assert judged == Abstention(COMPARISONS[0].id, annotator.name, "score is not a number")


def test_the_path_of_a_local_model_stays_out_of_the_rows(bert: Path) -> None:
    assert classifier(bert).name == "classifier:tiny-bert"


# What it refuses to load


def refused(kind: type[PipelineError], model: Path | str, **options: Any) -> str:
    message = refusal(kind, classifier, model, **options)
    assert message.startswith("configs/x.yaml: ")
    return message


def test_missing_directory() -> None:
    assert 'no model directory "./no/such/model"' in refused(ModelError, "./no/such/model")


def test_directory_without_a_model(tmp_path: Path) -> None:
    assert "safetensors" in refused(ModelError, tmp_path)


def test_pickled_weights_are_not_loaded(bert: Path, tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(bert)
    model.config.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(bert).save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    assert "safetensors" in refused(ModelError, tmp_path)


def test_a_model_without_a_trained_head(tmp_path: Path) -> None:
    # Catches: letting transformers fill in a random head with nothing but a warning.
    BertModel(bert_config()).save_pretrained(tmp_path)
    save_tokenizer(tmp_path, bert=True)
    assert "answers would be random" in refused(ModelError, tmp_path)


def test_a_tokenizer_that_cannot_pad(reward: Path, tmp_path: Path) -> None:
    AutoModelForSequenceClassification.from_pretrained(reward).save_pretrained(tmp_path)
    save_tokenizer(tmp_path, bert=False, pad=False, eos=False)
    assert "pad_token" in refused(ModelError, tmp_path)


def test_unknown_labels(bert: Path, reward: Path) -> None:
    assert "NEGATIVE, POSITIVE, NEUTRAL" in refused(ConfigError, bert, label="happy")
    assert "one output" in refused(ConfigError, reward, label="good")


def test_an_unknown_way_to_read_is_refused() -> None:
    assert "on = 'x' should be one of both, completion" in refused(ConfigError, "org/name", on="x")
