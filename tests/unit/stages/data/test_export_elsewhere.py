"""Other people's readers take what we export: ``datasets``, TRL, Argilla's SDK, Label Studio's converter.

The last two are not among the dependencies: RLHF_TOOLS_PYTHON names the Python of an environment that has
``argilla`` (seen with 2.8.0) and ``label-studio-sdk`` (2.1.2).
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.records import PREFERENCES, Comparison, row_id
from pipeline.formats.detect import JudgedRow, Reading, parse_rows
from pipeline.formats.writing import ALL_OR_NO_MARGINS, ExportFormat
from pipeline.sources.row_files import read_file
from pipeline.stages.data.export import export
from pipeline.store.store import Store, Version
from tests.conftest import tiny_gpt2, tiny_tokenizer

pytestmark = pytest.mark.slow

SOMEBODY = "p_00000000aa"
LONG = " and so on" * 25


def preferences(root: Path, n: int, margin: Any, words: str = LONG) -> Version:
    """``margin`` makes that of row i."""

    def row(i: int) -> dict[str, Any]:
        prompt, chosen, rejected = f"w{i % 50} w1", f" w2 w{i % 7} {i}{words}", f" w3 w{i % 5} {i}{words}"
        ids = {"id": row_id(prompt, chosen, rejected), "comparison_id": Comparison(prompt, chosen, rejected).id}
        texts = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
        return {**ids, **texts, "margin": margin(i), "annotator": SOMEBODY if i % 2 else "oracle"}

    governance = {"consent": "not needed: no person annotated here"}
    with Store(root / "data").draft("x", kind="preferences", stage="collect", governance=governance) as draft:
        draft.write_rows("train", (row(i) for i in range(n)), schema=PREFERENCES)
    return draft.version


def exported(root: Path, version: Version, format: ExportFormat) -> Path:
    out = root / f"{format}.{'json' if format in ('argilla', 'label_studio') else 'jsonl'}"
    export(Store(root / "data"), version, out, format)
    return out


MARGINS = {
    "none": lambda i: None,
    "all": lambda i: float(i % 3),
    "whole numbers first": lambda i: float(i) if i < 30_000 else 0.5,
    # The first ten megabytes, which load_dataset reads for the columns, have none.
    "late": lambda i: None if i < 30_000 else 0.5,
}


@pytest.mark.parametrize("margins", MARGINS)
@pytest.mark.parametrize("format", sorted(ALL_OR_NO_MARGINS))
def test_load_dataset_takes_twenty_megabytes(tmp_path: Path, format: ExportFormat, margins: str) -> None:
    import datasets

    n = 36_000
    out = exported(tmp_path, preferences(tmp_path, n, MARGINS[margins]), format)
    assert out.stat().st_size > 20e6
    loaded = datasets.load_dataset("json", data_files=str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(loaded) == n
    assert ("margin" in loaded.column_names) is (margins in ("all", "whole numbers first"))
    if "margin" in loaded.column_names:
        assert loaded[n - 1]["margin"] == MARGINS[margins](n - 1)


@pytest.mark.parametrize("margins", ["none", "all", "late"])
def test_trl_trains_on_it(tmp_path: Path, margins: str) -> None:
    import datasets
    from transformers import AutoModelForSequenceClassification
    from trl import RewardConfig, RewardTrainer

    tiny_gpt2().save_pretrained(tmp_path / "base")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=1)
    late = {**MARGINS, "late": lambda i: None if i < 8 else 0.5}
    out = exported(tmp_path, preferences(tmp_path, 16, late[margins], ""), "trl")
    rows = datasets.load_dataset("json", data_files=str(out), split="train", cache_dir=str(tmp_path / "cache"))
    args = RewardConfig(
        output_dir=str(tmp_path / "run"),
        per_device_train_batch_size=4,
        max_steps=4,
        bf16=False,
        use_cpu=True,
        report_to=[],
        gradient_checkpointing=False,
    )
    trainer = RewardTrainer(model=model, args=args, train_dataset=rows, processing_class=tiny_tokenizer())
    assert trainer.train().global_step == 4
    assert len(trainer.train_dataset) == 16


@pytest.fixture
def python() -> str:
    found = os.environ.get("RLHF_TOOLS_PYTHON")
    if not found:
        pytest.skip("RLHF_TOOLS_PYTHON names no Python with argilla and label-studio-sdk")
    return found


def run(python: str, code: str, *args: Path) -> None:
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-c", code, *map(str, args)], env=clean, check=False, capture_output=True, text=True
    )
    if "ModuleNotFoundError" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stderr


def read(path: Path) -> list[tuple[Any, ...]]:
    found = [one for place, row in read_file(path) for one in parse_rows(row, "auto", place, Reading(salt="s"))]
    rows = [
        (one.prompt, one.chosen, one.rejected, one.margin, one.annotator)
        for one in found
        if isinstance(one, JudgedRow)
    ]
    assert len(rows) == len(found)
    return rows


ARGILLA = """
import json, sys
from types import SimpleNamespace
from unittest.mock import MagicMock
import argilla
from argilla.records import Record
from argilla.records._io import GenericIO
labels = ["response1", "response2", "tie", "both_bad"]
question = argilla.LabelQuestion(name="preference", labels=labels, client=MagicMock())
schema = {name: SimpleNamespace(type="text") for name in ("prompt", "response1", "response2")}
dataset = SimpleNamespace(settings=SimpleNamespace(questions={"preference": question}, schema=schema))
records = [Record.from_dict(row, dataset=dataset) for row in json.load(open(sys.argv[1]))]
for record in records:
    record.api_model().model_dump(mode="json")  # what is sent to the server
