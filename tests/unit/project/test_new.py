"""``new``: a task, its test and its config, in a project and here: run at once, and nothing is overwritten."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.base.errors import ConfigError
from pipeline.project import init, new
from tests.unit.project.test_init import ROOT, another_file, make, tree


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_task_its_test_and_its_config(project: Path, capsys: pytest.CaptureFixture[str]):
    assert new.main(["gift_cards"]) == 0
    written = tree(project)
    assert set(written) == {"my/gift_cards.py", "my/test_gift_cards.py", "configs/gift_cards.yaml"}
    assert not any(b"new_task" in text or b"new-task" in text or b"NewTask" in text for text in written.values())
    assert "pipeline.run --config configs/gift_cards.yaml" in capsys.readouterr().out
    config = yaml.safe_load(written["configs/gift_cards.yaml"])
    assert (config["name"], config["task"]) == ("gift-cards", "my.gift_cards")
    (project / "Makefile").touch()
    assert new.main(["menus"]) == 0
    assert "CONFIG=configs/menus.yaml" in capsys.readouterr().out


def test_again_there_is_nothing_to_do_and_what_a_kill_left_out_is_added(
    project: Path, capsys: pytest.CaptureFixture[str]
):
    new.main(["menus"])
    whole = tree(project)
    capsys.readouterr()
    assert new.main(["menus"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    (project / "configs" / "menus.yaml").unlink()
    (project / "my" / ".menus.py.half-written").touch()
    assert new.main(["menus"]) == 0
    assert tree(project) == whole


@pytest.mark.parametrize("name", ["my/menus.py", "my/test_menus.py", "configs/menus.yaml", "my"])
def test_nothing_is_overwritten(name: str, project: Path):
    another_file(project / name)
    before = tree(project)
    with pytest.raises(
        ConfigError, match=rf"^{name}: is there already.* Nothing was written\. .* take another name\.$"
    ):
        new.main(["menus"])
    assert tree(project) == before


@pytest.mark.parametrize(
    "name", ["Menus", "2menus", "my-menus", "class", "../menus", "test_menus", "a" * 41, "ménus", ""]
)
def test_a_name_that_no_module_can_have(name: str, project: Path):
    with pytest.raises(ConfigError, match="is not a name for a module"):
        new.main([name])
    assert tree(project) == {}


def test_a_name_of_the_projects_own_example_is_refused(project: Path):
    init.main(["."])
    for taken in ("task", "demo"):  # my/task.py, configs/demo.yaml
        with pytest.raises(ConfigError, match="is there already"):
            new.main([taken])


def test_the_commands_that_it_prints_find_its_python(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    ours = Path(sys.executable).parent
    (project / "Makefile").touch()
    plain = ["python -m unittest my.test_menus", "make CONFIG=configs/menus.yaml"]
    named = [f"{sys.executable} -m unittest my.test_menus", f"make BIN={ours} CONFIG=configs/menus.yaml"]
    elsewhere = "/nowhere/bin"
    for path, level, commands in (
        (f"{ours}:{elsewhere}", None, plain),
        (elsewhere, None, named),
        (f"{ours}:{elsewhere}", "1", named),  # the first is what make has put there
        (f"{ours}:{ours}", "1", plain),
    ):
        monkeypatch.setenv("PATH", path)
        monkeypatch.setenv("MAKELEVEL", level) if level else monkeypatch.delenv("MAKELEVEL", raising=False)
        printed = new.next_commands("menus")
        # Mutation caught: MAKELEVEL is not looked at.
        assert [line.partition(": ")[2].strip().split("    ")[0] for line in printed[:2]] == commands


@pytest.mark.thorough
@pytest.mark.parametrize("where", ["project", "repository"])
def test_what_is_written_runs_at_once(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    if where == "project":
        init.main(["."])
    else:  # the clone's own Makefile, as far as `new` sees it
        (tmp_path / "Makefile").write_text(f"include {ROOT}/pipeline/project/files/Makefile\n")
    ours = str(Path(sys.executable).parent)
    path = f"{ours}:/usr/bin:/bin"
    assert make(tmp_path, "new", f"BIN={ours}", path=path).returncode == 2
    made = make(tmp_path, "new", "TASK=gift_cards", f"BIN={ours}", path=path)
    assert made.returncode == 0, made.stderr
    for command in (["-m", "unittest", "my.test_gift_cards"], ["-m", "ruff", "check", "my"]):
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    small = "sft.max_steps=4 collect.comparisons=40 ppo.total_episodes=64 evaluate.prompts=4 data_dir=data"
    done = make(tmp_path, "demo", "CONFIG=configs/gift_cards.yaml", f"ARGS={small}", f"BIN={ours}", path=path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert list(tmp_path.glob("data/gift-cards-report/versions/v000001/report.html"))
