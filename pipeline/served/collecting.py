"""Sampling from a server for ``collect``: set it up from the config, write its rows, remove its journal."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline.base.errors import ConfigError
from pipeline.base.records import digest
from pipeline.modeling.loading import load_tokenizer
from pipeline.served.prompts import turns_reader
from pipeline.served.sampling import COMPLETIONS, ServedSampling
from pipeline.store.store import Draft
from pipeline.workflow.samplers import SamplerOptions, parse_sampler
from pipeline.workflow.stage import Run


def sampler_of(run: Run) -> SamplerOptions | None:
    """The server that the config names."""
    return parse_sampler(run.config.collect.sampler, str(run.config.path))


def served_sampling(
    run: Run, options: SamplerOptions, prompts: Sequence[str], completion_tokens: int, seed: int
) -> ServedSampling:
    """Prepare sampling from a server.

    Raises:
        ConfigError: the request's own limit is another one than the task's.
    """
    where = str(run.config.path)
    limit = options.request.get("max_completion_tokens", completion_tokens)
    if limit != completion_tokens:
        what = f"collect.sampler.request.max_completion_tokens = {limit!r:.40}, and the task's completion_tokens"
        raise ConfigError(where, f"{what} is {completion_tokens}.", "Give both the same number.")
    tokenizer = load_tokenizer(*run.base)
    return ServedSampling(
        options,
        prompts,
        tokenizer=tokenizer,
        turns=turns_reader(tokenizer, run.config.task_args.get("chat_template"), where),
        journal=journal_of(run, options),
        completion_tokens=completion_tokens,
        per_prompt=run.config.collect.completions,
        temperature=run.config.collect.temperature,
        seed=seed,
    )


def journal_of(run: Run, options: SamplerOptions) -> Path:
    """Where completions are kept until they are in a version; the same for other annotators and transports."""
    section = run.config.collect
    key = digest([options.url, options.model, run.config.seed, section.round])
    return run.work_root / f"{run.config.name}-completions-{key[:12]}"


def discard_journal(run: Run) -> None:
    """Remove the journal, once its completions are in a version."""
    if (options := sampler_of(run)) is not None:
        shutil.rmtree(journal_of(run, options), ignore_errors=True)


def write_completions(draft: Draft, sampling: object, splits: Sequence[str]) -> None:
    """Write a server's completions one by one, with their token ids, beside the comparisons made of them."""
    if isinstance(sampling, ServedSampling):
        for split in dict.fromkeys(splits):
            rows = sampling.rows(lambda index, split=split: splits[index] == split)
            draft.write_rows(split, rows, config="completions", schema=COMPLETIONS)
