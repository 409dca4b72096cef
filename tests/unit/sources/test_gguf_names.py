"""Which sources are GGUF, and what identifies one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.base.errors import ConfigError, ModelError
from pipeline.sources.gguf_names import identity, is_gguf, parse_package
from tests.helpers.gguf_double import sha256
from tests.helpers.refusals import refusal

CONTENT = b"GGUF and then some"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("models/a.gguf", True),
        ("A.GGUF", True),
        ("pypi:a==1", True),
        ("org/name", False),
        ("models/dir", False),
        ("run@v1", False),
    ],
)
def test_which_sources_are_gguf(source: str, expected: bool):
    assert is_gguf(source) is expected


@pytest.mark.parametrize("spec", ["pypi:tiny-lm", "pypi:tiny-lm>=1", "pypi:tiny-lm==", "pypi:==1", "pypi:-r x==1"])
def test_a_package_needs_its_exact_version(spec: str):
    assert "pypi:NAME==VERSION" in refusal(ConfigError, parse_package, spec)


def test_a_file_is_identified_by_its_bytes(tmp_path: Path):
    path = tmp_path / "a.gguf"
    path.write_bytes(CONTENT)
    assert identity(str(path), None) == identity(str(path), sha256(CONTENT)) == [sha256(CONTENT)]
    assert sha256(CONTENT) in refusal(ModelError, identity, str(path), "0" * 64)
    assert "no such file" in refusal(ModelError, identity, str(tmp_path / "b.gguf"), None)


def test_a_package_is_identified_by_name_version_and_stated_hash():
    assert identity("pypi:tiny-lm==1.0", None) == ["tiny-lm", "1.0", None]
    assert identity("pypi:tiny-lm==1.0", "ab") == ["tiny-lm", "1.0", "ab"]
