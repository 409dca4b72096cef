"""Find the base of an adapter, and rewrite its path after a data directory has moved (``data relocate``).

PEFT passes ``base_model_name_or_path`` to transformers unchanged, so a relative path would depend on the working
directory. The path is absolute; our own loaders read the manifest. Nothing else in a data directory depends on its
place.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from pipeline.base.errors import ModelError, StoreError
from pipeline.base.files import disk_errors, fsync, locked, read_json, replace_text
from pipeline.base.json_values import parse_json
from pipeline.base.terminal_text import put, put_json
from pipeline.store import refs
from pipeline.store.store import Store
from pipeline.store.version import ADAPTER_CONFIG, BASE_KEY, Version, adapter_digest
from pipeline.workflow.graph import External

MEND = (
    "If the data directory moved: python -m pipeline data relocate --root DIR (--base DIR for a base beside it)."
)


@dataclass
class Relocated:
    """Adapters that were rewritten: (reference, path before, path now); those that were not: (reference, why)."""

    moved: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    left: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    right: int = 0
    """Number of adapters that already name their base's place, or a base on the Hub."""


def named_base(directory: Path) -> tuple[str, str | None]:
    """The base of the adapter in ``directory``: (directory or Hub id, revision).

    In a store it is the base that the manifest names; else the one in the config.

    Raises:
        ModelError: the config names no base, or a path that does not exist.
    """
    try:
        config = parse_json((directory / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        source, revision = str(config[BASE_KEY]), config.get("revision")
    except (OSError, ValueError, KeyError, TypeError) as err:
        mend = "Train one: make reward"
        raise ModelError(str(directory), f"its {ADAPTER_CONFIG} names no base.", mend) from err
    base = stored_base(directory)
    if base is not None:
        return str(base.path), None
    if os.path.isabs(source) and not Path(source).is_dir():
        raise ModelError(str(directory), f"its base was at {source}, where nothing is now.", MEND)
    return source, revision


def stored_base(directory: Path) -> Version | None:
    """The version that the adapter in ``directory`` was trained on, if it is in the same store."""
    try:
        version = Version.open(directory)
        root = directory.resolve().parents[2]
        for parent in version.manifest.parents:
            if parent.role == "base" and directory.resolve().parent.name == "versions":
                base = Version.open(refs.version_path(root / parent.name, parent.version))
                return base if base.id == parent.id else None  # else it is another store's version of this number
    except (StoreError, IndexError):
        pass
    return None


def relocate(store: Store, base: Path | None = None, dry_run: bool = False) -> Relocated:
    """Write the present path of its base into every adapter of the store.

    A version matches its manifest at any time: the path is not part of
    :func:`pipeline.store.version.adapter_digest`, and files are replaced atomically. It can be run again.

    Args:
        base: a base outside the store, recognised by its weights.
    Raises:
        StoreError: a file cannot be written.
    """
    done = Relocated()
    own = External(str(base), None).id if base is not None else None
    for name in store.names():
        for version in store.versions(name):
            config = _config(version)
            if config is None:
                continue
            before, now = str(config.get(BASE_KEY)), _place(version, config, base, own)
            if now is None:
                done.left.append((version.ref, f"its base was at {before}, where nothing is now: give --base DIR"))
            elif now == before:
                done.right += 1
            elif damaged := version.damage():
                done.left.append((version.ref, damaged[0]))
            else:
                if not dry_run:
                    _write(store.home(name), version, {**config, BASE_KEY: now})
                done.moved.append((version.ref, before, now))
    return done


def misplaced(version: Version) -> str | None:
    """A warning where the path of an adapter's base is wrong, so that only our own loaders find it."""
    config = _config(version)
    if config is None or not os.path.isabs(source := str(config.get(BASE_KEY))):
        return None
    if Path(source).is_dir() and _place(version, config, None, None) in (source, str(Path(source).resolve())):
        return None
    return f"{version.where}: {ADAPTER_CONFIG} has its base at {source}. {MEND}"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the command's own arguments."""
    command.add_argument("--base", type=Path, metavar="DIR", help="where a base outside the data directory is now")
    command.add_argument("--dry-run", action="store_true", help="only say what would be written")


def run(store: Store, args: argparse.Namespace) -> int:
    """Run the command; 1 where the base of an adapter was not found."""
    if args.base is not None and not args.base.is_dir():
        raise ModelError(str(args.base), "no such directory.", "Give the directory of the base.")
    done = relocate(store, args.base, args.dry_run)
    if args.json:
        put_json({"dry_run": args.dry_run, **asdict(done)})
        return int(bool(done.left))
    for ref, before, now in done.moved:
        put(f"{ref}: its base is at {now}, was {before}")
    for ref, why in done.left:
        put(f"left as it is: {ref}: {why}")
    verb = "would be written" if args.dry_run else "written"
    put(f"{len(done.moved)} paths {verb}, {done.right} were right, {len(done.left)} left as they are")
    return int(bool(done.left))


def _config(version: Version) -> dict[str, Any] | None:
    """The config of the adapter in a version; None without a readable one."""
    try:
        config = parse_json((version.path / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return cast("dict[str, Any]", config) if isinstance(config, dict) else None


def _place(version: Version, config: dict[str, Any], base: Path | None, own: str | None) -> str | None:
    """The base that the config should name, a path or Hub id; None where it was not found."""
    stored, source = stored_base(version.path), str(config.get(BASE_KEY))
    if stored is not None:
        return str(stored.path.resolve())
    if not os.path.isabs(source):
        return source
    content = next((m.get("content") for m in version.manifest.models if m.get("role") == "base"), None)
    if base is not None and own == content:
        return str(base.resolve())
    return source if Path(source).is_dir() else None


def _write(home: Path, version: Version, config: dict[str, Any]) -> None:
    aside = home / "refs"  # temporary files are ignored there
    with disk_errors(version.where), locked(home / ".lock"):
        if ADAPTER_CONFIG not in version.manifest.portable:
            # Written by an earlier revision. The file still matches the manifest, so its digest can be added.
            manifest = read_json(version.path / "manifest.json")
            portable = {ADAPTER_CONFIG: adapter_digest(version.path / ADAPTER_CONFIG)}
            text = json.dumps({**manifest, "portable": portable}, ensure_ascii=False, indent=2) + "\n"
            replace_text(version.path / "manifest.json", text, aside)
        replace_text(version.path / ADAPTER_CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n", aside)
        fsync(version.path)
