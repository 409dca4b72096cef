"""The manifest: round trip, and what it refuses to read."""

from __future__ import annotations

import json

import pytest

from pipeline.base.errors import StoreError
from pipeline.store.manifest import (
    SCHEMA_VERSION,
    Code,
    FileEntry,
    Manifest,
    Parent,
    Split,
    code_version,
    environment,
)

SHARD = FileEntry("data/train-00000-of-00001.parquet", "ab" * 32, 10)
FULL = Manifest(
    name="prefs",
    version=3,
    id="cd" * 32,
    kind="preferences",
    stage="collect",
    created_at="2026-01-02T03:04:05Z",
    key="k",
    seed=7,
    parents=[Parent("prompts", 1, "ef" * 32, "prompts")],
    config={"a": {"b": [1, None, "ü"]}},
    config_hash="12" * 32,
    code=Code("0.1.0", "abc", True),
    models=[{"role": "policy", "id": "gpt2"}],
    environment={"python": "3.11"},
    splits={"train": Split(4, 10, [SHARD])},
    files=[SHARD],
    stats={"ties": 0.25},
    governance={"license": "mit", "consent": "yes", "pii": "none"},
    wall_seconds=1.5,
)


def test_round_trip_keeps_everything() -> None:
    # Catches: building splits without their files; forgetting to rebuild Parent or Code from dicts.
    assert Manifest.from_json(FULL.to_json(), "x") == FULL
    assert FULL.ref == "prefs@v000003"


def test_a_newer_schema_is_refused_before_anything_else_is_read() -> None:
    # Catches: `>` turned into `>=` (the round trip fails) or the check moved after the fields.
    text = json.dumps({"schema_version": SCHEMA_VERSION + 1, "everything": "is elsewhere"})
    with pytest.raises(StoreError, match=r"newer version of this package.*Upgrade"):
        Manifest.from_json(text, "data/prefs/versions/v000003")


def test_a_key_from_a_later_minor_change_is_skipped() -> None:
    raw = json.loads(FULL.to_json())
    raw["mood"] = "good"
    assert Manifest.from_json(json.dumps(raw), "x") == FULL


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 0.99])
def test_a_truncated_manifest_is_damaged(share: float) -> None:
    text = FULL.to_json()
    with pytest.raises(StoreError, match="damaged"):
        Manifest.from_json(text[: int(len(text) * share)], "x")


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": None},
        {"version": "3"},
        {"id": None},
        {"parents": {}},
        {"parents": [{"name": "a"}]},
        {"splits": {"train": {"rows": 1}}},
        {"splits": {"train": {"rows": "many", "bytes": 0, "files": []}}},
        {"files": [{"path": 1, "sha256": "x", "bytes": 2}]},
        {"config": []},
        {"stats": 3},
    ],
    ids=lambda change: json.dumps(change)[:40],
)
def test_a_wrong_shape_is_damaged_not_a_traceback(change: dict[str, object]) -> None:
    # Catches: dropping the isinstance check of _build (the wrong values would come out as a Manifest).
    raw = {**json.loads(FULL.to_json()), **change}
    with pytest.raises(StoreError, match="damaged"):
        Manifest.from_json(json.dumps(raw), "x")


@pytest.mark.parametrize("missing", ["name", "version", "id", "kind", "stage", "created_at"])
def test_a_missing_key_is_damaged(missing: str) -> None:
    raw = json.loads(FULL.to_json())
    del raw[missing]
    with pytest.raises(StoreError, match=f"damaged.*{missing}"):
        Manifest.from_json(json.dumps(raw), "x")


@pytest.mark.parametrize("text", ["[]", "3", "null", '"text"'])
def test_json_that_is_no_object_is_damaged(text: str) -> None:
    with pytest.raises(StoreError, match="damaged"):
        Manifest.from_json(text, "x")


def test_environment_and_code_name_what_ran() -> None:
    found = environment("cuda:0 somebody's card")
    assert found["device"] == "cuda:0 somebody's card"
    assert {"python", "pyarrow"} <= set(found)
    assert code_version().version
