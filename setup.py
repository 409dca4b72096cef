"""Puts configs/ and docs/ into the wheel, where ``rlhf-pipeline init`` finds them; pyproject.toml has the rest."""

from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
SHARED = ("configs", "docs")
INSIDE = "pipeline/project/files"


class BuildPy(build_py):
    """Copies them into the package; an editable install finds them where they are."""

    def shared(self) -> dict[str, str]:
        """Where each file goes, and where it comes from."""
        if self.editable_mode:
            return {}
        paths = (p for folder in SHARED for p in sorted((ROOT / folder).rglob("*")))
        names = [p.relative_to(ROOT).as_posix() for p in paths if p.is_file() and not p.name.startswith(".")]
        return {f"{self.build_lib}/{INSIDE}/{name}": name for name in names}

    def run(self) -> None:
        super().run()
        for target, source in self.shared().items():
            self.mkpath(str(Path(target).parent))
            self.copy_file(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), *self.shared()]

    def get_source_files(self) -> list[str]:
        return [*super().get_source_files(), *self.shared().values()]


setup(cmdclass={"build_py": BuildPy})
