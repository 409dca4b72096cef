"""What each stage writes is on record, so that no change of it leaves users with old work that counts as done.

``output_formats.json`` describes the outputs of the mini run stage by stage: names of files, tensors, statistics
and metrics, schemas, some rows (a digest of each, floats left out) and numbers. The test says what to do where
they differ; ``RENEW=1`` in its environment writes the record.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterator
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, TypeGuard

import pyarrow.parquet as pq
import pytest
from safetensors import safe_open

from pipeline.base.records import digest
from pipeline.store.version import Version
from pipeline.workflow import work_key
from pipeline.workflow.experiment import STAGES
from pipeline.workflow.graph import GRAPH
from tests.stages.conftest import MINI, Project

RECORD = Path(__file__).with_name("output_formats.json")
ROWS = 12
TIMED = re.compile(r"second|minutes|runtime|\beps\b")
"""Parts of the names of metrics that depend on how fast the machine is."""
CLOSE, SMALL = 0.05, 0.005
"""Numbers are equal within this share, or this much: one float that is apart may end in another token."""

ADVICE = """{changes}

`{stage}` writes something else than on record. Where the new output is meant, raise FORMATS["{stage}"] in
pipeline/workflow/work_key.py, so that finished work of the old kind is done again. Leave it where that work is as
good as new: a statistic was added that nothing reads, the mini run's settings changed, or it is an earlier stage
that writes something else. Then write the record: RENEW=1 python -m pytest {file}
"""


def description(version: Version) -> dict[str, Any]:
    """What is to be recorded of a version."""
    files = {p: version.path / p for p in (f.path for f in version.manifest.files)}
    shards = [p for p in files if p.endswith(".parquet")]
    tables = {p: pq.read_table(files[p]) for p in shards}
    return {
        "files": sorted(files),
        "schemas": {p: {f.name: str(f.type) for f in t.schema} for p, t in tables.items()},
        "rows": {p: [row_digest(r) for r in t.slice(0, ROWS).to_pylist()] for p, t in tables.items()},
        "tensors": {p: tensors(files[p]) for p in files if p.endswith(".safetensors")},
        "stats": numbers([version.manifest.stats]),
        "metrics": numbers(json_lines(files.get("metrics.jsonl"))),
        "models": [m["role"] for m in version.manifest.models],
        "means": {p: means(t.to_pylist()) for p, t in tables.items()},
    }


def row_digest(row: dict[str, Any]) -> str:
    return digest([[k, v] for k, v in sorted(row.items()) if not any(isinstance(x, float) for _, x in leaves(v))])[
        :12
    ]


def tensors(path: Path) -> list[str]:
    with safe_open(path, "np") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return [f"{name} {s.get_dtype()} {s.get_shape()}" for name, s in sorted(slices.items())]


def json_lines(path: Path | None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path is not None else []


def numbers(rows: list[dict[str, Any]]) -> dict[str, list[float | None]]:
    """Of each name in the rows its number in each; nothing where it is a time or no number."""
    flat = [dict(leaves(row)) for row in rows]
    values = {name: [row.get(name) for row in flat] for name in sorted({name for row in flat for name in row})}
    return {
        name: [rounded(v) if is_number(v) else None for v in found] if not TIMED.search(name) else []
        for name, found in values.items()
    }


def is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def rounded(value: float) -> float:
    return float(f"{value:.4g}")


def means(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The mean of each column of floats."""
    columns = {name: [r[name] for r in rows if isinstance(r[name], float)] for name in rows[0]}
    return {name: rounded(sum(values) / len(values)) for name, values in columns.items() if values}


def leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values by their dotted names; those in lists have the list's."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{prefix}{key}.")
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, prefix)
    else:
        yield prefix.removesuffix("."), value


def spelled(value: Any, depth: int = 0) -> str:
    """JSON in lines that a diff can show: one for each kind of thing about a version."""
    if depth == 4 or not isinstance(value, dict):
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
    lines = [
        f"{' ' * depth} {json.dumps(key)}: {spelled(inner, depth + 1)}" for key, inner in sorted(value.items())
    ]
    return "{\n" + ",\n".join(lines) + "\n" + " " * depth + "}"


def differences(old: Any, new: Any, where: str, exact: bool) -> list[str]:
    """Where two descriptions differ.

    Args:
        exact: numbers are compared, too, as both were computed by the same torch on the same kind of machine.
    """
    if where.endswith("/rows"):
        apart = sum(a != b for p in old.keys() & new.keys() for a, b in zip(old[p], new[p], strict=False))
        return (
            [f"{where}: {apart} of {sum(map(len, old.values()))}"]
            if 2 * apart > sum(map(len, old.values()))
            else []
        )
    if isinstance(old, dict) and isinstance(new, dict):
        changes = [
            f"{where}: {key} is {'new' if key in new else 'gone'}" for key in sorted(old.keys() ^ new.keys())
        ]
        for key in sorted(old.keys() & new.keys()):
            changes += differences(old[key], new[key], f"{where}/{key}", exact)
        return changes
    if isinstance(old, list) and isinstance(new, list) and all(v is None or is_number(v) for v in old + new):
        if len(old) != len(new):
            return [f"{where}: {len(old)} values, now {len(new)}"]
        return [change for a, b in zip(old, new, strict=True) for change in differences(a, b, where, exact)][:1]
    if isinstance(old, list) and isinstance(new, list):
        changed = [f"- {x}" for x in old if x not in new] + [f"+ {x}" for x in new if x not in old]
        return [f"{where}: {', '.join(changed) or 'another order'}"] if old != new else []
    if is_number(old) and is_number(new):
        same = not exact or abs(old - new) <= max(SMALL, CLOSE * abs(old))
        return [] if same else [f"{where}: {old:.4g}, now {new:.4g}"]
    return [] if old == new else [f"{where}: {old}, now {new}"]


@pytest.fixture(scope="module")
def outputs(finished: Project) -> dict[str, Any]:
    return {
        "settings": digest(MINI),
        "numbers_of": f"torch {installed('torch')}, {platform.machine()}",
        "formats": {s: work_key.FORMATS[s] for s in STAGES},
        "stages": {s: {r: description(finished.latest(r)) for r in GRAPH[s].outputs} for s in STAGES},
    }


# Seen failing with each of: a statistic renamed, advantages not whitened, another seed of the sampling.
@pytest.mark.parametrize("stage", STAGES)
def test_outputs_are_as_recorded(outputs: dict[str, Any], stage: str) -> None:
    if os.environ.get("RENEW"):
        RECORD.write_text(spelled(outputs) + "\n", encoding="utf-8")
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    exact = record["numbers_of"] == outputs["numbers_of"] and record["settings"] == outputs["settings"]
    changes = differences(record["stages"][stage], outputs["stages"][stage], stage, exact)
    if record["formats"][stage] != outputs["formats"][stage]:
        changes.append(f"FORMATS: {record['formats'][stage]}, now {outputs['formats'][stage]}")
    if changes:
        file = Path(__file__).relative_to(Path(__file__).parents[2])
        pytest.fail(ADVICE.format(changes="\n".join(changes[:20]), stage=stage, file=file), pytrace=False)
