"""evaluate: the trained policy against its base on held-out prompts, with the same seeds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pipeline.core.cli import guard
from pipeline.core.errors import DataError
from pipeline.core.records import digest
from pipeline.core.stage import Run, main_process, say, stage_main
from pipeline.tasks import Task, load_task

ROWS = {
    "id": "string",
    "prompt": "string",
    "base_completion": "string",
    "policy_completion": "string",
    "base_score": "double",
    "policy_score": "double",
    "base_gold_score": "double",
    "policy_gold_score": "double",
    "base_length": "int32",
    "policy_length": "int32",
    "policy_kl_k1": "double",
}


@dataclass
class EvaluateSection:
    """Keys of the ``evaluate`` section."""

    prompts: int = field(default=400, metadata={"help": "Held-out prompts; all of them if there are fewer."})
    temperature: float = field(default=1.0, metadata={"help": "Of sampling; 0 takes the most likely token."})
    batch_size: int = field(default=128, metadata={"help": "Completions sampled at a time."})
    seed: int = field(default=0, metadata={"help": "Of sampling, the same for base and policy."})

    def __post_init__(self) -> None:
        if self.prompts < 2:
            raise ValueError(f"prompts {self.prompts} is below 2: no interval could be given")


@dataclass
class Side:
    """One model's completions of this process's prompts, and all that is measured on them."""

    completions: list[str]
    lengths: list[int]
    ended: list[bool]
    scores: list[float]
    logprobs: list[list[float]]
    ref_logprobs: list[list[float]]


def run(run: Run) -> None:
    """Write an ``evaluation`` version: a row per prompt, the comparison as its stats."""
    from accelerate import PartialState
    from accelerate.utils import gather_object

    from pipeline.modeling.from_run import load_sides, scorer

    config = run.config
    options = config.options("evaluate", EvaluateSection)
    task = load_task(config.task, config.task_args, str(config.path))
    prompts = task.prompts("test", None, config.seed)[: options.prompts]
    if len(prompts) < 2:
        raise DataError(
            f"{config.path}: evaluate", f"{len(prompts)} held-out prompt gives no interval.", "Bring more prompts."
        )
    state = PartialState()
    base, policy, tokenizer = load_sides(run, run.version("policy").path, state.device)
    judge = scorer(run, base.model, tokenizer, state.device)
    # Every rank takes every n-th prompt; uniforms are drawn for all of them, so ranks do not change a completion.
    mine = list(range(state.process_index, len(prompts), state.num_processes))
    sides: dict[str, Side] = {}
    for name, side in (("base", base), ("policy", policy)):
        say("evaluate", f"{len(prompts)} completions of the {name}")
        part = measure(side, base, tokenizer, judge, prompts, mine, options, task)
        found = {i: row for rank in gather_object([list(zip(mine, part, strict=True))]) for i, row in rank}
        sides[name] = Side(*map(list, zip(*(found[i] for i in range(len(prompts))), strict=True)))
    if main_process():
        publish(run, task, prompts, sides["base"], sides["policy"], options)
    state.wait_for_everyone()


def measure(
    side: Any,
    base: Any,
    tokenizer: Any,
    scorer: Any,
    prompts: list[str],
    mine: list[int],
    options: EvaluateSection,
    task: Task,
) -> list[tuple[Any, ...]]:
    """Sample and measure one model on the prompts of this rank: a tuple in :class:`Side`'s order for each.

    Args:
        side, base: :class:`pipeline.modeling.roles.Role` of what is measured, and of what it is compared with.
    """
    import torch

    from pipeline.modeling import tokens
    from pipeline.modeling.generation import generate, uniforms
    from pipeline.modeling.roles import merged, sequence_logprobs
    from pipeline.modeling.samples import Samples

    noise = uniforms(len(prompts), task.completion_tokens, torch.Generator().manual_seed(options.seed))
    limit = tokens.prompt_limit(side.model, task.completion_tokens)
    prompt_ids = tokens.encode_prompts(tokenizer, [prompts[i] for i in mine], limit)
    with merged(side.model, side.adapter):
        sampled = generate(
            side.model,
            prompt_ids,
            max_new_tokens=task.completion_tokens,
            eos_id=tokenizer.eos_token_id,
            temperature=options.temperature,
            noise=noise[mine],
            batch_size=options.batch_size,
        )
    rows = sampled.rows()
    temperature = options.temperature or 1.0
    columns = (
        [tokens.decode(tokenizer, r) for r in rows],
        sampled.lengths.tolist(),
        sampled.ended.tolist(),
        scorer(Samples(prompt_ids, rows, tokenizer, [prompts[i] for i in mine])).tolist(),
        sequence_logprobs(side.model, prompt_ids, rows, side.adapter, temperature),
        sequence_logprobs(base.model, prompt_ids, rows, base.adapter, temperature),
    )
    return list(zip(*columns, strict=True))


def publish(run: Run, task: Task, prompts: list[str], base: Side, policy: Side, options: EvaluateSection) -> None:
    """Compare the two sides and write them."""
    from pipeline.evaluation.policy_metrics import Sampled, compare

    gold = {name: task.gold_scores(prompts, s.completions) for name, s in (("base", base), ("policy", policy))}
    stats = compare(
        Sampled(**vars(base), gold_scores=gold["base"]),
        Sampled(**vars(policy), gold_scores=gold["policy"]),
        seed=options.seed,
    )
    rows: list[dict[str, Any]] = []
    for i, prompt in enumerate(prompts):
        row: dict[str, Any] = {
            "id": digest([prompt, base.completions[i], policy.completions[i]]),
            "prompt": prompt,
        }
        for name, s in (("base", base), ("policy", policy)):
            found = gold[name]
            row |= {f"{name}_completion": s.completions[i], f"{name}_score": s.scores[i]}
            row |= {f"{name}_gold_score": found[i] if found else None, f"{name}_length": s.lengths[i]}
        row["policy_kl_k1"] = sum(policy.logprobs[i]) - sum(policy.ref_logprobs[i])
        rows.append(row)
    with run.draft("evaluation") as draft:
        draft.write_rows("test", rows, schema=ROWS)
        draft.stats.update(stats, gold_name=task.gold_name)
    from pipeline.reporting.page import headline

    say("evaluate", headline(stats)[1])


def main(argv: list[str] | None = None) -> int:
    return stage_main("evaluate", run, argv)


if __name__ == "__main__":
    guard(main)
