"""The wheel holds whatever the package opens when it runs, and what ``init`` copies."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from pipeline.project.init import FILES, project_files

ROOT = Path(__file__).parents[2]
LITTER = shutil.ignore_patterns("__pycache__", "*.pyc")


def names(directory: Path) -> set[str]:
    return {
        p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file() and p.suffix != ".pyc"
    }


# Mutation caught: a pattern missing from package-data; configs or docs missing from setup.py.
def test_everything_of_the_package_and_of_a_project_is_in_the_wheel(tmp_path: Path):
    source, built = tmp_path / "source", tmp_path / "built"
    for folder in ("pipeline", "configs", "docs"):
        shutil.copytree(ROOT / folder, source / folder, ignore=LITTER)
    for file in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(built)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Package would be ignored" not in done.stderr
    inside = FILES.relative_to(ROOT).as_posix()
    project = {f"{inside}/{folder}/{name}" for folder in ("configs", "docs") for name in names(ROOT / folder)}
    assert names(built) == {f"pipeline/{name}" for name in names(ROOT / "pipeline")} | project
    assert len([name for name in names(built) if not name.endswith(".py")]) > 60
    # What init writes from the wheel is what it writes from the repository.
    hidden = {name.removeprefix(".") for name in project_files()}
    assert hidden == names(built / inside)
