"""The source of modules beside a config, and what they import: found without importing anything."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from pipeline.base.own_modules import source_files


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with ``my/task.py`` and its neighbours; running any of them would end the test."""
    monkeypatch.chdir(tmp_path)
    sources = {
        "my/task.py": "import os, numpy, my.words\nfrom pipeline.tasks import reviews\nfrom data import rows\n",
        "my/words.py": "def late():\n    from .deep.lists import *\n    from . import cycle, no_such\n",
        "my/cycle.py": "import my.task\nfrom missing import thing\n",
        "my/deep/__init__.py": "from ..shared import SIZE\n",
        "my/deep/lists.py": "",
        "my/deep/unused.py": "",
        "my/shared.py": "this is not Python (",
        "my/unused.py": "",
        "pipeline/tasks/reviews.py": "",
        "data/versions.py": "",
        "src/lib/one.py": "from lib import two",
        "src/lib/two.py": "",
        ".venv/lib/site-packages/numpy.py": "",
    }
    for name, text in sources.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if "not Python" in text else f"{text}\nraise SystemExit('was imported')\n")
    on_path = [str(tmp_path / ".venv/lib/site-packages"), str(tmp_path / "src"), *sys.path]
    monkeypatch.setattr("sys.path", on_path)
    return tmp_path


def names(module: str, root: Path) -> list[str]:
    return [str(p.relative_to(root)) for p in source_files(module)]


# Seen failing with: imports at the top only, no relative ones, no __init__.py; this package's modules too.
def test_what_a_module_imports_at_any_depth(written: Path) -> None:
    imported = ["my/cycle.py", "my/deep/__init__.py", "my/deep/lists.py", "my/shared.py", "my/words.py"]
    assert names("my.task", written) == ["my/task.py", *imported]
    assert "my" not in sys.modules


def test_of_a_package_all_modules(written: Path) -> None:
    assert names("my.deep", written) == [
        *("my/deep/__init__.py", "my/deep/lists.py", "my/deep/unused.py"),
        "my/shared.py",
    ]


# Seen failing with: the packages of imported modules alone.
def test_the_packages_that_a_module_is_in(written: Path) -> None:
    assert names("my.deep.lists", written) == ["my/deep/lists.py", "my/deep/__init__.py", "my/shared.py"]


def test_a_search_path_below_the_working_directory(written: Path) -> None:
    assert names("lib.one", written) == ["src/lib/one.py", "src/lib/two.py"]


@pytest.mark.parametrize("module", ["json", "numpy", "no_such.module", "my.task.f", "lib.three"])
def test_what_is_installed_or_nowhere_has_none(written: Path, module: str) -> None:
    assert source_files(module) == []


# Seen failing: NotADirectoryError, as the place of its source was read as a file.
def test_an_archive_on_the_search_path_is_passed_over(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(written / "archive.zip", "w") as archive:
        archive.writestr("inside.py", "")
    monkeypatch.syspath_prepend(written / "archive.zip")
    (written / "my/reads.py").write_text("import inside")
    assert names("my.reads", written) == ["my/reads.py"]
