"""Secrets in a config: refused by key and by shape, never shown; words that only sound like one are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.base.errors import ConfigError
from pipeline.workflow.config import load_config
from pipeline.workflow.key_checks.secret_values import refuse_secrets
from tests.helpers.refusals import refusal

# Put together here, so that no scanner takes them for real ones.
TOKEN = "hf_" + "aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zA1b"
VALUE = "correct-horse-battery"


def load(tmp_path: Path, settings: dict[str, Any], *overrides: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump({"name": "x", "task": "reviews", **settings}))
    load_config(path, overrides)


def refused(tmp_path: Path, settings: dict[str, Any], *overrides: str) -> str:
    message = refusal(ConfigError, load, tmp_path, settings, *overrides)
    assert "holds a secret" in message
    assert VALUE not in message
    assert TOKEN[:8] not in message
    return message


@pytest.mark.parametrize("section", ["sft", "reward", "ppo", "collect", "evaluate", "report", "label"])
@pytest.mark.parametrize(
    "key",
    [
        *("hub_token", "push_to_hub_token", "token", "hf_token", "hubToken", "access_token", "api_key", "apikey"),
        *("openai-api-key", "wandb_api_key", "password", "db_password", "secret", "client_secret", "private_key"),
        "Authorization",
    ],
)
def test_a_key_that_names_a_secret(tmp_path: Path, section: str, key: str) -> None:
    told = refused(tmp_path, {section: {key: VALUE}})
    assert f"{section}.{key} holds" in told
    assert "HF_TOKEN" in told


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"base_model": TOKEN}, "base_model"),
        ({"name": TOKEN}, "name"),
        ({"task_args": {"path": f"https://host/x?t={TOKEN}"}}, "task_args.path"),
        ({"ppo": {"reward": [{"model": "a", "note": TOKEN}]}}, "ppo.reward[0].note"),
        ({"ppo": {"run_name": "hf_" + "a" * 34}}, "ppo.run_name"),
        ({"task_args": {TOKEN: 1}}, "task_args"),
        ({"collect": {"annotator_args": {"api_key": [VALUE]}}}, "collect.annotator_args.api_key[0]"),
        ({"collect": {"annotator_args": {"headers": {"X-Api-Key": VALUE}}}}, "X-Api-Key"),
        ({"task_args": {"source": f"https://me:{VALUE}@host/data.jsonl"}}, "task_args.source"),
        ({"sft": {"hub_token": "${HF_TOKEN}"}}, "sft.hub_token"),
        ({"task_args": {"password": 1234}}, "task_args.password"),
    ],
)
def test_a_secret_anywhere(tmp_path: Path, settings: dict[str, Any], place: str) -> None:
    assert place in refused(tmp_path, settings)


def test_of_a_judge_the_way_of_judges_is_told(tmp_path: Path) -> None:
    judge = {"llm": "some-model", "url": "http://localhost:8000/v1"}
    for more in ({"api_key": VALUE}, {"request": {"api_key": VALUE}}, {"key_env": "sk-proj-" + "a1B2" * 8}):
        told = refused(tmp_path, {"evaluate": {"judges": [judge | more]}})
        assert told.startswith(f"{tmp_path}/x.yaml: evaluate.judges[0].")
        assert "key_env" in told.partition("holds a secret")[2]


@pytest.mark.parametrize("key", ["ppo.hub_token", "sft.push_to_hub_token", "task_args.deep.er.password"])
def test_an_override(tmp_path: Path, key: str) -> None:
    assert f"{key} holds" in refused(tmp_path, {}, f"{key}={VALUE}")
    assert "task_args.x holds" in refused(tmp_path, {}, f"task_args.x={TOKEN}")


def test_words_that_only_sound_like_one() -> None:
    """Seen failing with every key that holds "token"."""
    refuse_secrets(
        {
            "base_model": "org/hf_internal-testing-model",
            "task_args": {
                "completion_tokens": 12, "num_tokens": "12", "columns": {"token": "text", "secret": "label"},
                "tokenizer": "org/name", "choices": {"secret": "a"},
            },
            "sft": {
                "eos_token": "<|im_end|>", "pad_token": "<pad>", "hub_token": None, "hub_model_id": "org/name",
                "include_num_input_tokens_seen": "no",
            },
            "ppo": {
                "stop_token": "eos", "stop_token_id": 3, "missing_eos_penalty": 1.0, "hub_token": "",
                "run_name": "hf_comparison", "push_to_hub_token": None,
            },
            "evaluate": {
                "judges": [{
                    "llm": "m", "url": "http://localhost/v1", "key_env": "MY_API_KEY",
                    "criterion": "Which one keeps the secret and says no password?",
                    "request": {"max_tokens": 16},
                }]
            },
        },
        "x.yaml",
    )  # fmt: skip
