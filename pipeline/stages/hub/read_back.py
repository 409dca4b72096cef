"""Read published repositories as others will: by their ids, at a commit, with their libraries alone.

Run in a process of its own, ``python read_back.py JOBS OUT``: it imports nothing of this package.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any


def main(jobs: str, out: str) -> None:
    """Write what each repository gives into the directory ``out``, which has a file of the jobs' number for each.

    Args:
        jobs: a JSON list. A model's job has ``card``, ``repo``, ``commit``, ``rows`` of token ids, a ``text`` and
            ``out``, the file for its logits; a dataset's has ``tables``, pairs of config and split.
    """
    results = [
        _dataset(job) if "tables" in job else _model(job, Path(out) / job["out"]) for job in json.loads(jobs)
    ]
    (Path(out) / "results.json").write_text(json.dumps(results), encoding="utf-8")


def _model(job: dict[str, Any], out: Path) -> dict[str, Any]:
    """The ids of the text; the logits go into ``out``."""
    import torch
    from peft import AutoPeftModelForCausalLM, AutoPeftModelForSequenceClassification
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        "policy": (AutoPeftModelForCausalLM, {}),
        "reward": (AutoPeftModelForSequenceClassification, {"num_labels": 1}),
        "base": (AutoModelForCausalLM, {}),
        "merged policy": (AutoModelForCausalLM, {}),
        "merged reward": (AutoModelForSequenceClassification, {}),
    }
    kind, options = kinds[job["card"]]
    at = {"revision": job["commit"], "trust_remote_code": False}
    model = kind.from_pretrained(job["repo"], dtype=torch.float32, **at, **options).eval()
    with torch.no_grad():
        logits = [model(torch.tensor([row])).logits[0].float().contiguous() for row in job["rows"]]
    save_file({str(i): row for i, row in enumerate(logits)}, out)
    return {"ids": AutoTokenizer.from_pretrained(job["repo"], **at)(job["text"])["input_ids"]}


def _dataset(job: dict[str, Any]) -> dict[str, Any]:
    """A digest of each table's rows, in their order."""
    from datasets import load_dataset

    tables = (
        load_dataset(job["repo"], config, split=split, revision=job["commit"]) for config, split in job["tables"]
    )
    return {"digests": [digest_of(dict(row) for row in table) for table in tables]}


def digest_of(rows: Any) -> str:
    """sha256 over the JSON of each row."""
    whole = hashlib.sha256()
    for row in rows:
        whole.update(json.dumps(row, sort_keys=True, default=str).encode("utf-8", "surrogatepass") + b"\n")
    return whole.hexdigest()


if __name__ == "__main__":
    main(*sys.argv[1:])
