"""What is used of TRL's PPO is what trl_parent lists, and TRL has all of it."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from pathlib import Path

import pytest
import trl.experimental.ppo.ppo_trainer as trl_ppo
from trl.experimental.ppo import PPOConfig

import pipeline
from pipeline.trainers.ppo import trainer as trainer_module
from pipeline.trainers.ppo import trl_parent
from pipeline.trainers.ppo.policy_and_value import PolicyAndValue
from tests.unit.trainers.ppo.helpers import trainer

SOURCE = ast.parse(inspect.getsource(trainer_module.PPOTrainer))


def attributes(context: type[ast.expr_context]) -> set[str]:
    """The names ``X`` of every ``self.X`` that is read (``ast.Load``) or assigned (``ast.Store``)."""
    return {
        node.attr
        for node in ast.walk(SOURCE)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, context)
        if isinstance(node.value, ast.Name) and node.value.id == "self"
    }


# Catches: an attribute of TRL's that the trainer begins to use without listing it, and one that it no longer uses.
@pytest.mark.agrees("PPO: whatever the trainer uses of TRL's is listed in one place.")
def test_the_list_is_complete():
    shared = {"control", "lr_scheduler", "optimizer"}  # assigned by both
    own = attributes(ast.Store) - shared | set(vars(trainer_module.PPOTrainer))
    assert attributes(ast.Load) - own | {"add_callback"} == set(trl_parent.USED)


def test_trl_has_what_is_listed(tmp_path: Path):
    made = trainer(tmp_path)
    assert [name for name in trl_parent.USED if not hasattr(made, name)] == []
    overridden = {
        n for n in vars(trainer_module.PPOTrainer) if callable(getattr(trl_parent.TRLPPOTrainer, n, None))
    }
    assert overridden - {"__doc__", "__module__"} == trl_parent.OVERRIDDEN
    assert {f.name for f in dataclasses.fields(PPOConfig)} >= trl_parent.DERIVED_SETTINGS


@pytest.mark.agrees("PPO: the trainer is a subclass of TRL's.")
def test_one_level_of_inheritance():
    assert trainer_module.PPOTrainer.__bases__ == (trl_ppo.PPOTrainer,)


def test_the_wrapper_is_put_back_whatever_happens(tmp_path: Path):
    original = trl_ppo.PolicyAndValueWrapper
    made = trainer(tmp_path)
    assert type(made.model) is PolicyAndValue
    assert trl_ppo.PolicyAndValueWrapper is original
    with pytest.raises(ValueError, match="kl_estimator"):
        trainer(tmp_path, kl_estimator="k2")
    # Mutation caught: no finally.
    assert trl_ppo.PolicyAndValueWrapper is original


def test_losses_are_divided_once(tmp_path: Path):
    made = trainer(tmp_path, per_device_train_batch_size=4, gradient_accumulation_steps=2)
    # Mutation caught: Accelerate's own division left on.
    assert made.accelerator.gradient_accumulation_steps == 1


def test_no_other_module_imports_trls_ppo():
    importing: list[str] = []
    root = Path(str(pipeline.__file__)).parent
    for path in root.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        if "experimental" not in source:  # most: to parse them all takes a second
            continue
        for node in ast.walk(ast.parse(source)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            importing += [str(path.relative_to(root)) for name in names if name.startswith("trl.experimental")]
    assert set(importing) == {"trainers/ppo/trl_parent.py"}
