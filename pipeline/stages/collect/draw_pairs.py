"""Draw the comparisons: prompts of each split, and completions of the base, a policy or a server."""

from __future__ import annotations

from typing import cast

from accelerate import PartialState

from pipeline.annotators import Opponent
from pipeline.base.errors import ConfigError
from pipeline.base.records import digest
from pipeline.modeling.comparisons import Sampling
from pipeline.modeling.precision import base_dtype
from pipeline.modeling.types import Device
from pipeline.served.collecting import sampler_of, served_sampling
from pipeline.served.sampling import ServedSampling
from pipeline.stages.collect.prompt_splits import Prompts, draw_prompts
from pipeline.tasks import Split, Task
from pipeline.workflow.sections.collect import CollectSection
from pipeline.workflow.stage import Run, say


def draw(
    run: Run,
    options: CollectSection,
    task: Task,
    prompts: Prompts,
    at_a_time: int | None = None,
    opponent: Opponent | None = None,
) -> tuple[Sampling | ServedSampling, list[str]]:
    """Prepare sampling from the base, the policy that ``inputs`` names, or a server; iterating over it samples.

    Args:
        opponent: brings what the samples are compared with; prompts for which it has nothing are left out.
    Returns:
        The sampling, and the split of each prompt.
    """
    drawn = prompts_to_compare(options, task, prompts, run.config.seed)
    opponents = None
    if opponent is not None:
        brought = opponent.opponents([p for p, _ in drawn])
        say(
            "collect",
            f"{sum(map(bool, brought))} of {len(brought)} prompts have a text to compare the samples with",
        )
        drawn = [row for row, own in zip(drawn, brought, strict=True) if own]
        opponents = [own for own in brought if own]
    texts = [p for p, _ in drawn]
    seed = sampling_seed(run.config.seed, options.round)
    if (server := sampler_of(run)) is not None:
        if opponents is not None:
            what = f"collect.annotator {options.annotator} brings what samples are compared with; no sampler can."
            raise ConfigError(str(run.config.path), what, "Leave collect.sampler out.")
        sampling = served_sampling(run, server, texts, task.completion_tokens, seed)
        return sampling, [split for _, split in drawn]
    device = cast("Device", PartialState().device)
    sampling = Sampling(
        run.base,
        run.version("policy").path if "policy" in run.inputs else None,
        texts,
        completion_tokens=task.completion_tokens,
        per_prompt=options.completions,
        temperature=options.temperature,
        batch_size=options.batch_size,
        seed=seed,
        device=device,
        dtype=base_dtype(options.bf16, device),
        at_a_time=at_a_time,
        opponents=opponents,
    )
    return sampling, [split for _, split in drawn]


def prompts_to_compare(
    options: CollectSection, task: Task, prompts: Prompts, seed: int
) -> list[tuple[str, Split]]:
    """As many prompts as ``collect.comparisons`` says, each with its split; none of the split ``select``."""
    held_out = max(1, round(options.comparisons * options.test_share))
    sizes: dict[Split, int] = {"train": options.comparisons - held_out, "test": held_out}
    kept_apart = set(prompts["select"])
    return [
        (p, split)
        for split, n in sizes.items()
        for p in draw_prompts(task, split, n, seed, kept_apart, options.round)
    ]


def sampling_seed(seed: int, round: int) -> int:
    """The seed of a round's sampling; the first round's is the experiment's."""
    return seed if round == 1 else int(digest(["round", seed, round])[:8], 16)
