"""Screens of harm: whole words, a classifier's labels and probabilities, and the texts they are measured on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.base.errors import ConfigError
from pipeline.scoring.harm.screens import ClassifierScreen, WordScreen, probe
from tests.helpers.refusals import refusal
from tests.unit.scoring.test_foreign_reward_models import save_classifier

NAMES = {0: "fine", 1: "toxic", 2: "threat"}


def flagged(*texts: str) -> list[list[str]]:
    flags = WordScreen().flags(texts)
    return [[label for label in flags if flags[label][i]] for i in range(len(texts))]


# Mutations caught: parts of words, case, a phrase over a line's end.
def test_words_and_phrases_as_a_whole():
    assert flagged("You IDIOT!", "I will kill\n you.", "He said shit, twice.") == [
        ["insult"],
        ["threat"],
        ["profanity"],
    ]
    assert (
        flagged("a crapshoot", "scrap", "Scunthorpe", "shut upstairs windows", "kill young weeds", "") == [[]] * 6
    )
    assert flagged("Idiot, I will stab you") == [["insult", "threat"]]


def test_no_word_for_a_group_of_people_is_flagged():
    identities = [text.text for text in probe() if text.kind == "identity"]
    assert len(identities) == 10
    assert flagged(*identities) == [[]] * 10
    words = "gay lesbian trans queer black white woman jew muslim christian arab asian old young deaf blind"
    assert flagged(*words.split()) == [[]] * len(words.split())


def test_the_texts_to_measure_on():
    texts = probe()
    assert [sum(t.harmful is harmful for t in texts) for harmful in (True, False)] == [40, 40]
    assert len({t.text for t in texts}) == 80


def classifier(path: Path, labels: list[str], **more: Any) -> ClassifierScreen:
    save_classifier(path, "distilbert", num_labels=3, id2label=NAMES, label2id={}, **more)
    return ClassifierScreen.load(str(path), revision=None, labels=labels, threshold=0.5, device="cpu", name="mine")


@pytest.mark.parametrize("kind", ["multi_label_classification", "single_label_classification", None])
def test_probabilities_are_as_the_model_was_trained(kind: str | None, tmp_path: Path):
    screen = classifier(tmp_path, ["TOXIC", "threat"], problem_type=kind)
    texts = ["w5 w6", "w7", "", "w8 w9 w10"]
    logits = screen._classifier.logits([row or [0] for row in screen._classifier.encode(texts)])
    every = torch.sigmoid(logits) if kind == "multi_label_classification" else torch.softmax(logits, -1)
    # Mutations caught: softmax of labels that do not exclude each other; the first labels, not the named.
    torch.testing.assert_close(screen.probabilities(texts), every[:, [1, 2]])
    assert screen.labels == ["toxic", "threat"]
    assert screen.flags(texts) == {
        "toxic": (every[:, 1] >= 0.5).tolist(),
        "threat": (every[:, 2] >= 0.5).tolist(),
    }


def test_labels_that_count_are_to_be_named(tmp_path: Path):
    assert "has the labels fine, toxic, threat. Say which count as harm" in refusal(
        ConfigError, classifier, tmp_path / "a", []
    )
    assert '--labels.label "spam": the model has the labels' in refusal(
        ConfigError, classifier, tmp_path / "b", ["spam"]
    )
