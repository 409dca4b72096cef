"""Where a text is left below a directory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pipeline.store.parquet import read_batches


def contents(root: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file's name and bytes, Parquet decoded; of a database every page, free ones too."""
    for path in sorted(root.rglob("*")):
        content = str(path.relative_to(root)).encode()
        if path.is_file():
            content += path.read_bytes()
            if path.suffix == ".parquet":
                rows = [r for b in read_batches([path], "test") for r in b.to_pylist()]
                content += json.dumps(rows, ensure_ascii=False).encode()
        yield path, content


def holding(root: Path, text: str) -> list[str]:
    """The paths whose name or content has ``text``."""
    return [str(path.relative_to(root)) for path, content in contents(root) if text.encode() in content]
