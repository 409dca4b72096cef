"""Model cards: front matter that the Hub accepts, and snippets that parse."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from huggingface_hub import ModelCard

from pipeline.store.manifest import Manifest
from pipeline.store.model_card import Kind, adapter_card
from pipeline.store.store import Draft, Store
from tests.unit.reporting.given import REWARD_JSON, change, entry, estimate, of_completions, reward, stats

KINDS: tuple[Kind, ...] = get_args(Kind)


def policy_draft(store: Store) -> Draft:
    """A draft of a policy made of a reward model and of preferences, as the ppo stage opens it."""
    with store.draft("prefs", kind="preferences", stage="collect") as prefs:
        prefs.write_rows("train", [{"id": "a", "prompt": "p"}])
    with store.draft("demo-reward", kind="adapter", stage="reward") as reward:
        (reward.path / "adapter_model.safetensors").write_bytes(b"")
    draft = store.draft(
        "demo-policy",
        kind="adapter",
        stage="ppo",
        parents=[(reward.version, "reward"), (prefs.version, "preferences")],
        config={"task": "reviews", "ppo": {"kl_coef": 0.05, "learning_rate": 1e-3}},
        governance={"license": "apache-2.0"},
    )
    draft.models.append({"role": "base", "id": "openai-community/gpt2", "revision": "607a30d"})
    draft.stats.update(updates=32, kept=24)
    return draft


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """The manifest of a published policy."""
    with policy_draft(Store(tmp_path)) as draft:
        pass
    return draft.version.manifest


POLICY = stats(
    gold_score=change(0.11, 0.57, 0.40, 0.52),
    score=None,
    win_rate={},
    kl_k1={**entry(None, n=0), "standard_error": None},
    length=None,
)
BASELINES = [{"name": "bag of words", "accuracy": None, "reason": "few"}]
REWARD = reward(
    {**REWARD_JSON, "level": 0.9, "accuracy": entry(0.78, 0.72, 0.83, 240), "gold": None, "baselines": BASELINES,
     "verdict": "It clears the baselines."}
)  # fmt: skip


def front(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---\n")[1])


# Catches: a lost relation (the Hub then guesses "finetune"), a parent of another role listed as data.
def test_front_matter_of_a_policy(manifest: Manifest) -> None:
    meta = front(adapter_card(manifest, POLICY, "tree", "policy"))
    assert meta["base_model"] == "openai-community/gpt2"
    assert meta["base_model_relation"] == "adapter"
    assert meta["library_name"] == "peft"
    assert meta["pipeline_tag"] == "text-generation"
    assert meta["license"] == "apache-2.0"
    assert meta["datasets"] == ["prefs"]
    assert meta["tags"] == ["trl", "ppo", "lora", "rlhf-pipeline"]
    (result,) = meta["model-index"][0]["results"]
    assert result["task"]["type"] == "text-generation"
    assert [m["value"] for m in result["metrics"]] == [0.57, 0.46]  # a missing number is no claim
    assert result["metrics"][0]["args"] == {"low": 0.47, "high": 0.67, "n": 200}


def test_reward_and_base_differ_where_loaders_look(manifest: Manifest) -> None:
    card = adapter_card(manifest, REWARD, "tree", "reward")
    assert front(card)["pipeline_tag"] == "text-classification"
    assert 'from_pretrained("path/to/this/directory", num_labels=1)' in card
    assert "config.pad_token_id" in card
    assert "It clears the baselines." in card
    assert "0.78 [0.72, 0.83]" in card
    assert "[90 % interval]" in card
    assert "| Baseline: bag of words | – |  |" in card
    base = front(adapter_card(manifest, None, "tree", "base"))
    assert (base["library_name"], base["base_model_relation"]) == ("transformers", "finetune")


# Catches: the AUC under the name of an accuracy, baselines of one kind of rows beside the other's metric.
def test_a_model_of_single_completions_shows_its_auc_and_its_pairs(manifest: Manifest) -> None:
    metrics = of_completions(estimate(0.71, 0.65, 0.77, 90), REWARD.of_pairs)
    card = adapter_card(manifest, metrics, "tree", "reward")
    assert "| AUC on held-out completions | 0.71 [0.65, 0.77] | 90 |" in card
    assert "| Accuracy on held-out pairs | 0.78 [0.72, 0.83] | 240 |" in card
    assert "| Baseline: bag of words | – |  |" in card
    assert [m["type"] for m in front(card)["model-index"][0]["results"][0]["metrics"]] == ["roc_auc", "accuracy"]


@pytest.mark.parametrize("kind", KINDS)
def test_snippets_are_python(manifest: Manifest, kind: Kind) -> None:
    card = adapter_card(manifest, None, "tree", kind)
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


def test_settings_and_lineage_are_shown_and_cannot_break_out(manifest: Manifest) -> None:
    manifest = replace(manifest, name="a|b", config={"task": "<b>x|y", "ppo": {"kl_coef": 0.05}})
    card = adapter_card(manifest, POLICY, "tree\n```\nafter", "policy")
    assert "| ppo.kl_coef | 0.05 |" in card
    assert "````text\ntree\n```\nafter\n````" in card
    assert "<b>" not in card.split("---\n", 2)[2]
    assert front(card)["model-index"][0]["results"][0]["dataset"]["type"] == "<b>x|y"


def test_facts_of_version_and_labels_are_shown(manifest: Manifest) -> None:
    labels = {"annotator": "oracle", "comparisons": 6000, "decided": 5900}
    card = adapter_card(manifest, REWARD, "tree", "reward", labels)
    assert "# demo-policy@v000001\n" in card
    rows = ("annotator | oracle", "comparisons | 6000", "decided | 5900", "updates | 32", "kept | 24")
    for row in (*rows, f"made | {manifest.created_at}"):
        assert f"| {row} |" in card


# Seen failing with: a card that called the base, under its policy's name, an adapter trained with PPO.
def test_the_card_of_a_policy_of_which_no_update_was_kept(manifest: Manifest) -> None:
    said = "This is the starting policy: no update was kept."
    card = adapter_card(replace(manifest, stats={"updates": 32, "kept": 0}), None, "tree", "policy")
    assert card.split("\n\n")[2].startswith(f"**{said}**")
    assert "trained with PPO" not in card
    assert said not in adapter_card(manifest, None, "tree", "policy")


# Catches: results without the model's name (the Hub's class refuses them), a card made before its number is known.
def test_the_hub_reads_the_card_of_a_published_version(tmp_path: Path) -> None:
    with policy_draft(Store(tmp_path)) as draft:
        draft.card = lambda published: adapter_card(published, POLICY, "tree", "policy")
    card = ModelCard.load(draft.version.path / "README.md")
    assert "# demo-policy@v000001\n" in card.text
    assert card.data.model_name == "demo-policy"
    assert [(r.metric_name, r.metric_value) for r in card.data.eval_results or ()] == [
        ("Gold score", 0.57),
        ("Gold score, policy - base", 0.46),
    ]
