"""A project of one's own: what ``init`` writes, what it leaves alone, and what a kill leaves."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.base.cli import as_called
from pipeline.base.errors import ConfigError, StoreError
from pipeline.project import init
from tests.helpers.dying import die_before_every_step, raising

ROOT = Path(__file__).parents[3]


def tree(directory: Path) -> dict[str, bytes]:
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def test_a_project_has_configs_docs_a_makefile_and_an_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert init.main([str(tmp_path / "mine")]) == 0
    written = tree(tmp_path / "mine")
    shared = {f"{d}/{name}": content for d in ("configs", "docs") for name, content in tree(ROOT / d).items()}
    assert {
        name: content for name, content in written.items() if name.split("/")[0] in ("configs", "docs")
    } == shared
    assert "configs/schema.json" in shared
    assert written.keys() - shared.keys() == {
        "Makefile", "README.md", ".gitignore", "my/task.py", "my/task.yaml", "my/prompts.txt",
    }  # fmt: skip
    assert b"data/\n" in written[".gitignore"]
    said = capsys.readouterr().out
    assert f"{len(written)} files" in said
    assert f"cd {tmp_path / 'mine'} && make" in said


def test_again_there_is_nothing_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    init.main([str(tmp_path)])
    (tmp_path / "data").mkdir()
    (tmp_path / "Makefile").chmod(0o400)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    capsys.readouterr()
    assert init.main([str(tmp_path)]) == 0
    assert (
        capsys.readouterr().out == f"[init] nothing to do: {tmp_path} has all {len(init.project_files())} files\n"
    )
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_what_is_missing_is_added(tmp_path: Path):
    init.main([str(tmp_path)])
    whole = tree(tmp_path)
    shutil.rmtree(tmp_path / "configs")
    (tmp_path / "my" / "task.py").unlink()
    init.main([str(tmp_path)])
    assert tree(tmp_path) == whole


def another_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine\n")


def an_empty_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def a_dangling_link(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("README.md", another_file),
        (".gitignore", an_empty_file),
        ("docs/ppo.md", another_file),
        ("configs", another_file),  # a file where a directory is needed
        ("Makefile", Path.mkdir),  # and the other way round
        ("my", a_dangling_link),
        ("Makefile", a_dangling_link),
    ],
)
def test_nothing_is_overwritten(name: str, make: object, tmp_path: Path):
    make(tmp_path / name)  # type: ignore[operator]
    before = sorted(tmp_path.rglob("*")), tree(tmp_path)
    # Mutation caught: files written before all of them are compared.
    with pytest.raises(ConfigError) as caught:
        init.main([str(tmp_path)])
    assert str(caught.value) == (
        f"{tmp_path / name}: is there already, and differs from what init would write. Nothing was written. "
        "Move it away, or name another directory."
    )
    assert (sorted(tmp_path.rglob("*")), tree(tmp_path)) == before


def test_several_files_in_the_way_are_one_line(tmp_path: Path):
    for name in ("README.md", "Makefile", "my/task.py"):
        another_file(tmp_path / name)
    with pytest.raises(ConfigError, match=r"Makefile: is there already.*, and so are 2 others\."):
        init.main([str(tmp_path)])


def test_a_directory_that_is_a_file(tmp_path: Path):
    (tmp_path / "mine").write_text("x")
    with pytest.raises(ConfigError, match="mine: is there already"):
        init.main([str(tmp_path / "mine")])


def test_a_directory_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(init, "make_dirs", raising(PermissionError(errno.EACCES, "Permission denied")))
    with pytest.raises(StoreError, match="mine: Permission denied"):
        init.main([str(tmp_path / "mine")])


def test_a_file_that_appears_in_the_meantime_is_kept(tmp_path: Path):
    another_file(tmp_path / "Makefile")
    # Mutation caught: os.replace instead of os.link.
    with pytest.raises(FileExistsError):
        init.write_new(tmp_path / "Makefile", b"ours")
    assert (tmp_path / "Makefile").read_text() == "mine\n"


SMALL = """
from pipeline.project import init

init.say = lambda *_: None

def work(root):
    sources = root.parent / "sources"
    init.project_files = lambda: {p.relative_to(sources).as_posix(): p for p in sorted(sources.rglob("*.txt"))}
    init.main([str(root / "mine")])
"""


def test_a_kill_at_any_moment_and_then_again_is_the_same_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    names = ("a.txt", "b/c.txt", "b/d.txt")
    for name in names:
        another_file(tmp_path / "sources" / name)
    copies = die_before_every_step(tmp_path, SMALL, ("fsync", "mkdir", "link", "unlink"))
    assert len(copies) > 12
    monkeypatch.setattr(init, "project_files", lambda: {name: tmp_path / "sources" / name for name in names})
    seen = set[int]()
    for copy in copies:
        left = tree(copy / "mine") if (copy / "mine").exists() else {}
        assert {content for name, content in left.items() if "half-written" not in name} <= {b"mine\n"}
        seen.add(len(left))
        init.main([str(copy / "mine")])
        # Mutation caught: half-written files are not taken away.
        assert tree(copy / "mine") == dict.fromkeys(names, b"mine\n")
    assert len(seen) > 3


@pytest.mark.parametrize(
    ("started_as", "command", "shown"),
    [
        ("/x/pipeline/__main__.py", "pipeline data look", "python -m pipeline data look"),
        ("/x/pipeline/ppo.py", "pipeline.ppo", "python -m pipeline.ppo"),
        ("/x/bin/rlhf-pipeline", "pipeline data look", "rlhf-pipeline data look"),
        ("/x/bin/rlhf-pipeline", "pipeline.ppo", "rlhf-pipeline ppo"),
    ],
)
def test_help_says_the_name_it_was_called_by(
    started_as: str, command: str, shown: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "argv", [started_as])
    assert as_called(command) == shown


def make(directory: Path, *args: str, path: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["make", *args], cwd=directory, capture_output=True, text=True, check=False, env=env
    )  # fmt: skip


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_make_in_a_project_names_what_it_has_and_misses(tmp_path: Path):
    shutil.copy(init.FILES / "Makefile", tmp_path)
    system = os.pathsep.join(["/usr/bin", "/bin"])
    listed = make(tmp_path, "help", path=system).stdout
    assert "make report " in listed
    assert "make label " in listed
    for of_the_repository in ("setup", "test", "check", "generated", "bench", "clean"):
        assert f"make {of_the_repository} " not in listed
    ours = str(Path(sys.executable).parent)
    assert make(tmp_path, "installed", f"BIN={ours}", path=system).returncode == 0
    nowhere = tmp_path / "bin"
    nowhere.mkdir()
    for tool in ("sh", "env", "nproc", "uname"):
        if found := shutil.which(tool):
            (nowhere / tool).symlink_to(found)
    done = subprocess.run(
        [shutil.which("make") or "make", "report"],
        cwd=tmp_path, capture_output=True, text=True, check=False, env={"PATH": str(nowhere)},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: make finds no python that has rlhf-pipeline. Activate its environment")
