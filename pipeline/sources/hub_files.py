"""Find the files of a subset and split of a Hub dataset, by its card or else by the files' names.

The card's ``configs`` are as the Hub documents them: config_name, default, data_dir, data_files with globs.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, cast

from pipeline.base.errors import DataError
from pipeline.sources.hub import DatasetAt
from pipeline.sources.row_files import file_kind
from pipeline.sources.split_names import choose_split, files_by_split

_LAYOUT = {"config_name", "data_files", "data_dir", "default", "description", "version", "license", "features"}
_NOT_DATA = {".py", ".md", ".txt", ".gitattributes", ".gitignore", ".yaml", ".yml", ".png", ".svg", ".pdf"}

Config = dict[str, Any]


@dataclass(frozen=True)
class Prepared:
    """Files that only the ``datasets`` library can read."""

    files: list[str]


def choose(at: DatasetAt, split: str | None, subset: str | None, where: str) -> list[str] | Prepared:
    """The files of one subset and split.

    Raises:
        DataError: no such subset or split, several and none of them the default, or no file of rows.
    """
    config = _config(at, subset, where)
    if config is not None and set(config) - _LAYOUT:  # such as sep: options of the reader
        return Prepared(_data_files(at))
    if config is not None and config.get("data_files") is not None:
        patterns = _patterns(config["data_files"], config.get("data_dir"))
        wanted = choose_split(list(patterns), split, at.dataset, where)
        chosen = [name for name in at.files if _matches(name, patterns[wanted])]
        if not chosen:
            fact = f'{at.name}: no file is named as its card says of split "{wanted}" ({patterns[wanted][0]}).'
            raise DataError(where, fact, "Choose another subset or revision.")
        return chosen if all(file_kind(PurePosixPath(name)) for name in chosen) else Prepared(chosen)
    below = str(config["data_dir"]) if config and config.get("data_dir") else "" if config else subset or ""
    below = below.strip("/").removeprefix("./")
    inside = [n.removeprefix(f"{below}/") for n in at.files if not below or n.startswith(f"{below}/")]
    by_split = files_by_split(inside)
    if not by_split:
        return _unreadable(at, where)
    chosen = by_split[choose_split(list(by_split), split, at.dataset, where)]
    return [f"{below}/{name}" if below else name for name in chosen]


def _config(at: DatasetAt, subset: str | None, where: str) -> Config | None:
    """The card's entry of a subset; None where the card has none and ``subset`` is a directory."""
    configs = {str(c["config_name"]): c for c in _configs(at)}
    if subset in configs:
        return configs[subset]
    if subset is not None:
        directories = {n.rpartition("/")[0] for n in at.files}
        if any(d == subset or d.startswith(f"{subset}/") for d in directories):
            return None
        there = ", ".join(configs) or ", ".join(sorted(d for d in directories if d)) or "none"
        raise DataError(where, f'{at.name} has no subset "{subset}".', f"Its subsets: {there}")
    if not configs:
        return None
    usual = [c for c in configs.values() if c.get("default") is True] or [
        c for n, c in configs.items() if n == "default"
    ]
    if not usual and len(configs) > 1:
        fact = f"{at.name} has several subsets and none is the default."
        raise DataError(where, fact, f"Set subset to one of: {', '.join(configs)}")
    return usual[0] if usual else next(iter(configs.values()))


def _configs(at: DatasetAt) -> list[Config]:
    readme = at.path / "README.md"
    text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    yaml: Any = importlib.import_module("yaml")  # of these commands few need it
    front = re.match(r"\s*---\r?\n(.*?)\r?\n---", text, re.DOTALL)
    try:
        card: Any = yaml.safe_load(front[1]) if front else None
    except yaml.YAMLError:
        return []
    given: Any = cast("Config", card).get("configs") if isinstance(card, dict) else None
    listed = cast("list[Any]", given) if isinstance(given, list) else []
    return [cast("Config", c) for c in listed if isinstance(c, dict) and "config_name" in c]


def _patterns(given: object, directory: object) -> dict[str, list[str]]:
    """Globs by split of ``data_files``: a glob, a list of them, or a list of ``{split:, path:}``."""
    start = f"{str(directory).strip('/')}/" if directory else ""
    patterns: dict[str, list[str]] = {}
    for item in _listed(given):
        entry = cast("Config", item) if isinstance(item, dict) else {"path": item}
        paths = [start + str(path).removeprefix("./") for path in _listed(entry.get("path"))]
        patterns.setdefault(str(entry.get("split", "train")), []).extend(paths)
    return patterns


def _listed(value: object) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else [value]


def _matches(name: str, patterns: list[str]) -> bool:
    return any(_glob(pattern).fullmatch(name) for pattern in patterns)


def _glob(pattern: str) -> re.Pattern[str]:
    """``*`` and ``?`` stay in their directory, ``**/`` is any number, ``[...]`` and ``{a,b}`` are choices."""
    out, at, depth = "", 0, 0
    while at < len(pattern):
        char, rest = pattern[at], pattern[at:]
        step = 1
        if rest.startswith("**/"):
            out, step = out + r"(?:.*/)?", 3
        elif rest.startswith("**"):
            out, step = out + ".*", 2
        elif char in "*?":
            out += "[^/]*" if char == "*" else "[^/]"
        elif char == "[" and (end := pattern.find("]", at + 2)) > 0:
            inner = pattern[at + 1 : end].replace("\\", r"\\")
            out, step = out + f"[{'^' + inner[1:] if inner[0] in '!^' else inner}]", end - at + 1
        elif char == "{" and "}" in rest:
            out, depth = out + "(?:", depth + 1
        elif depth and char in ",}":
            out, depth = out + ("|" if char == "," else ")"), depth - (char == "}")
        else:
            out += re.escape(char)
        at += step
    return re.compile(out, re.DOTALL)


def _data_files(at: DatasetAt) -> list[str]:
    kinds = {n: PurePosixPath(n).suffix.lower() or PurePosixPath(n).name for n in at.files}
    return [n for n, kind in kinds.items() if kind not in _NOT_DATA and not n.startswith(".")]


def _unreadable(at: DatasetAt, where: str) -> Prepared:
    files = _data_files(at)
    if files:
        return Prepared(files)
    script = f"{at.dataset.rpartition('/')[2]}.py"
    if script in at.files or any(n.endswith(".py") for n in at.files):
        fact = f"{at.name} holds a loading script and no file of rows; scripts of others are not run."
        mend = "The Hub keeps most such sets as Parquet too:  revision: refs/convert/parquet  with its subset."
        raise DataError(where, fact, mend)
    raise DataError(where, f"{at.name} holds no file of rows.", "Choose another dataset or revision.")
