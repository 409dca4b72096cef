"""The content id: equal for the same rows or weights, whatever their order, shards and other files."""

from __future__ import annotations

import hashlib
import random
import time

import pytest

from pipeline.store import content_id, parquet
from pipeline.store.store import Store
from tests.helpers.versions import new, numbered, publish


def test_the_content_id_ignores_order_shards_and_text_files(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = numbered(30)
    a = publish(store, rows)
    monkeypatch.setattr(parquet, "GROUP_ROWS", 4)
    monkeypatch.setattr(parquet, "SHARD_BYTES", 1)
    with new(store, config={"else": 1}) as draft:
        draft.write_rows("train", rows[::-1])
        (draft.path / "metrics.jsonl").write_text(f'{{"took": {time.time()}}}')
    b = draft.version
    assert len(b.shards()) == 8
    # Catches: not sorting the ids; hashing the manifest's files; hashing the config.
    assert a.id == b.id
    assert publish(store, rows[:-1]).id != a.id
    # Catches: a set instead of a list of ids.
    assert publish(store, [*rows, rows[0]]).id != a.id


# Mutations caught: ids that are not sorted; ids compared as text, which ends at a zero; a run that is left out, or
# merged by its order of writing; the last run forgotten where it is empty.
@pytest.mark.parametrize("run", [1, 7, 41, 205, 10**6])
def test_the_digest_of_rows_is_that_of_their_sorted_ids(run: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_id, "RUN", run)
    draw = random.Random(0)
    ids = [draw.randbytes(32) for _ in range(200)]
    ids += [
        b"\x01" + bytes(31),
        b"\x01" + bytes(30) + b"\x01",
        bytes(32),
        b"\x01\x00\x02" + bytes(29),
        b"\xff" * 32,
    ]
    draw.shuffle(ids)
    monkeypatch.setattr(content_id, "row_keys", lambda batch, where: batch)
    rows = content_id.RowIds()
    for batch in (ids[:70], ids[70:]):
        rows.add(batch, "here")
    assert rows.digest() == hashlib.sha256(b"".join(sorted(ids))).hexdigest()
    assert content_id.RowIds().digest() == hashlib.sha256(b"").hexdigest()


def test_the_content_id_tells_splits_apart(store: Store) -> None:
    with new(store) as draft:
        draft.write_rows("test", numbered(3))
    assert draft.version.id != publish(store, numbered(3)).id


def test_rows_without_an_id_are_told_apart_by_all_they_hold(store: Store) -> None:
    rows = [{"x": 1, "y": "a"}, {"x": 2, "y": "b"}]
    a, b = publish(store, rows), publish(store, rows[::-1])
    c = publish(store, [{"x": 1, "y": "a"}, {"x": 2, "y": "c"}])
    assert a.id == b.id != c.id


def test_weights_make_the_id_of_a_model(store: Store) -> None:
    def model(weights: bytes, config: str, metrics: str = "") -> str:
        with new(store, "adapter", kind="adapter", stage="ppo") as draft:
            (draft.path / "adapter_model.safetensors").write_bytes(weights)
            (draft.path / "adapter_config.json").write_text(config)
            (draft.path / "training_args.bin").write_text(config)
            (draft.path / "metrics.jsonl").write_text(metrics)
        return draft.version.id

    # Catches: hashing every file of a model (adapter_config.json holds the path of the base model).
    assert model(b"w", "/home/a/gpt2") == model(b"w", "/home/b/gpt2", "{}")
    assert model(b"w", "") != model(b"v", "")


def test_a_report_is_what_its_files_are(store: Store) -> None:
    def report(text: str) -> str:
        with new(store, "report", kind="report", stage="report") as draft:
            (draft.path / "report.html").write_text(text)
        return draft.version.id

    assert report("a") == report("a") != report("b")
