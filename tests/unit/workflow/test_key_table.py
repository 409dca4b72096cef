"""Keys in words, and the files that are made of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.__main__ import main
from pipeline.base.errors import ConfigError
from pipeline.formats.detect import COLUMNS
from pipeline.workflow.key_table import find, keys_of, places
from pipeline.workflow.sections import trl_keys
from pipeline.workflow.sections.trl_help import HELP
from pipeline.workflow.yaml_text import read_yaml
from tests.generated import docs_tables, schema
from tests.generated.trl_keys import keys_of as trl_keys_of

CONFIGS = sorted(Path("configs").glob("*.yaml"))


# Fails when TRL or transformers is another than the one that the table was made from: make generated.
def test_the_table_is_what_is_installed():
    from transformers import TrainingArguments
    from trl import RewardConfig, SFTConfig
    from trl.experimental.ppo import PPOConfig

    for theirs in (TrainingArguments, SFTConfig, RewardConfig, PPOConfig):
        ours: Any = getattr(trl_keys, theirs.__name__)
        assert trl_keys_of(ours) == trl_keys_of(theirs)


@pytest.mark.parametrize("place", places())
def test_every_key_says_what_it_is_for(place: str):
    for key in keys_of(place):
        assert key.idle is not None or len(key.help) > 8, key.name
        assert "pipeline." not in key.help, key.name
        assert not key.help or (key.help[0].isupper() or key.help[0] in "`0n"), key.help


def test_no_key_is_explained_that_is_not_there():
    assert HELP.keys() <= {key.name for s in ("sft", "reward", "ppo") for key in keys_of(s) if key.idle is None}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["ppo.kl_coef"],
            "kl_coef: a number, 0 or more = 0.05\n    Penalty for each nat of KL to the reference.\n",
        ),
        (["seed"], "seed: a whole number, 0 to 4294967295 = 0\n    Of everything that is drawn.\n"),
        (["reward.label_names"], "label_names: a list = null\n    Refused. Rows are tokenised by the stage"),
        (["task_args", "of", "reviews.gold"], "gold: one of truth, vader = truth\n    `truth` parses the text;"),
        (["sft.seed"], "seed: a whole number, 0 to 4294967295 = the experiment's\n    Of this stage.\n"),
    ],
)
def test_one_key(words: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    assert main(["keys", *words]) == 0
    assert capsys.readouterr().out.startswith(said)


def test_a_section_and_all_of_them(capsys: pytest.CaptureFixture[str]):
    main(["keys", "report"])
    shown = (
        "samples: a whole number, 0 or more = 4\n    Completions shown of each kind: gains, losses, random.\n"
        "token_scores: true or false = true\n"
        "    Score the gains and losses shown after every token; off where the reward model is too large.\n"
    )
    assert capsys.readouterr().out == shown
    main(["keys"])
    listed = capsys.readouterr().out
    assert all(place in listed for place in places() if place != "config")
    for wrong, right in (
        ("pppo", "ppo"),
        ("ppo.klcoef", "ppo.kl_coef"),
        ("sed", "seed"),
        ("label.vots", "label.votes"),
    ):
        with pytest.raises(ConfigError, match=rf'unknown key "{wrong}"\. Did you mean "{right}"'):
            main(["keys", wrong])


def test_the_documents_have_the_keys_as_the_code_has_them():
    tables = 0
    for path in docs_tables.DOCS.glob("*.md"):
        text = path.read_text(encoding="utf-8")
        tables += len(docs_tables.BLOCK.findall(text))
        assert docs_tables.with_tables(text) == text, f"{path}: make generated"
    assert tables >= 2


def test_the_schema_is_what_the_code_says():
    assert schema.TARGET.read_text(encoding="utf-8") == schema.text(), "make generated"
    assert json.loads(schema.text()) == json.loads(json.dumps(schema.schema()))


@pytest.mark.parametrize("path", CONFIGS, ids=[p.stem for p in CONFIGS])
def test_every_config_fits_the_schema(path: Path):
    assert "# yaml-language-server: $schema=schema.json\n" in path.read_text(encoding="utf-8")
    assert problems(read_yaml(path), schema.schema(), "") == []


def test_the_schema_refuses_what_load_refuses():
    whole = schema.schema()
    for section, wrong in {
        "ppo": [{"kl_ceof": 0.1}, {"kl_coef": -1}, {"kl_coef": "a"}, {"push_to_hub": True}, {"gamma": 2}],
        "sft": [{"optim": "adamw"}, {"eval_share": 1}, {"max_steps": 0}],
        "collect": [{"annotator": "oracle", "annotator_args": {"flipp": 0.1}}],
        "evaluate": [{"best_of": [2, 1]}, {"nope": 1}],
    }.items():
        for keys in wrong:
            assert problems({"name": "x", "task": "reviews", section: keys}, whole, ""), keys
    assert problems({"name": "x", "task": "reviews", "task_args": {"nope": 1}}, whole, "")
    assert problems({"task": "reviews"}, whole, "") == [": name is missing"]
    fine = {
        "sft": {"max_steps": -1, "push_to_hub": False, "learning_rate": "1e-3"},
        "evaluate": {"best_of": [0, 2]},
    }
    assert (
        problems({"name": "x", "task": "mine.task", "task_args": {"a": 1}, "ppo": None, **fine}, whole, "") == []
    )


def problems(value: Any, rule: dict[str, Any], at: str) -> list[str]:
    """What of JSON Schema the schema uses, by hand. YAML 1.1 reads ``1e-3`` as a text; editors read 1.2."""
    if isinstance(value, str) and "number" in str(rule.get("type")):
        value = float(value) if value.replace("e-", "").replace(".", "").isdigit() else value
    found: list[str] = []
    if "anyOf" in rule and all(problems(value, each, at) for each in rule["anyOf"]):
        found.append(f"{at}: {value!r} fits none")
    if ("const" in rule and value != rule["const"]) or ("enum" in rule and value not in rule["enum"]):
        found.append(f"{at}: {value!r} is not allowed")
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}
    asked = rule.get("type", [])
    asked = [asked] if isinstance(asked, str) else asked
    if asked and not any(value is None if k == "null" else isinstance(value, kinds[k]) for k in asked):
        return [*found, f"{at}: {value!r} is no {asked}"]
    limits = {
        "minimum": lambda a, b: a >= b, "exclusiveMinimum": lambda a, b: a > b,
        "maximum": lambda a, b: a <= b, "exclusiveMaximum": lambda a, b: a < b,
    }  # fmt: skip
    found += [
        f"{at}: {value} {name}" for name, fits in limits.items() if name in rule and not fits(value, rule[name])
    ]
    for i, item in enumerate(value if isinstance(value, list) else []):
        found += problems(item, rule.get("items", {}), f"{at}[{i}]")
    if isinstance(value, dict):
        keys = rule.get("properties", {})
        found += [f"{at}: {name} is missing" for name in rule.get("required", []) if name not in value]
        for name, entry in value.items():
            if name in keys:
                found += problems(entry, keys[name], f"{at}.{name}")
            elif rule.get("additionalProperties") is False:
                found.append(f"{at}.{name} is unknown")
    for each in rule.get("allOf", []):
        if not problems(value, each["if"], at):
            found += problems(value, each["then"], at)
    return found


# Catches: a column that the help of ``columns`` does not name.
def test_the_help_of_columns_names_them_all():
    (key,) = find("reward.test_sets.NAME.columns")
    assert set(COLUMNS) <= set(re.findall(r"\w+", key.help))
