"""The graph of stages: keys change with what is learnt from, and with nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.core.config import STAGES, load_config
from pipeline.core.errors import StoreError
from pipeline.core.stage import GRAPH, External, Planner, fingerprint, local_files
from pipeline.core.store import Store


def planner(tmp_path: Path, text: str) -> Planner:
    path = tmp_path / "x.yaml"
    path.write_text("name: x\ntask: reviews\n" + text)
    return Planner(load_config(path), Store(tmp_path / "data"))


def test_every_input_is_somebodys_output():
    made = [role for node in GRAPH.values() for role in node.outputs]
    assert tuple(GRAPH) == STAGES
    assert len(made) == len(set(made))
    for i, stage in enumerate(STAGES):
        earlier = [role for s in STAGES[:i] for role in GRAPH[s].outputs]
        assert set(GRAPH[stage].inputs) <= set(earlier)


def test_a_missing_input_names_the_command(tmp_path: Path):
    with pytest.raises(StoreError, match="Run: make sft CONFIG="):
        planner(tmp_path, "").plan("reward")


def test_keys_depend_on_settings_seed_and_local_files(tmp_path: Path):
    data = tmp_path / "texts.jsonl"
    data.write_text("one\n")
    text = f"task_args: {{dataset: {data}}}\n"
    first = planner(tmp_path, text).plan("sft").key
    assert planner(tmp_path, text).plan("sft").key == first
    assert planner(tmp_path, text + "sft: {report_to: none}\n").plan("sft").key == first
    assert planner(tmp_path, text + "ppo: {kl_coef: 1}\n").plan("sft").key == first
    assert planner(tmp_path, text + "seed: 1\n").plan("sft").key != first
    assert planner(tmp_path, text + "sft: {max_steps: 1}\n").plan("sft").key != first
    data.write_text("two\n")
    # Mutation caught: a key over the file's name only, so that an edited file is "up to date".
    assert planner(tmp_path, text).plan("sft").key != first


def test_local_files_of_a_directory(tmp_path: Path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.jsonl").write_text("1")
    before = local_files({"x": [str(tmp_path / "d")], "y": 3, "z": "no/such/file"})
    (tmp_path / "d" / "b.jsonl").write_text("2")
    assert len(before) == 1
    assert len(local_files({"x": [str(tmp_path / "d")]})) == 2


def test_an_external_base_is_known_by_its_weights(tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(b"abc")
    first = External(str(tmp_path), None).id
    (tmp_path / "model.safetensors").write_bytes(b"abd")
    assert External(str(tmp_path), None).id != first
    assert External("org/name", "v1").id != External("org/name", "v2").id


def test_a_changed_margin_is_new_work(tmp_path: Path):
    """A row's id covers its texts; what depends on the row depends on its other columns too."""
    store = Store(tmp_path / "data")
    found: list[list[str]] = []
    for margin in (1.0, 2.0):
        with store.draft("x", kind="preferences", stage="collect") as draft:
            draft.write_rows("train", [{"id": "a", "margin": margin}])
        found.append(fingerprint(draft.version))
    assert found[0] != found[1]


def test_a_base_may_be_a_version(tmp_path: Path):
    store = Store(tmp_path / "data")
    with store.draft("small", kind="model", stage="sft") as draft:
        (draft.path / "model.safetensors").write_bytes(b"abc")
    plan = planner(tmp_path, "base_model: small@v1\n").plan("collect")
    assert plan.version("base").ref == "small@v000001"
    assert plan.base == (str(draft.version.path), None)
