"""The work key of a stage whose input was replaced, from its manifest alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipeline.erasure.rekey import key_with
from pipeline.store.manifest import FileEntry, Manifest
from pipeline.workflow.work_key import manifest_fingerprint, work_key


def preferences(id: str) -> Manifest:
    files = [FileEntry(f"data/{id}.parquet", f"hash of {id}", 1)]
    return Manifest("x-preferences", 1, id, "preferences", "collect", "", files=files)


OLD, NEW = preferences("old"), preferences("new")
LEARNING = {"task": "reviews", "seed": 0, "reward": {"max_steps": 4}}
BASE = {"role": "base", "id": "org/tiny", "content": "weights"}


def reward(**more: Any) -> Manifest:
    inputs = {"preferences": manifest_fingerprint(OLD), "base": ["weights"]}
    made = {"config": {"name": "x", **LEARNING}, "models": [BASE], "key": work_key("reward", inputs, LEARNING, [])}
    return Manifest("x-reward", 1, "r", "adapter", "reward", "", **{**made, **more})


# Mutation caught: the key of before, so that the stage does its work again.
def test_it_is_the_key_of_the_same_work_on_the_replacement() -> None:
    inputs = {"preferences": manifest_fingerprint(NEW), "base": ["weights"]}
    key = key_with(reward(), {"preferences": OLD}, {"preferences": NEW})
    assert key == work_key("reward", inputs, LEARNING, []) != reward().key


# Mutation caught: comparisons that a stage made counted as its input.
def test_comparisons_of_its_own_are_no_input() -> None:
    own = replace(OLD, name="x-comparisons")
    assert key_with(reward(), {"preferences": OLD, "comparisons": own}, {"preferences": OLD}) == reward().key


def test_a_key_that_the_manifest_does_not_explain_is_not_guessed() -> None:
    assert key_with(reward(key=None), {"preferences": OLD}, {"preferences": NEW}) is None
    # A local file that the settings name is part of the key, and is not in the manifest.
    inputs = {"preferences": manifest_fingerprint(OLD), "base": ["weights"]}
    with_file = reward(key=work_key("reward", inputs, LEARNING, ["sha256 of a file"]))
    assert key_with(with_file, {"preferences": OLD}, {"preferences": NEW}) is None
