"""The card of a version with rows: `load_dataset` opens it, and its features are those datasets would write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.store.store import Store, Version
from tests.helpers.versions import new, numbered


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")

    def call(version: Version, *args: Any) -> Any:
        return datasets.load_dataset(str(version.path), *args, cache_dir=str(tmp_path / "cache"))

    return call


def test_load_dataset_opens_a_version(store: Store, load: Any) -> None:
    rows = [
        {"id": str(i), "messages": [{"role": "user", "content": "ü"}], "ids": [1, 2], "ok": True, "margin": None}
        for i in range(3)
    ]
    schema = {"id": "string", "ids": "list<int32>", "ok": "bool", "margin": "float64"}
    with new(store, governance={"license": "apache-2.0"}) as draft:
        draft.write_rows("train", rows)
        draft.write_rows("test", rows[:1])
        draft.write_rows("train", [{"id": "a", "margin": 0.5}] * 2, config="votes", schema=schema)
        draft.write_rows("test", [], config="votes")
        (draft.path / "metrics.jsonl").write_text('{"loss": 1}\n')
    default, votes = load(draft.version), load(draft.version, "votes")
    # Catches: a wrong num_examples in the card (datasets then raises), a glob that also takes other files.
    assert {k: len(d) for k, d in default.items()} == {"train": 3, "test": 1}
    assert default["train"].to_list() == rows
    assert {k: len(d) for k, d in votes.items()} == {"train": 2}
    assert votes["train"].features["ids"].feature.dtype == "int32"


# Catches: the word `list` for a large list, which datasets then reads as another type.
def test_the_card_says_what_datasets_would_say(store: Store) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    import yaml

    datasets = pytest.importorskip("datasets")
    row = {"a": 1, "b": 0.5, "c": "x", "d": [1], "e": [[{"f": 1}]], "g": {"h": [True]}, "i": None, "j": b"x"}
    large = pa.schema(
        {"k": pa.large_list(pa.int32()), "l": pa.list_(pa.large_list(pa.struct({"m": pa.string()})))}
    )
    with new(store) as draft:
        draft.write_rows("train", [{"id": "1", **row}])
        draft.write_rows("train", [{"k": [1], "l": [[{"m": "x"}]]}], config="large", schema=large)
    v = draft.version
    front = yaml.safe_load((v.path / "README.md").read_text().split("---")[1])
    for info, config in zip(front["dataset_info"], ("default", "large"), strict=True):
        written = datasets.Features.from_arrow_schema(pq.read_schema(v.shards(config=config)[0]))
        assert info["features"] == written._to_yaml_list()
    assert front["size_categories"] == ["n<1K"]
    assert front["license"] == "unknown"


@pytest.mark.parametrize("kind", ["adapter", "model", "evaluation", "report"])
def test_a_card_without_rows(store: Store, kind: str) -> None:
    with new(store, kind, kind=kind) as draft:
        (draft.path / "report.html").write_text("x")
    text = (draft.version.path / "README.md").read_text()
    assert text.startswith("---\nlicense: unknown\ntags:\n")
    assert "configs" not in text


def test_a_card_of_ones_own_is_kept(store: Store) -> None:
    with new(store) as draft:
        draft.write_rows("train", numbered(1))
        (draft.path / "README.md").write_text("mine")
    assert (draft.version.path / "README.md").read_text() == "mine"
