"""A task of one's own by ``make new``: its test, its whole config, its report, and again. Slow: a minute."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.project import init
from pipeline.store.store import Store
from tests.unit.project.test_init import make, tree

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("make") is None, reason="no make"),
]

ENVIRONMENT = str(Path(sys.executable).parent)
STAGES = ("sft", "collect", "reward", "ppo", "evaluate", "report")


def told(project: Path, *args: str) -> list[str]:
    """The lines that ``make`` prints in the project."""
    done = make(project, *args, f"BIN={ENVIRONMENT}", path="/usr/bin:/bin")
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
    return done.stdout.splitlines()


@pytest.mark.timeout(900)
def test_a_new_task_runs_whole_and_an_edited_one_is_new_work(tmp_path: Path):
    init.main([str(tmp_path)])
    printed = told(tmp_path, "new", "TASK=gift_cards")
    # The commands that it prints, typed as they are in a shell that knows nothing of the environment.
    test, run = (line.partition(" it:")[2].partition("    (")[0] for line in printed[1:3])
    shell = {"cwd": tmp_path, "shell": True, "env": {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path.cwd())}}
    subprocess.run(test, check=True, capture_output=True, **shell)
    whole = subprocess.run(run, check=False, capture_output=True, text=True, **shell)
    assert whole.returncode == 0, whole.stderr[-2000:]

    store = Store(tmp_path / "data")
    evaluation = store.resolve("gift-cards-evaluation")
    gold = evaluation.manifest.stats["gold_score"]
    print(gold, *(row["policy_completion"] for row in evaluation.rows("test")[:20]), sep="\n")
    assert gold["difference"]["low"] > 0, "its config says that the gold score rises"
    page = (store.resolve("gift-cards-report").path / "report.html").read_text(encoding="utf-8")
    assert "Gold score rose from" in page
    assert evaluation.rows("test")[0]["prompt"] in page
    assert f"open {store.root.name}/gift-cards-report" in whole.stdout
    assert {name.removeprefix("gift-cards-") for name in store.names()} >= {
        "base", "prompts", "comparisons", "preferences", "reward", "rollouts", "policy", "evaluation", "report",
    }  # fmt: skip

    before = tree(tmp_path / "data")
    config = "CONFIG=configs/gift_cards.yaml"
    again = told(tmp_path, config)
    assert [re.fullmatch(r"\[(\w+)\] up to date: .*", line)[1] for line in again] == list(STAGES)  # type: ignore[index]
    assert tree(tmp_path / "data") == before

    # An edited task is new work; undone, it is none.
    task = tmp_path / "my" / "gift_cards.py"
    whole_text = task.read_text(encoding="utf-8")
    check = f"{test.partition(' ')[0]} -m pipeline.sft --check --config configs/gift_cards.yaml"
    for text, status in ((whole_text.replace("for a first flat", "for the garden"), 3), (whole_text, 0)):
        task.write_text(text, encoding="utf-8")
        assert subprocess.run(check, check=False, capture_output=True, **shell).returncode == status
