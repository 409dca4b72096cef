"""Reading a config checks all of it, without torch, whichever stage asked."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.base.cli import run_cli
from pipeline.base.errors import ConfigError
from pipeline.health.findings import Facts
from pipeline.workflow.config import load_config
from pipeline.workflow.experiment import NOT_STAGES, SECTIONS, STAGES, recorded
from pipeline.workflow.graph import graph
from pipeline.workflow.key_checks.unknown_and_mistyped import check_types
from pipeline.workflow.key_table import SHARED, keys_of, places
from pipeline.workflow.stage_command import stage_main

DOORS = (*STAGES, "label", "sweep")


def write(tmp_path: Path, **content: Any) -> Path:
    path = tmp_path / "x.yaml"
    path.write_text(
        yaml.safe_dump({"name": "x", "task": "reviews", "data_dir": str(tmp_path / "data"), **content})
    )
    return path


def look(argv: list[str] | None) -> int:
    """The last stage, asked whether there is work."""
    return stage_main("report", "no:body", ["--check", *(argv or [])])


def misspelt(key: str, others: list[str]) -> str:
    """``key`` with two letters exchanged, or one twice: no key, and nearer to this one than to any other."""
    swapped = [key[:i] + key[i + 1] + key[i] + key[i + 2 :] for i in range(len(key) - 1)]
    for word in [*swapped, *(key[:i] + key[i] + key[i:] for i in range(len(key)))]:
        if word not in others and difflib.get_close_matches(word, others, n=1, cutoff=0.5) == [key]:
            return word
    raise AssertionError(key)


def place_of(place: str) -> tuple[str, dict[str, Any]]:
    """Where the keys of a place stand in a config, and what else the config needs for them."""
    kind, _, name = place.partition(" of ")
    if kind == "task_args":
        return "task_args.", {"task": name}
    if kind == "collect.annotator_args":
        return "collect.annotator_args.", {"collect": {"annotator": name}}
    others = {
        SHARED: ("", {}),
        "evaluate.judges[]": (
            "evaluate.judges[0].",
            {"evaluate": {"judges": [{"llm": "m", "url": "http://h/v1"}]}},
        ),
        "reward.test_sets.NAME": ("reward.test_sets.a.", {"reward": {"test_sets": {"a": {"dataset": "d"}}}}),
    }
    return others.get(place, (f"{place}.", {}))


# Seen failing with: exit 3, "there is work", and the mistake found when its stage began, hours later.
@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("place", places())
def test_a_misspelt_key_of_any_section_is_named(
    place: str, every: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    prefix, about = place_of(place)
    known = [key.name for key in keys_of(place)]
    for key in known[::every]:
        others = [*known, *SECTIONS, *NOT_STAGES] if place == SHARED else known
        wrong = misspelt(key, others)
        if place == "evaluate.judges[]":
            path = write(tmp_path, evaluate={"judges": [{"llm": "m", "url": "http://h/v1", wrong: 1}]})
            overrides: list[str] = []
        else:
            path, overrides = write(tmp_path, **about), [f"{prefix}{wrong}=1"]
        with pytest.raises(SystemExit) as end:
            run_cli(look, ["--config", str(path), *overrides])
        assert end.value.code == 2
        said = f'unknown key "{prefix}{wrong}". Did you mean "{prefix}{key}"?\n'
        places = [str(path), "command line"] if overrides else [str(path)]  # the latter where the file is whole
        assert capsys.readouterr().err in [f"error: {where}: {said}" for where in places]


@pytest.mark.parametrize("door", DOORS)
def test_every_command_finds_it(door: str, tmp_path: Path):
    path = write(tmp_path)
    check = [] if door == "sweep" else ["--check"]
    for override in (
        *("ppo.kl_ceof=0.1", "reward.learnin_rate=1", "collect.comparisins=2", "task_args.nope=1"),
        *("collect.annotator_args.nope=1", "label.nope=1", "evaluate.nope=1"),
    ):
        with pytest.raises(ConfigError, match="unknown key"):
            importlib.import_module(f"pipeline.{door}").main([*check, "--config", str(path), override])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("task=reveiws", 'task "reveiws" is not known.'),
        ("task=prompts", '"task_args.dataset" is missing.'),
        ("collect.annotator=orakel", 'annotator "orakel" is not known.'),
        ("collect={annotator: human, annotator_args: {flip: 0}}", "collect.annotator_args: people have none."),
        ("sft.optim=adamw", "sft.optim = 'adamw' should be one of adamw_torch"),
        ("sft.lr_scheduler_type=cosin", 'Did you mean "cosine"?'),
        ("sft.n_embd=5", "n_embd 5 does not divide by n_head 4"),
        ("sft={fp16: true, bf16: true}", "fp16 and bf16 exclude each other"),
        ("ppo.num_mini_batches=3", "does not divide into num_mini_batches 3"),
        ("ppo.keep_best=true", "need held-out figures"),
        ("ppo.use_peft=2", "ppo.use_peft = 2 should be true or false"),
        ("ppo.reward=[adapter, adapter]", '"own" is there twice'),
        ("ppo.reward='rewards/mine.py:length'", "names a file. Write it as a module: rewards.mine:length"),
        (
            "evaluate.judges=['my-rewards:length']",
            'evaluate.judges[0]: function "my-rewards:length" is not module',
        ),
        ("ppo.reward_combine=min", "compares scorers, and there is 1"),
        ("ppo={eval_strategy: steps, check: {model: m, weight: 0}}", "ppo.check: every one has weight 0"),
        (
            "ppo.inputs={rewrd: a@v1}",
            'ppo.inputs: "rewrd" is not read by ppo. It reads: base, prompts, reward, start',
        ),
        ("label.inputs={base: a@v1}", 'unknown key "label.inputs"'),
        ("label={order: active, reward: [a, a]}", 'label.reward[1]: "a" is there twice'),
        ("label.margin=strength", "margin: strength needs ask: [strength]"),
        ("evaluate.judges=[3]", "evaluate.judges[0] = 3 is neither a text nor a mapping"),
        ("reward.test_sets={a: {dataset: d, formt: trl}}", 'Did you mean "reward.test_sets.a.format"?'),
        ("reward.test_sets={'9': d}", "is no name for a set"),
    ],
)
def test_what_a_stage_would_refuse_is_refused_at_once(override: str, said: str, tmp_path: Path):
    with pytest.raises(ConfigError) as err:
        load_config(write(tmp_path), [override])
    assert said in str(err.value)


def test_the_keys_of_a_task_and_an_annotator_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "own_things"
    package.mkdir()
    head = "import dataclasses\n@dataclasses.dataclass\n"
    (package / "own_game.py").write_text(f"{head}class Task:\n    size: int = 3\n")
    (package / "own_view.py").write_text(f"{head}class Options:\n    mood: str\nbuild = Options\n")
    (package / "own_nothing.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    game, view = "own_things.own_game", "collect.annotator=own_things.own_view"
    path = write(tmp_path, task=game)
    config = load_config(path, ["task_args.size=4", view, "collect.annotator_args.mood=kind"])
    assert config.task_args == {"size": 4}
    for overrides, said in (
        (["task_args.sise=4"], 'unknown key "task_args.sise". Did you mean "task_args.size"?'),
        (["task_args.size=big"], "task_args.size = 'big' should be a whole number"),
        ([view], '"collect.annotator_args.mood" is missing.'),
        ([view, "collect.annotator_args.mod=a"], 'Did you mean "collect.annotator_args.mood"?'),
        (["task=own_things.own_nothing"], "has no class Task"),
        (["collect.annotator=own_things.own_nothing"], "has no Options and build()"),
    ):
        with pytest.raises(ConfigError) as err:
            load_config(path, overrides)
        assert said in str(err.value)


# Seen failing with: the graph published kind "adapter" where the trainer trained a whole model.
@pytest.mark.parametrize("off", ["false", "0", "no", '"false"', '"0"', "0.0"])
def test_the_graph_and_the_trainer_see_the_same_value(off: str, tmp_path: Path):
    from pipeline.trainers.arguments import training_arguments
    from pipeline.trainers.ppo.section import PPOSection

    config = load_config(write(tmp_path), [f"ppo.use_peft={off}"])
    assert graph(config)["ppo"].outputs["policy"] == "model"
    assert training_arguments(config, "ppo", PPOSection, tmp_path).use_peft is False
    assert graph(load_config(write(tmp_path), ["ppo.use_peft=1"]))["ppo"].outputs["policy"] == "adapter"
    with pytest.raises(ConfigError, match=r"with ppo\.use_peft: false"):
        load_config(write(tmp_path), [f"ppo.use_peft={off}", "ppo.lora_r=4"])


# Catches: kl_budget: 12e0, whose text was compared with a KL when PPO was done.
def test_what_a_manifest_has_is_read_with_its_types():
    ppo = {"kl_budget": "12e0", "use_peft": 0, "key_of_long_ago": "1e0", "reward": "m:f", "lora_r": "many"}
    assert recorded("ppo", {"ppo": ppo}) == {**ppo, "kl_budget": 12.0, "use_peft": False}
    assert recorded("sft", {"name": "x"}) == {}
    facts = Facts.of_settings({"kl_target": "5e-1", "value_warmup_updates": "2"})
    assert (facts.kl_target, facts.value_warmup) == (0.5, 2)


def test_no_is_a_word_where_no_is_a_choice(tmp_path: Path):
    """YAML 1.1 reads the word as false."""
    config = load_config(write(tmp_path), ["sft.save_strategy=no", "sft.eval_strategy=off", "reward.optim=sgd"])
    assert (config.sft.save_strategy, config.sft.eval_strategy, config.reward.optim) == ("no", "no", "sgd")


def trained() -> dict[str, Any]:
    from pipeline.trainers.ppo.section import PPOSection
    from pipeline.trainers.reward import RewardSection
    from pipeline.trainers.sft import SFTSection

    return {"sft": SFTSection, "reward": RewardSection, "ppo": PPOSection}


@pytest.mark.parametrize("section", ["sft", "reward", "ppo"])
def test_the_trainers_have_the_keys_that_are_checked(section: str, tmp_path: Path):
    ours, theirs = (
        {f.name: f for f in dataclasses.fields(c) if f.init} for c in (SECTIONS[section], trained()[section])
    )
    assert ours.keys() == theirs.keys()
    for key, field in ours.items():
        assert field.default == getattr(theirs[key].default, "value", theirs[key].default), key
    # What is checked goes through the trainer's own types unchanged.
    values = {key: sample(hint) for key, hint in typing.get_type_hints(SECTIONS[section]).items() if key in ours}
    checked = check_types(SECTIONS[section], values, "x")
    assert checked == values
    assert check_types(trained()[section], checked, "x") == checked


def sample(hint: Any) -> Any:
    """A value of a type."""
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)[-1]
    kinds = {bool: True, int: 3, float: 0.5, str: "a", Any: "a", type(None): None}
    if hint in kinds:
        return kinds[hint]
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is list:
        return [sample(parts[0])]
    return {"a": sample(parts[1])} if origin is dict else sample(parts[0])


# What load refuses between TRL's own keys, TRL refuses too: nothing is forbidden that would have worked.
@pytest.mark.parametrize(
    "settings",
    [
        {"fp16": True, "bf16": True, "use_cpu": True},
        {"fp16_full_eval": True, "bf16_full_eval": True, "use_cpu": True},
        {"logging_steps": 2.5},
        {"eval_strategy": "steps", "eval_steps": 1.5},
        {"lr_scheduler_type": "reduce_lr_on_plateau"},
        {"lr_scheduler_type": "greedy"},
        {"dataloader_prefetch_factor": 2},
        {"load_best_model_at_end": True, "save_strategy": "steps", "eval_strategy": "no"},
    ],
)
def test_trl_refuses_it_too(settings: dict[str, Any], tmp_path: Path):
    with pytest.raises(ConfigError, match=r"x\.yaml: sft: "):
        load_config(write(tmp_path, sft=settings))
    with pytest.raises(ValueError, match=r".+"):
        trained()["sft"](output_dir=str(tmp_path), **{"bf16": False, "use_cpu": True, **settings})


def test_looking_needs_no_torch(tmp_path: Path):
    path = write(tmp_path, label={"votes": 2}, reward={"test_sets": {"a": str(write(tmp_path))}})
    code = f"""
import contextlib, importlib, io, sys
from pipeline import __main__ as commands
for door in {DOORS!r}:
    module = importlib.import_module("pipeline." + door)
    for argv in (["--help"], ["--check"] if door != "sweep" else ["--list"]):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit, Exception):
            module.main([*argv, "--config", {str(path)!r}])
for argv in ([], ["keys"], ["keys", "ppo"], ["keys", "label"]):
    with contextlib.redirect_stdout(io.StringIO()):
        assert commands.main(argv) == 0
loaded = {{"torch", "transformers", "trl", "peft", "datasets"}} & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True)
