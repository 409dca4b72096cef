"""Rows in Parquet shards: their bytes, order, sizes and schema, shards carried over, and rows that do not fit."""

from __future__ import annotations

import gc
import os
import sys

import pytest

from pipeline.base.errors import DataError
from pipeline.store import parquet
from pipeline.store.store import Store
from tests.helpers.versions import Rows, new, numbered, publish


def test_same_rows_same_bytes(store: Store) -> None:
    a, b = publish(store, numbered(500)), publish(store, iter(numbered(500)))
    # Catches: a timestamp or the version's number in the Parquet metadata.
    assert [p.read_bytes() for p in a.shards()] == [p.read_bytes() for p in b.shards()]


def test_shards_stay_under_the_limit_and_keep_the_order(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "GROUP_ROWS", 50)
    monkeypatch.setattr(parquet, "SHARD_BYTES", 10_000)
    rows = [{"id": os.urandom(32).hex()} for _ in range(1000)]
    v = publish(store, rows)
    names = [p.name for p in v.shards()]
    assert len(names) > 3
    assert names[0] == f"train-00000-of-{len(names):05d}.parquet"
    # The limit is on what is written so far; the footer of a shard comes on top.
    assert all(p.stat().st_size < 10_000 * 1.2 for p in v.shards())
    assert v.rows() == rows


def test_row_groups_and_page_index(store: Store) -> None:
    import pyarrow.parquet as pq

    v = publish(store, numbered(25_000))
    meta = pq.read_metadata(v.shards()[0])
    assert [meta.row_group(i).num_rows for i in range(meta.num_row_groups)] == [10_000, 10_000, 5_000]
    column = meta.row_group(0).column(0)
    assert column.compression == "ZSTD"
    assert column.has_offset_index


def test_carry_links_old_shards_and_writes_only_new_rows(store: Store) -> None:
    a = publish(store, numbered(100))
    with new(store, parents=[(a, "base")]) as draft:
        assert draft.write_rows("train", numbered(5, 100), carry=a) == 105
    b = draft.version
    assert b.rows() == numbered(105)
    # Catches: copying instead of linking; naming carried shards by the old count.
    assert b.shards()[0].stat().st_ino == a.shards()[0].stat().st_ino
    assert [p.name for p in b.shards()] == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    # Catches: leaving the carried rows out of the content id.
    assert b.id == publish(store, numbered(105)).id
    assert b.verify() == a.verify() == []


def test_carry_of_nothing_new(store: Store) -> None:
    a = publish(store, numbered(10))
    with new(store) as draft:
        assert draft.write_rows("train", [], carry=a) == 10
    assert draft.version.id == a.id


def test_carry_refuses_other_columns(store: Store) -> None:
    a = publish(store, numbered(10))
    with pytest.raises(DataError, match=r'"margin" is not in the columns'), new(store) as draft:
        draft.write_rows("train", [{"id": "x", "margin": 1.0}], carry=a)
    with pytest.raises(DataError, match="would carry columns"), new(store) as draft:
        draft.write_rows("train", [], schema={"id": "string"}, carry=a)


def test_an_empty_split_keeps_its_schema(store: Store) -> None:
    import pyarrow.parquet as pq

    with new(store) as draft:
        draft.write_rows("train", [], schema={"prompt": "string", "ids": "list<int32>", "margin": "float64"})
        draft.write_rows("test", [])
        draft.write_rows("train", [], config="votes")
    v = draft.version
    assert v.splits == {"train": 0, "test": 0, "votes/train": 0}
    assert pq.read_schema(v.shards()[0]).names == ["prompt", "ids", "margin"]
    assert pq.read_schema(v.shards("test")[0]).names == ["prompt", "ids", "margin"]
    assert v.shards(config="votes") == []
    assert v.rows() == v.rows(config="votes") == []


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"a": 1}, {"a": "x"}], "no single type"),
        ([{"meta": {}}], "empty mappings"),
        ([{"a": {"b": object()}}], "no single type"),
    ],
)
def test_rows_that_do_not_fit_are_refused(store: Store, rows: Rows, said: str) -> None:
    with pytest.raises(DataError, match=said), new(store) as draft:
        draft.write_rows("train", rows)


def test_nothing_is_dropped_silently(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "GROUP_ROWS", 2)
    late_column = [{"a": 1}, {"a": 2, "b": 3}, {"c": 1}]
    # Catches: the columns of the first row only (no "b"), and pyarrow's silence about "c" and "m.k".
    with (
        pytest.raises(DataError, match=r'row 2: "c" is not in the columns \{a: int64, b: int64\}'),
        new(store) as d,
    ):
        d.write_rows("train", late_column)
    with pytest.raises(DataError, match=r'"m\[\]\.k"'), new(store) as d:
        d.write_rows("train", [{"m": [{"r": 1}]}, {"m": []}, {"m": [{"r": 1, "k": 2}]}])
    with pytest.raises(DataError, match="do not fit"), new(store) as d:
        d.write_rows("train", [{"a": None}, {"a": None}, {"a": 1.5}])


def test_rows_that_fail_halfway_make_no_noise(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "GROUP_ROWS", 10)
    noise: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", noise.append)
    with pytest.raises(DataError), new(store) as draft:
        draft.write_rows("train", [{"a": 1}] * 20 + [{"b": 2}])
    del draft
    gc.collect()
    # Catches: leaving the Parquet writer open in abort; its finaliser then fails on a closed file.
    assert noise == []


def test_shards_are_read_only(store: Store) -> None:
    # An edit in place would reach every version that links to the shard.
    assert publish(store).shards()[0].stat().st_mode & 0o222 == 0


# Seen failing with: pyarrow's read-ahead, which keeps all row groups of a shard until its end.
def test_reading_holds_about_a_row_group(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa

    monkeypatch.setattr(parquet, "GROUP_ROWS", 1000)
    version = publish(store, ({"id": os.urandom(100).hex()} for _ in range(20_000)))
    gc.collect()
    before = pa.total_allocated_bytes()
    held = max(pa.total_allocated_bytes() - before for _ in version.iter_rows("train"))
    assert held < version.shards()[0].stat().st_size / 2
