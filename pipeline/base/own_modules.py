"""Find the source of modules that somebody wrote beside their configs, and of those that they import."""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

_INSTALLED = frozenset(["site-packages", "dist-packages"])


def source_files(module: str) -> list[Path]:
    """The source of a module of one's own, then the files that it imports, those again, and so on, by path.

    A module is one's own below the working directory, unless it is installed there or belongs to this package. Of
    a package all modules are taken; of an imported one only what the import names; of both every ``__init__.py``
    on the way. Nothing is imported: sources are read. So a name that a program makes up as it runs
    (``importlib.import_module``) is not followed.
    """
    where = _search()
    found = _locate(module, where)
    if found is None:
        return []
    first = [p for d in found for p in sorted(d.rglob("*.py"))] if isinstance(found, list) else [found]
    imported: set[Path] = set()
    left = [module, *(name for path in first for name in _imported(path, _name_of(path, module, found)))]
    while left:
        for file, known_as in _on_the_way(left.pop(), where):
            if file not in imported and file not in first:
                imported.add(file)
                left += _imported(file, known_as)
    return first + sorted(imported)


def _search() -> list[str]:
    """Where one's own modules are: the working directory and what is below it of Python's own search path."""
    here, library = Path.cwd(), Path(sysconfig.get_path("stdlib"))
    below = [p for entry in sys.path if entry and (p := Path(entry).resolve()).is_relative_to(here) and p.is_dir()]
    mine = [p for p in below if not (_INSTALLED & set(p.parts) or p.is_relative_to(library))]
    return list(dict.fromkeys(str(p) for p in (here, *mine)))


def _locate(module: str, where: list[str]) -> Path | list[Path] | None:
    """A module's file, a package's directories, or None where it is not one's own.

    Nothing is imported: the usual search for ``a.b`` would run ``a``.
    """
    spec = None
    parts = module.split(".")
    for i in range(len(parts)):
        spec = PathFinder.find_spec(".".join(parts[: i + 1]), where) if where else None
        where = list(spec.submodule_search_locations or []) if spec is not None else []
    if where:
        return [Path(d) for d in where]
    return Path(spec.origin) if spec is not None and spec.origin is not None else None


def _name_of(path: Path, module: str, found: Path | list[Path]) -> str:
    """What a file is imported as, the name of a package ending in ``__init__``."""
    if isinstance(found, Path):
        return module
    below = next(path.relative_to(d) for d in found if path.is_relative_to(d))
    return ".".join([module, *below.with_suffix("").parts])


def _on_the_way(module: str, where: list[str]) -> Iterator[tuple[Path, str]]:
    """The files that an import of the module runs, with their names: of ``a.b.c`` those of a, a.b and a.b.c."""
    parts = module.split(".")
    if parts[0] == __name__.partition(".")[0]:
        return
    for i in range(len(parts)):
        name = ".".join(parts[: i + 1])
        found = _locate(name, where)
        if found is None:
            return
        if isinstance(found, Path):
            yield found, name
        else:
            yield from ((p, f"{name}.__init__") for d in found if (p := d / "__init__.py").is_file())


def _imported(path: Path, name: str) -> Iterator[str]:
    """The modules that a source imports, anywhere in it; of ``from a import b`` both ``a`` and ``a.b``.

    Of a file that Python cannot read there are none: whoever loads it is told why.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = name.split(".")[: -node.level] if node.level else []
            base += node.module.split(".") if node.module else []
            if base:
                yield from (".".join([*base, alias.name]) for alias in node.names)
