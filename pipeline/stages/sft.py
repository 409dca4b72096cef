"""sft: make a base model for the task, from scratch or by adapting a pretrained one with LoRA."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from transformers import PreTrainedModel

from pipeline.base.errors import DataError
from pipeline.modeling.loading import load_causal_lm, load_tokenizer, require_fit, save_model
from pipeline.store.model_card import adapter_card
from pipeline.tasks import load_task
from pipeline.trainers import sft
from pipeline.trainers.common import training_arguments
from pipeline.workflow.graph import External
from pipeline.workflow.stage import Run, main_process


def train_base(run: Run) -> None:
    """Train on the task's corpus, and write the ``base`` version."""
    config = run.config
    task = load_task(config.task, config.task_args, str(config.path))
    corpus = task.corpus(config.seed)
    if not corpus:
        raise DataError(f"task {config.task}", "has no texts to train a base on.", "Remove the sft section.")

    args = training_arguments(config, "sft", sft.SFTSection, run.workdir)
    pretrained = run.inputs.get("pretrained")
    whole: Callable[[], PreTrainedModel] | None = None
    if pretrained is None:
        tokenizer = load_tokenizer(args.tokenizer) if args.tokenizer else None
        model, tokenizer = sft.scratch_model(args, corpus, tokenizer)
    else:
        source, revision = (
            (pretrained.source, pretrained.revision)
            if isinstance(pretrained, External)
            else (str(pretrained.path), None)
        )
        whole = partial(load_causal_lm, source, revision)
        model, tokenizer = whole(), load_tokenizer(source, revision)
        require_fit(model, tokenizer, source)
    metrics = run.workdir / "metrics.jsonl"
    model, figures = sft.train(args, model, tokenizer, corpus, whole=whole, metrics=metrics)
    if main_process():
        publish(run, model, tokenizer, figures)


def publish(run: Run, model: Any, tokenizer: Any, figures: dict[str, Any]) -> None:
    """Write the ``base`` version: a full model in Hub format with its card."""
    with run.draft("base") as draft:
        save_model(model, tokenizer, draft.path)
        run.keep_metrics(draft)
        draft.device = str(model.device)
        draft.stats.update(figures)
        draft.card = lambda made: adapter_card(made, None, run.lineage(made.ref), "base")
