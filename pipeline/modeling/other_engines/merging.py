"""Merge an adapter into its base, and compare what a fresh process reads of it with the adapter."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from pipeline.base.errors import ModelError, first_line
from pipeline.modeling.loading import load_causal_lm, load_classifier, load_tokenizer, save_model, silent
from pipeline.modeling.tokens import pad_id
from pipeline.modeling.types import Tokenizer

Kind = Literal["policy", "reward"]

TOLERANCE = 1e-4
"""The largest difference of logits in fp32, relative to the largest logit where that is over 1."""
LENGTHS = (3, 7, 12, 24)

READ_AGAIN = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
from safetensors.torch import save_file

directory, kind, rows, out = sys.argv[1:]
cls = AutoModelForCausalLM if kind == "policy" else AutoModelForSequenceClassification
model = cls.from_pretrained(directory, dtype=torch.float32, use_safetensors=True, trust_remote_code=False).eval()
with torch.no_grad():
    logits = [model(torch.tensor([row])).logits[0].contiguous() for row in json.loads(rows)]
save_file({str(i): row for i, row in enumerate(logits)}, out)
"""
"""It uses no code of ours: what counts is what others will read."""


@dataclass(frozen=True)
class Merged:
    """What was written, and how far its logits are from the adapter's.

    Attributes:
        difference: the largest difference of the merged weights in fp32.
        rounding: the largest difference after they were rounded to the base's dtype and read again.
        effect: the largest difference between base and adapter: what the merge had to bring.
    """

    dtype: str
    difference: float
    rounding: float
    effect: float


def merge(kind: Kind, adapter: Path, base: str, revision: str | None, directory: Path) -> Merged:
    """Write the adapter in ``adapter``, merged into its base, into ``directory`` in the base's dtype.

    A policy becomes a causal language model; a reward model a sequence classifier of one label, whose raw score
    every loader returns.

    Raises:
        ModelError: base and adapter do not fit, or the merged model does not compute what the adapter does.
    """
    from peft import PeftModel

    where = str(adapter)
    tokenizer = load_tokenizer(base, revision)
    whole = load_causal_lm(base, revision)
    dtype = whole.dtype
    plain: Any = whole.float() if kind == "policy" else load_classifier(base, revision).eval()
    plain.config.pad_token_id = pad_id(tokenizer)
    rows = sample_rows(plain.config.vocab_size, plain.config.pad_token_id)
    before = logits_of(plain, rows)
    try:
        with silent():
            model: Any = PeftModel.from_pretrained(plain, str(adapter)).eval()
    except Exception as err:  # a damaged adapter can raise anything
        raise ModelError(where, f"does not fit its base ({first_line(err)}).", "Train it again.") from err
    if model.active_peft_config.is_prompt_learning:
        raise ModelError(where, "cannot be merged: it is a learnt prompt, not weights.", "Use it with PEFT alone.")
    expected = logits_of(model, rows)
    effect = distance_of(before, expected)
    try:
        with torch.no_grad():
            merged: Any = model.merge_and_unload()
    except (RuntimeError, ValueError, NotImplementedError) as err:  # a bias that the base's layers lack, Lily
        raise ModelError(where, f"cannot be merged: {first_line(err)}", "Use it with PEFT alone.") from err
    difference = distance_of(logits_of(merged, rows), expected)
    if difference > TOLERANCE:
        raise ModelError(where, f"merged, its logits are {difference:.2g} apart from the adapter's.")
    _describe(kind, merged, tokenizer)
    merged.to(dtype)
    save_model(merged, tokenizer, directory)
    rounding = check_again(kind, directory, rows, logits_of(merged.float(), rows), where)
    return Merged(str(dtype).removeprefix("torch."), difference, max(rounding, difference), effect)


def check_again(kind: Kind, directory: Path, rows: list[list[int]], expected: list[Tensor], where: str) -> float:
    """Read ``directory`` in a process of its own; the largest difference of its logits from ``expected``.

    Raises:
        ModelError: it cannot be read, or its logits differ by more than :data:`TOLERANCE`.
    """
    from safetensors.torch import load_file

    out = directory / "logits.safetensors"
    command = [sys.executable, "-c", READ_AGAIN, str(directory), kind, json.dumps(rows), str(out)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no message"])[-1][:200]
        raise ModelError(where, f"merged and saved, it cannot be read again ({why}).")
    try:
        read = load_file(out)
    finally:
        out.unlink()
    distance = distance_of([read[str(i)] for i in range(len(rows))], expected)
    if distance > TOLERANCE:
        raise ModelError(where, f"merged, saved and read again, its logits are {distance:.2g} apart.")
    return distance


def sample_rows(vocabulary: int, pad: int | None) -> list[list[int]]:
    """Rows of random ids without padding: they reach every kind of weight, whatever the base's language."""
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(vocabulary, (n,), generator=generator).tolist() for n in LENGTHS]
    return [[i if i != pad else (i + 1) % vocabulary for i in row] for row in rows]


def _describe(kind: Kind, model: Any, tokenizer: Tokenizer) -> None:
    """Set what loaders ask of a reward model's config; without ``regression`` they return a sigmoid."""
    if kind == "reward":
        model.config.problem_type = "regression"
        model.config.pad_token_id = pad_id(tokenizer)


@torch.no_grad()
def logits_of(model: Any, rows: list[list[int]]) -> list[Tensor]:
    """The logits of each row by itself, in fp32."""
    return [model(torch.tensor([row])).logits[0].float() for row in rows]


def distance_of(left: list[Tensor], right: list[Tensor]) -> float:
    """The largest difference, relative to the largest number where that is over 1."""
    scale = max(1.0, *(float(r.abs().max()) for r in right))
    return max(float((a - b).abs().max()) for a, b in zip(left, right, strict=True)) / scale
