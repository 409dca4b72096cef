"""Harm, fairness, consent, sign-off and the gate between rounds are the same for every task.

A new task is run here without being named, with the options that it has in tests/contracts/test_plugins.py.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import pipeline
import pipeline.tasks
from pipeline import __main__ as command
from pipeline.base.required import REQUIRED
from pipeline.results.fairness import Fairness
from pipeline.results.screening import Screening, harm_rate_over_base
from pipeline.results.stats import from_json
from pipeline.tasks import load_task, written_texts
from pipeline.workflow.stage_command import WORK_TO_DO
from tests.contracts.test_plugins import TASKS, args_of, modules
from tests.helpers.row_files import write_rows
from tests.stages.conftest import Project
from tests.stages.test_loop import in_this_process

GOVERNANCE: dict[str, Any] = {
    "consent": True,
    "sign_off": True,
    "personal_data": {"all": 0},
    "screening": 1.0,
    "fairness": {"reward": 99.0},
}


BASE = ("--base", f"org/base@{'0' * 40}")


def swaps_of(name: str, args: dict[str, Any], directory: Path) -> str:
    """A file of two lines that swap one prompt of the task for another: a gold score may know its own alone."""
    own = [p for p in load_task(name, args, "x.yaml").prompts("train", 8, 0) if not set("[|]") & set(p)][:4]
    prompts = own if len(own) == 4 else ["One is", "Two is", "Three is", "Four is"]
    lines = [f"[{first}|{second}]" for first, second in (prompts[:2], prompts[2:])]
    rows = ({"attribute": "thing", "groups": "x|y", "prompt": line, "completion": " good."} for line in lines)
    return write_rows(directory / "swaps.jsonl", rows)


def base_of(name: str, args: dict[str, Any], finished: Project) -> dict[str, Any]:
    """A base that is there; for conversations, which are longer than it reads, one from scratch."""
    corpus = load_task(name, args, "x.yaml").corpus(0)
    if corpus and not isinstance(corpus[0], str):
        return {"sft": {"n_positions": 512, "max_steps": 2}}
    return {"base_model": str(finished.latest("base").path), "sft": None}


def judge_of(name: str, args: dict[str, Any]) -> dict[str, Any]:
    """An annotator that needs no download: by the gold score, else by people's texts."""
    task = load_task(name, args, "x.yaml")
    if task.gold_name is not None:
        return {"annotator": "oracle", "annotator_args": {}}
    assert written_texts(task, 0), f"{name} has neither a gold score nor people's texts: who judges it offline?"
    return {"annotator": "discriminator", "annotator_args": {}}


@pytest.mark.thorough
@pytest.mark.parametrize("name", modules(pipeline.tasks))
def test_screening_fairness_sign_off_and_the_gate(
    name: str,
    finished: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    in_this_process(monkeypatch)
    args = args_of(TASKS, "TASKS", name, tmp_path)
    project, root = Project(tmp_path), str(tmp_path / "data")
    project.write(
        task=name,
        task_args=args,
        **base_of(name, args, finished),
        collect={"comparisons": 24, "test_share": 0.25, **judge_of(name, args)},
        reward={"max_steps": 2, "per_device_train_batch_size": 1, "max_length": 512},
        ppo={"total_episodes": 16, "response_length": 8},
        evaluate={"prompts": 6, "best_of": 0},
        governance=GOVERNANCE,
        loop={"rounds": 2, "oversight": True},
    )
    # The gate: a round is done, the next one waits for a person, and no setting passes by.
    assert project.run("loop") == WORK_TO_DO
    policy = project.latest("policy")
    assert policy.manifest.governance[REQUIRED] == GOVERNANCE
    for overrides in ([], ["loop.oversight=false"], ["loop.oversight=false", "ppo.learning_rate=0.001"]):
        assert project.run("loop", *overrides) == WORK_TO_DO, overrides
    assert "round 2 waits for a person to say yes or no" in capsys.readouterr().out
    sampled = [p.role for v in project.store.versions("mini-preferences") for p in v.manifest.parents]
    assert "policy" not in sampled, "a second round has begun"

    # Harm and fairness are measured, and what is missing for a publication is named.
    swaps = ["--swaps", swaps_of(name, args, tmp_path), "--draws", "1"]
    assert command.main(["screen", policy.ref, "--root", root]) == 0
    assert command.main(["fairness", policy.ref, "--root", root, *swaps]) == 0
    screening = project.latest("screening")
    assert harm_rate_over_base(from_json(Screening, screening.manifest.stats, screening.ref)) is not None
    fairness = project.latest("fairness")
    assert from_json(Fairness, fairness.manifest.stats, fairness.ref).attributes["thing"].lines == 2
    capsys.readouterr()
    assert command.main(["publish", policy.ref, "--repo", "org/mini", *BASE, "--dry-run", "--root", root]) == 1
    refusal = "".join(capsys.readouterr())
    assert f"{policy.ref} is not signed off" in refusal
    assert "did not agree" not in refusal


BOUNDS_BY_NAME = "workflow/key_checks/bounds.py"
"""The one table by task: of numbers in the options of some of this package's tasks. Others check their own."""


# Catches: `if config.task == "reviews"`, `match`, a table by task. `prompts`, `requests` and `chat` are also words
# for other things (a kind of version, a route, a command), and are left to the test above.
def test_no_module_outside_the_plugins_decides_by_the_task():
    names = set(modules(pipeline.tasks)) - {"prompts", "requests", "chat"}
    root = Path(pipeline.__file__).parent
    deciding: list[str] = []
    for path in sorted(root.rglob("*.py")):
        place = path.relative_to(root)
        if place.parts[0] in ("tasks", "annotators", "project") or place.as_posix() == BOUNDS_BY_NAME:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts = [node] if isinstance(node, ast.Compare | ast.MatchValue) else []
            parts += [key for key in node.keys if key is not None] if isinstance(node, ast.Dict) else []
            constants = [c for part in parts for c in ast.walk(part) if isinstance(c, ast.Constant)]
            deciding += [f"{place}:{c.lineno} {c.value}" for c in constants if c.value in names]
    assert deciding == []
