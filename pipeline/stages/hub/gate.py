"""Compare what a fresh process reads of published repositories with the versions that they were made from."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.base.errors import ModelError, StoreError
from pipeline.modeling.loading import load_causal_lm, load_classifier, load_tokenizer, silent
from pipeline.modeling.other_engines.merging import TOLERANCE, distance_of, logits_of, sample_rows
from pipeline.stages.hub import read_back
from pipeline.stages.hub.artefacts import Artefact
from pipeline.stages.hub.contents import PRIVATE_COLUMNS
from pipeline.workflow.relocate import named_base

TEXT = "One text, 2 numbers (3.14) and a line\nbreak."


@dataclass
class Compared:
    """What the gate saw: the largest difference of logits, and the number of models and of tables."""

    difference: float = 0.0
    models: int = 0
    tables: int = 0


def pass_gate(artefacts: Sequence[Artefact], commits: Mapping[str, str]) -> Compared:
    """Download each repository at its commit in a fresh process, into an empty cache, and compare.

    Raises:
        ModelError: a model cannot be read, or its logits or its tokenizer are others than the version's.
        StoreError: a dataset's rows are others than the version's.
    """
    done = Compared()
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory)
        models = {a.repo: _Local(a) for a in artefacts if a.type == "model"}
        jobs = [
            {
                "repo": a.repo,
                "commit": commits[a.repo],
                **(models[a.repo].job(f"{n}.safetensors") if a.type == "model" else {"tables": tables_of(a)}),
            }
            for n, a in enumerate(artefacts)
        ]
        results = in_fresh_process(jobs, out)
        for n, (artefact, read) in enumerate(zip(artefacts, results, strict=True)):
            if artefact.type == "dataset":
                done.tables += _compare_rows(artefact, read)
                continue
            difference = models[artefact.repo].compare(out / f"{n}.safetensors", read)
            done.difference, done.models = max(done.difference, difference), done.models + 1
    return done


class _Local:
    """A model of this machine: its logits and tokenizer, computed from the version's own files."""

    def __init__(self, artefact: Artefact) -> None:
        self.artefact = artefact
        self.model, self.tokenizer = _load(artefact)
        self.rows = sample_rows(self.model.config.vocab_size, self.tokenizer.pad_token_id)
        self.logits: list[Tensor] = logits_of(self.model, self.rows)
        self.model = None  # of several models one is in memory at a time

    def job(self, out: str) -> dict[str, Any]:
        return {"card": self.artefact.card, "rows": self.rows, "text": TEXT, "out": out}

    def compare(self, file: Path, read: Mapping[str, Any]) -> float:
        """The largest difference of logits.

        Raises:
            ModelError: it is larger than rounding, or the tokenizer is another.
        """
        from safetensors.torch import load_file

        logits = load_file(file)
        where = self.artefact.repo
        mend = "It has no tag, and nobody is told of it. Run again; if it stays so, this is a bug."
        if [len(row) for row in self.logits] != [len(logits[str(i)]) for i in range(len(self.logits))]:
            raise ModelError(where, "read again by its id, its logits have another shape.", mend)
        distance = distance_of([logits[str(i)] for i in range(len(self.rows))], self.logits)
        if not distance <= TOLERANCE:
            raise ModelError(where, f"read again by its id, its logits are {distance:.2g} apart.", mend)
        if read["ids"] != self.tokenizer(TEXT)["input_ids"]:
            raise ModelError(where, "read again by its id, its tokenizer gives other ids.", mend)
        return distance


def _load(artefact: Artefact) -> tuple[Any, Any]:
    path = artefact.version.path
    if not artefact.is_adapter:
        model: Any = load_classifier(str(path)) if artefact.scores else load_causal_lm(str(path))
        return model.float().eval(), load_tokenizer(str(path))
    from peft import PeftModel

    source, revision = named_base(path)
    base: Any = (load_classifier if artefact.scores else load_causal_lm)(source, revision)
    with silent():
        return PeftModel.from_pretrained(base.float(), str(path)).eval(), load_tokenizer(source, revision)


def tables_of(artefact: Artefact) -> list[tuple[str, str]]:
    """Config and split of the tables that have rows; ``datasets`` opens no empty one."""
    splits = artefact.version.manifest.splits.items()
    keys = [key.rpartition("/") for key, split in splits if split.rows]
    return [(config or "default", split) for config, _, split in keys]


def _compare_rows(artefact: Artefact, read: Mapping[str, Any]) -> int:
    version = artefact.version
    for (config, split), digest in zip(tables_of(artefact), read["digests"], strict=True):
        rows = (
            {key: None if key in PRIVATE_COLUMNS else value for key, value in row.items()}
            for row in version.iter_rows(split, config)
        )
        if read_back.digest_of(rows) != digest:
            fact = f"read again by its id, the rows of {config}/{split} are others."
            raise StoreError(artefact.repo, fact, "It has no tag. Run again; if it stays so, this is a bug.")
    return len(read["digests"])


def in_fresh_process(jobs: list[dict[str, Any]], out: Path) -> list[dict[str, Any]]:
    """The results of :func:`pipeline.stages.hub.read_back.main`, by a process with an empty cache.

    Raises:
        ModelError: it ended with an error.
    """
    hf: Any = importlib.import_module("huggingface_hub")
    endpoint = importlib.import_module("huggingface_hub.constants").ENDPOINT
    places = {f"HF_{name.upper()}_CACHE": name for name in ("hub", "datasets", "xet", "modules")}
    env = {key: value for key, value in os.environ.items() if key not in ("HF_HUB_OFFLINE", "PYTHONPATH")}
    env |= {"HF_ENDPOINT": endpoint, **{key: str(out / "cache" / name) for key, name in places.items()}}
    if (token := hf.get_token()) is not None:
        env["HF_TOKEN"] = token
    command = [sys.executable, str(read_back.__file__), json.dumps(jobs), str(out)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env, cwd=out)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no message"])[-1][:300]
        mend = "It has no tag, and nobody is told of it. Run again; if it stays so, this is a bug."
        raise ModelError(", ".join(job["repo"] for job in jobs), f"cannot be read again by its id ({why}).", mend)
    return json.loads((out / "results.json").read_text(encoding="utf-8"))