json.dump(GenericIO.to_list(records, flatten=True), open(sys.argv[2], "w"))
"""


def test_argilla_s_sdk_takes_it_and_its_table_comes_back(tmp_path: Path, python: str) -> None:
    out = exported(tmp_path, preferences(tmp_path, 20, lambda i: i / 2 if i % 3 else None, ""), "argilla")
    run(python, ARGILLA, out, tmp_path / "flat.json")
    back = read(tmp_path / "flat.json")
    assert back == read(out)
    assert {row[-1] for row in back} == {SOMEBODY, None}
    assert {row[-2] for row in back} >= {None, 0.5}


CONVERTER = """
import json, sys
from label_studio_sdk.converter import Converter
from label_studio_sdk.label_interface import LabelInterface
source, config, kept, tables = sys.argv[1:]
xml = open(config).read()
LabelInterface(xml).validate()
tasks = json.load(open(source))
times = {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", "lead_time": 1.0}
for i, task in enumerate(tasks):  # as the server has them after the import
    task["id"] = i
    for annotation in task["annotations"]:
        annotation.update(id=i, completed_by={"id": 1, "email": "a@b.c"}, was_cancelled=False, **times)
json.dump(tasks, open(kept, "w"))
for kind in ("JSON_MIN", "CSV"):
    Converter(xml, None).convert(kept, f"{tables}/{kind}", kind, is_dir=False)
"""


def test_label_studio_s_converter_takes_it_and_its_tables_come_back(tmp_path: Path, python: str) -> None:
    out = exported(tmp_path, preferences(tmp_path, 20, lambda i: i / 2 if i % 3 else None, ""), "label_studio")
    run(python, CONVERTER, out, Path(f"{out}.xml"), tmp_path / "kept.json", tmp_path)
    assert read(tmp_path / "kept.json") == read(out)
    for table in ("JSON_MIN/result.json", "CSV/result.csv"):
        # Whose account imported it is all that these say of people.
        assert [row[:-1] for row in read(tmp_path / table)] == [row[:-1] for row in read(out)]
    assert json.loads(out.read_text())[0]["annotations"][0]["result"][0]["to_name"] == "comparison"
