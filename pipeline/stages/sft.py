"""sft: make a base model for the task: from scratch, by adapting a pretrained one with LoRA, or out of a GGUF."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from accelerate.utils import broadcast_object_list
from transformers import PreTrainedModel

from pipeline.base.errors import DataError
from pipeline.modeling.loading import load_causal_lm, load_tokenizer, require_fit, save_model
from pipeline.modeling.other_engines.gguf_models import load_gguf, load_gguf_model
from pipeline.modeling.precision import note_slow_bf16
from pipeline.modeling.types import Tokenizer
from pipeline.sources.gguf_files import GgufFile, find_gguf
from pipeline.sources.gguf_names import is_gguf
from pipeline.store.model_card import adapter_card
from pipeline.tasks import load_task
from pipeline.trainers import sft
from pipeline.trainers.arguments import training_arguments
from pipeline.workflow.graph import External, trains_base
from pipeline.workflow.stage import Input, Run, main_process, say


@dataclass(frozen=True)
class Pretrained:
    """The model that ``base_model`` names.

    Attributes:
        whole: loads it again, in its own precision.
        origin: of a GGUF, what the manifest's entry of it gets.
    """

    model: PreTrainedModel
    tokenizer: Tokenizer
    whole: Callable[[], PreTrainedModel]
    origin: dict[str, Any] = field(default_factory=dict[str, Any])


def make_base(run: Run) -> None:
    """Write the ``base`` version: trained on the task's corpus, or a GGUF's model as it is."""
    pretrained = run.inputs.get("pretrained")
    if pretrained is None or trains_base(run.config):
        train_base(run, pretrained)
    elif main_process():
        base = load_pretrained(run, pretrained)
        figures = {"parameters": sum(p.numel() for p in base.model.parameters())}
        publish(run, base.model, base.tokenizer, figures, base.origin)


def train_base(run: Run, pretrained: Input | None) -> None:
    """Train on the task's corpus, and write the ``base`` version."""
    args = training_arguments(run.config, "sft", sft.SFTSection, run.workdir)
    base: Pretrained | None = None
    if pretrained is None:
        corpus = corpus_of(run, None)
        tokenizer = load_tokenizer(args.tokenizer) if args.tokenizer else None
        model, tokenizer = sft.scratch_model(args, corpus, tokenizer)
    else:
        base = load_pretrained(run, pretrained)
        model, tokenizer = base.model, base.tokenizer
        with tempfile.TemporaryDirectory() as directory:  # each process its own
            tokenizer.save_pretrained(directory)
            corpus = corpus_of(run, directory)
    if args.bf16:
        note_slow_bf16("sft", model, args.device)
    metrics = run.workdir / "metrics.jsonl"
    tokens = run.token_file("corpus")
    whole = base and base.whole
    model, figures = sft.train(args, model, tokenizer, corpus, whole=whole, metrics=metrics, tokens=tokens)
    if main_process():
        publish(run, model, tokenizer, figures, base.origin if base else {})


def corpus_of(run: Run, base: str | None) -> sft.Corpus:
    """The texts or conversations of the task; ``base`` is a directory with the base model's tokenizer.

    Raises:
        DataError: there are none.
    """
    config = run.config
    corpus = load_task(config.task, config.task_args, str(config.path), base).corpus(config.seed)
    if not corpus:
        raise DataError(f"task {config.task}", "has no texts to train a base on.", "Remove the sft section.")
    return corpus


def load_pretrained(run: Run, pretrained: Input) -> Pretrained:
    """The model that ``base_model`` names; all processes load it where it is trained."""
    if isinstance(pretrained, External) and is_gguf(pretrained.source):
        return convert(run, pretrained)
    source, revision = (
        (pretrained.source, pretrained.revision)
        if isinstance(pretrained, External)
        else (str(pretrained.path), None)
    )
    whole = partial(load_causal_lm, source, revision)
    model, tokenizer = whole(), load_tokenizer(source, revision)
    require_fit(model, tokenizer, source)
    return Pretrained(model, tokenizer, whole)


def convert(run: Run, pretrained: External) -> Pretrained:
    """The model of a GGUF, which the first process finds or downloads."""
    source = pretrained.source
    files = [find_gguf(source, pretrained.sha256, run.workdir / "gguf") if main_process() else None]
    if trains_base(run.config):
        broadcast_object_list(files)
    file = cast("GgufFile", files[0])
    say("sft", f"converts {file.path.name} to safetensors")
    model, tokenizer, facts = load_gguf(file.path, source)
    require_fit(model, tokenizer, source)
    if notice := facts.get("notice"):
        say("sft", f"{source}: {notice}")
    return Pretrained(model, tokenizer, partial(load_gguf_model, file.path, source), {**facts, **file.origin})


def publish(
    run: Run, model: PreTrainedModel, tokenizer: Tokenizer, figures: dict[str, Any], origin: dict[str, Any]
) -> None:
    """Write the ``base`` version: a full model in Hub format with its card."""
    licence = origin.get("license")
    with run.draft("base", governance={"license": str(licence).lower()} if licence else None) as draft:
        save_model(model, tokenizer, draft.path)
        run.keep_metrics(draft)
        draft.device = str(model.device)
        draft.stats.update(figures)
        for entry in draft.models:
            if entry["role"] == "pretrained":
                entry.update(origin)
        draft.card = lambda made: adapter_card(made, None, run.lineage(made.ref), "base")
