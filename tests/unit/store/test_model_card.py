"""Model cards: front matter that the Hub accepts, and snippets that parse."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from typing import Any

import pytest
import yaml

from pipeline.store.manifest import Manifest, Parent
from pipeline.store.model_card import Kind, adapter_card

KINDS: tuple[Kind, ...] = ("policy", "reward", "base")
MANIFEST = Manifest(
    name="demo-policy",
    version=2,
    id="0" * 64,
    kind="adapter",
    stage="ppo",
    created_at="2026-01-01T00:00:00Z",
    seed=0,
    config={"task": "reviews", "ppo": {"kl_coef": 0.05, "learning_rate": 1e-3}},
    models=[{"role": "base", "id": "openai-community/gpt2", "revision": "607a30d"}],
    parents=[
        Parent("demo-reward", 1, "1" * 64, "reward"),
        Parent("org/prefs", 1, "2" * 64, "preferences"),
    ],
    stats={"updates": 32, "kept": 24},
    governance={"license": "apache-2.0"},
    environment={"trl": "1.12.0"},
)
POLICY = {
    "level": 0.95,
    "gold_score": {
        "base": {"value": 0.11, "low": 0.0, "high": 0.2, "n": 200},
        "policy": {"value": 0.57, "low": 0.52, "high": 0.62, "n": 200},
        "difference": {"value": 0.46, "low": 0.4, "high": 0.52, "n": 200},
    },
    "score": None,
    "kl_k1": {"value": None, "low": None, "high": None, "n": 0},
}
REWARD = {
    "level": 0.9,
    "accuracy": {"value": 0.78, "low": 0.72, "high": 0.83, "n": 240},
    "gold": None,
    "baselines": [{"name": "bag of words", "accuracy": None, "reason": "few"}],
    "verdict": "It clears the baselines.",
}


def front(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---\n")[1])


# Catches: a lost relation (the Hub then guesses "finetune"), a parent of another role listed as data.
def test_front_matter_of_a_policy() -> None:
    meta = front(adapter_card(MANIFEST, POLICY, "tree", "policy"))
    assert meta["base_model"] == "openai-community/gpt2"
    assert meta["base_model_relation"] == "adapter"
    assert meta["library_name"] == "peft"
    assert meta["pipeline_tag"] == "text-generation"
    assert meta["license"] == "apache-2.0"
    assert meta["datasets"] == ["org/prefs"]
    assert meta["tags"] == ["trl", "ppo", "lora", "rlhf-pipeline"]
    (result,) = meta["model-index"][0]["results"]
    assert result["task"]["type"] == "text-generation"
    assert [m["value"] for m in result["metrics"]] == [0.57, 0.46]  # a missing number is no claim
    assert result["metrics"][0]["args"] == {"low": 0.52, "high": 0.62, "n": 200}


def test_reward_and_base_differ_where_loaders_look() -> None:
    reward = adapter_card(MANIFEST, REWARD, "tree", "reward")
    assert front(reward)["pipeline_tag"] == "text-classification"
    assert 'from_pretrained("path/to/this/directory", num_labels=1)' in reward
    assert "config.pad_token_id" in reward
    assert "It clears the baselines." in reward
    assert "0.78 [0.72, 0.83]" in reward
    assert "[90 % interval]" in reward
    base = front(adapter_card(MANIFEST, None, "tree", "base"))
    assert (base["library_name"], base["base_model_relation"]) == ("transformers", "finetune")


@pytest.mark.parametrize("kind", KINDS)
def test_snippets_are_python(kind: Kind) -> None:
    card = adapter_card(MANIFEST, None, "tree", kind)
    (snippet,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    ast.parse(snippet)
    assert '"path/to/this/directory"' in snippet


@pytest.mark.parametrize("kind", KINDS)
def test_a_bare_manifest_still_makes_a_card_without_nulls(kind: Kind) -> None:
    card = adapter_card(Manifest("demo", 1, "0" * 64, "model", "sft", ""), None, "", kind)
    assert all(front(card).values())
    assert "model-index" not in front(card)
    assert "Not evaluated yet." in card
    assert "None" not in card


def test_settings_and_lineage_are_shown_and_cannot_break_out() -> None:
    manifest = replace(MANIFEST, name="a|b", config={"task": "<b>x|y", "ppo": {"kl_coef": 0.05}})
    card = adapter_card(manifest, POLICY, "tree\n```\nafter", "policy")
    assert "| ppo.kl_coef | 0.05 |" in card
    assert "````text\ntree\n```\nafter\n````" in card
    assert "<b>" not in card.split("---\n", 2)[2]
    assert front(card)["model-index"][0]["results"][0]["dataset"]["type"] == "<b>x|y"


def test_what_is_known_of_version_and_labels_is_said() -> None:
    labels = {"annotator": "oracle", "comparisons": 6000, "decided": 5900}
    card = adapter_card(MANIFEST, REWARD, "tree", "reward", labels)
    assert "# demo-policy@v000002\n" in card
    rows = ("annotator | oracle", "comparisons | 6000", "decided | 5900", "updates | 32", "kept | 24")
    for row in (*rows, "made | 2026-01-01T00:00:00Z"):
        assert f"| {row} |" in card


# Seen failing with: a card that called the base, under its policy's name, an adapter trained with PPO.
def test_the_card_of_a_policy_of_which_no_update_was_kept() -> None:
    said = "This is the starting policy: no update was kept."
    card = adapter_card(replace(MANIFEST, stats={"updates": 32, "kept": 0}), None, "tree", "policy")
    assert card.split("\n\n")[2].startswith(f"**{said}**")
    assert "trained with PPO" not in card
    assert said not in adapter_card(MANIFEST, None, "tree", "policy")
