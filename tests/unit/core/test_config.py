"""Configs: every file in configs/ parses, and mistakes are named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.config import Config, load_config
from pipeline.core.errors import ConfigError

CONFIGS = sorted(Path("configs").glob("*.yaml"))


def sections() -> dict[str, Any]:
    from pipeline.collect import CollectSection
    from pipeline.evaluate import EvaluateSection
    from pipeline.labelling.settings import LabelSection
    from pipeline.report import ReportSection

    evaluating = {"evaluate": EvaluateSection, "report": ReportSection}
    return {"collect": CollectSection, "label": LabelSection, **evaluating}


def trained_sections() -> dict[str, Any]:
    from pipeline.trainers.ppo import PPOSection
    from pipeline.trainers.reward import RewardSection
    from pipeline.trainers.sft import SFTSection

    return {"sft": SFTSection, "reward": RewardSection, "ppo": PPOSection}


@pytest.mark.parametrize("path", CONFIGS, ids=[p.stem for p in CONFIGS])
def test_every_config_is_valid(path: Path, tmp_path: Path):
    from pipeline.annotators import Context, load_annotator
    from pipeline.tasks import load_task
    from pipeline.trainers.common import training_arguments

    config = load_config(path)
    assert path.read_text().startswith("# "), "a config starts with what it is and how it is run"
    for stage, cls in sections().items():
        config.options(stage, cls)
    for stage, cls in trained_sections().items():
        assert training_arguments(config, stage, cls, tmp_path).seed == config.seed
    task = load_task(config.task, config.task_args, str(path))
    given = config.options("collect", sections()["collect"])
    if given.annotator not in ("classifier", "human"):  # one loads its model, the other is people
        load_annotator(given.annotator, given.annotator_args, Context(task.gold_scores, 0, str(path)))


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("- a\n- b\n", "not a mapping"),
        ("name: [", "is not valid YAML"),
        ("task: reviews\n", '"name" is missing'),
        ("name: a b\ntask: reviews\n", "becomes a directory name"),
        ("name: ../x\ntask: reviews\n", "becomes a directory name"),
        ("name: x\ntask: reviews\nppo: 3\n", '"ppo" is a section'),
        ("name: x\ntask: reviews\nsed: 3\n", 'Did you mean "seed"?'),
        ("name: x\ntask: reviews\nseed: true\n", "seed = True should be a whole number"),
        ("name: x\ntask: reviews\nseed: 1.5\n", "seed = 1.5 should be a whole number"),
        ("name: x\ntask: reviews\nppo: {inputs: [a]}\n", "ppo.inputs"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, said: str):
    with pytest.raises(ConfigError) as err:
        load_config(write(tmp_path, text)).inputs("ppo")
    assert said in str(err.value)
    assert "\n" not in str(err.value)


def test_overrides_are_yaml_and_make_sections(tmp_path: Path):
    path = write(tmp_path, "name: x\ntask: reviews\nppo:\n")
    config = load_config(path, ["ppo.kl_coef=1e-1", "reward.a.b=[1, 2]", "seed=7", "base_model="])
    assert config.seed == 7
    assert config.base_model is None
    assert config.given("ppo") == {"kl_coef": "1e-1"}
    assert config.given("reward") == {"a": {"b": [1, 2]}}


def test_yaml_numbers_become_what_the_field_wants(tmp_path: Path):
    from pipeline.trainers.common import training_arguments

    config = load_config(
        write(tmp_path, "name: x\ntask: reviews\nppo: {kl_coef: 1e-1, gamma: 1, response_length: 4}")
    )
    args = training_arguments(config, "ppo", trained_sections()["ppo"], tmp_path)
    # Mutation caught: YAML's reading of 1e-1, which is text.
    assert args.kl_coef == pytest.approx(0.1)
    assert isinstance(args.gamma, float)


def test_what_is_shown_is_not_what_is_learnt():
    one = Config(Path("x"), "x", "reviews", sections={"ppo": {"kl_coef": 0.1, "logging_steps": 5}})
    two = Config(Path("x"), "x", "reviews", sections={"ppo": {"kl_coef": 0.1, "report_to": "none"}})
    three = Config(Path("x"), "x", "reviews", sections={"ppo": {"kl_coef": 0.2}})
    assert one.learning_part("ppo") == two.learning_part("ppo") != three.learning_part("ppo")
    assert one.learning_part("collect") == three.learning_part("collect")


def test_core_imports_fast_and_without_torch():
    code = (
        "import sys, time; t = time.perf_counter(); import pipeline.core.stage; "
        "assert time.perf_counter() - t < 3; "
        "assert not {'torch', 'transformers', 'datasets', 'pyarrow', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_keys_are_texts_at_every_depth(tmp_path: Path) -> None:
    """``choices: {0: a, tie: tie}``: keys of several types have no order, and a run's key sorts them."""
    path = tmp_path / "x.yaml"
    path.write_text(
        "name: x\ntask: t\ncollect: {annotator_args: {choices: {0: a, 1.5: b, yes: tie, null: skip}}}\n"
    )
    choices = {"0": "a", "1.5": "b", "true": "tie", "null": "skip"}
    assert load_config(path).given("collect")["annotator_args"] == {"choices": choices}
    override = "collect.annotator_args.choices={0: b, w: a}"
    assert load_config(path, [override]).given("collect")["annotator_args"] == {"choices": {"0": "b", "w": "a"}}
