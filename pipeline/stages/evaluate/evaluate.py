"""evaluate: the trained policy against its base on held-out prompts, with the same seeds.

Beside it stand best-of-n from the base, which PPO has to beat, and what the run's history says about
over-optimisation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

from accelerate import PartialState
from accelerate.utils import gather_object

from pipeline.base.errors import DataError
from pipeline.base.files import replace_text
from pipeline.base.records import digest
from pipeline.evaluation.policy.degenerate import degenerate
from pipeline.evaluation.policy.diversity_metrics import Embed, compare_diversity
from pipeline.evaluation.policy.headline import verdict
from pipeline.evaluation.policy.policy_metrics import change_by_prompt, compare, sequence_kl
from pipeline.modeling.embedding import load_embedder
from pipeline.modeling.precision import base_dtype, note_slow_bf16, precision_name
from pipeline.modeling.roles import Role, output_embedding
from pipeline.modeling.types import Device
from pipeline.results.policy import Evaluation, SeedChange
from pipeline.results.stats import to_json
from pipeline.scoring.load_for_stage import load_sides, scorer
from pipeline.stages.evaluate.best_of_base import best_of_base, best_of_n_variety
from pipeline.stages.evaluate.history import best_of_run, missing_eos_penalty, over_optimisation, policy_settings
from pipeline.stages.evaluate.judges import JUDGED, build_scorers, judge_all
from pipeline.stages.evaluate.other_history import exchanged_histories, measure_other_history
from pipeline.stages.evaluate.references import compare_references, events_by_side
from pipeline.stages.evaluate.sampled_sides import (
    BaseSample,
    EvaluationSamples,
    Sampler,
    ScoredCompletion,
    ScoredSide,
    sample_base,
    sample_side,
)
from pipeline.stages.evaluate.sentences import further_findings
from pipeline.statistics.bootstrap import Resampling
from pipeline.store.model_card import adapter_card
from pipeline.store.starting_policy import is_starting
from pipeline.tasks import Task, load_task
from pipeline.tasks._vader import VADER_NAME, lexicon_words
from pipeline.workflow.judges import Judge, parse_judges
from pipeline.workflow.sections.evaluate import EvaluateSection
from pipeline.workflow.stage import Run, main_process, say

Row = dict[str, Any]
T = TypeVar("T")

ROWS = {
    "id": "string",
    "prompt": "string",
    "seed": "int32",
    "base_completion": "string",
    "policy_completion": "string",
    "base_score": "double",
    "policy_score": "double",
    "base_gold_score": "double",
    "policy_gold_score": "double",
    "base_length": "int32",
    "policy_length": "int32",
    "base_ended": "bool",
    "policy_ended": "bool",
    "base_degenerate": "string",
    "policy_degenerate": "string",
    "policy_kl_k1": "double",
    "policy_kl_k3": "double",
}
BEST = {"id": "string", "prompt": "string", "n": "int32", "score": "double", "gold_score": "double"}
SCHEMAS = {"default": ROWS, "judges": JUDGED, "best_of_n": BEST}


def evaluate(run: Run) -> None:
    """Write an ``evaluation`` version: a row per prompt and seed, the comparison as its stats."""
    config, options = run.config, run.config.evaluate
    judges = parse_judges(options.judges, str(config.path))
    task = load_task(config.task, config.task_args, str(config.path))
    prompts = held_out_prompts(run, options)
    exchanged = exchanged_histories(task, prompts, config) if options.other_history else None
    state = PartialState()
    device = cast("Device", state.device)
    base, policy, tokenizer = load_sides(run, run.version("policy").path, device, base_dtype(options.bf16, device))
    proxy = scorer(run, base.model, tokenizer, device, task)
    others = build_scorers(run, judges, base.model, tokenizer, device)
    embed = embedder(run, options, device) if main_process() else None
    precision = precision_name(output_embedding(base.model).dtype)
    if precision == "bf16":
        note_slow_bf16("evaluate", base.model, device)
    sampler = Sampler(tokenizer, task, proxy, others, options.temperature, options.batch_size)

    each = [prompt for prompt in prompts for _ in range(options.draws)]

    def sampled(side: Role, prompts: Sequence[str]) -> list[ScoredCompletion]:
        own = share_of(state, len(prompts) * options.draws)
        return gathered(own, sample_side(side, base, sampler, prompts, own, options.draws, options.seed))

    say("evaluate", f"{len(each)} completions of the base")
    of_base = sampled(base, prompts)
    say("evaluate", f"{len(each)} completions of the policy")
    of_policy = sampled(policy, prompts)
    after_other: list[list[ScoredCompletion]] = []
    if exchanged is not None:
        say("evaluate", f"{len(exchanged.prompts) * options.draws} of each after another conversation's history")
        after_other = [sampled(side, exchanged.prompts) for side in (base, policy)]
    best: list[list[BaseSample]] = []
    if options.ns and options.temperature > 0:
        first, most, penalty = prompts[: options.best_of_prompts], options.ns[-1], missing_eos_penalty(run)
        own = share_of(state, len(first))
        say("evaluate", f"{len(first)} x {most} completions of the base, for best-of-n")
        best = gathered(own, sample_base(base, sampler, first, own, most, options.seed, penalty))

    if main_process():
        sides = ScoredSide.of(of_base, each, task), ScoredSide.of(of_policy, each, task)
        samples = EvaluationSamples(prompts, *sides, best, precision)
        evaluation, tables = measure(run, task, samples, judges, options, embed)
        if exchanged is not None:
            of_history = measure_other_history(
                task, samples, exchanged, after_other, options.draws, Resampling(options.seed)
            )
            evaluation = replace(evaluation, other_history=of_history)
        publish(run, evaluation, tables)
    state.wait_for_everyone()


def held_out_prompts(run: Run, options: EvaluateSection) -> list[str]:
    """Prompts that were neither trained on nor, unless ``evaluate.split`` says so, looked at by PPO's checks.

    Raises:
        DataError: there is no such split.
    """
    version, most = run.version("prompts"), options.prompts
    if not version.has_split(options.split):
        mend = "Run  make collect  again with a larger collect.select_share or more prompts."
        raise DataError(version.where, f"has no split {options.split} to evaluate on.", mend)
    prompts = [row["prompt"] for row in version.iter_rows(options.split)][:most]
    if len(prompts) == 1:
        # What is measured is then this one prompt's completions, of which each draw is a sample of its own.
        prompts *= most
        say("evaluate", f"the task has one prompt, also trained on; it is sampled {most} times")
    return prompts


def embedder(run: Run, options: EvaluateSection, device: Device) -> Embed | None:
    """The model of embeddings that ``evaluate.embedding_model`` names."""
    if options.embedding_model is None:
        return None
    return load_embedder(options.embedding_model, device, str(run.config.path), "evaluate.embedding_model")


def share_of(state: PartialState, count: int) -> list[int]:
    """This rank's part of ``count`` pieces of work: every n-th."""
    return list(range(state.process_index, count, state.num_processes))


def gathered(own: Sequence[int], part: Sequence[T]) -> list[T]:
    """Every rank's part, in order; ``own`` are the numbers of this rank's."""
    pieces = {i: piece for rank in gather_object([list(zip(own, part, strict=True))]) for i, piece in rank}
    return [pieces[i] for i in sorted(pieces)]


def measure(
    run: Run,
    task: Task,
    samples: EvaluationSamples,
    judges: Sequence[Judge],
    options: EvaluateSection,
    embed: Embed | None = None,
) -> tuple[Evaluation, dict[str, list[Row]]]:
    """Compare the two sides, and ask the judges that were not yet asked; the rows by the name of their table."""
    draws, resampling = options.draws, Resampling(options.seed)
    base, policy = samples.base, samples.policy
    comparison = compare(base, policy, draws, resampling)
    if options.temperature == 0:
        comparison = replace(comparison, entropy=None)  # what is always taken is no sample of the distribution
    rows = rows_of(samples, draws, options.seed)
    verdicts, judgements = judge_all(run, samples, judges, draws, options.seed)
    best_of_n, best_rows = best_of_base(run, samples, options)
    diversity = replace(
        compare_diversity(base, policy, draws, resampling, embed),
        embedding_model=options.embedding_model,
        best_of_n=best_of_n_variety(samples, options),
    )
    words = None
    if task.gold_name == VADER_NAME:
        before, after = lexicon_words(base.completions), lexicon_words(policy.completions)
        words = change_by_prompt(before, after, draws, resampling)
    evaluation = Evaluation(
        **vars(comparison),
        precision=samples.precision,
        lexicon_words=words,
        seeds=by_seed(rows),
        judges=verdicts,
        best_of_n=best_of_n,
        diversity=diversity,
        policy=policy_settings(run),
        overoptimisation=over_optimisation(run, rows),
        best_checkpoint=best_of_run(run),
        starting_policy=is_starting(run.version("policy").manifest.stats),
        gold_name=task.gold_name,
        events=events_by_side(task, samples, draws, resampling.level),
        references=compare_references(task, samples, draws, resampling),
    )
    return evaluation, {"default": rows, "judges": judgements, "best_of_n": best_rows}


def publish(run: Run, evaluation: Evaluation, tables: Mapping[str, list[Row]]) -> None:
    """Write the version and the policy's card, and say what was found."""
    with run.draft("evaluation") as draft:
        for name, rows in tables.items():
            if rows:
                draft.write_rows("test", rows, name, schema=SCHEMAS[name])
        draft.stats.update(to_json(evaluation))
    write_results_on_card(run, evaluation)
    for sentence in (*verdict(evaluation)[1], *further_findings(evaluation)):
        say("evaluate", sentence)


def write_results_on_card(run: Run, evaluation: Evaluation) -> None:
    """Write the results into the policy's README, which is not part of a version's content id.

    A policy from outside the data directory, or one that may not be written, keeps its card.
    """
    policy = run.version("policy")
    tree = "\n".join(run.store.lineage(policy).draw())
    card = adapter_card(policy.manifest, evaluation, tree, "policy")
    try:
        replace_text(policy.path / "README.md", card, run.workdir)
    except OSError as err:
        say("evaluate", f"{policy.ref}: its README.md was not updated ({err.strerror})")


def rows_of(samples: EvaluationSamples, draws: int, seed: int) -> list[Row]:
    """A row per prompt and seed."""
    k1, k3 = sequence_kl(samples.policy.logprobs, samples.policy.ref_logprobs)
    rows: list[Row] = []
    for i in range(len(samples.base.completions)):
        prompt, drawn_with = samples.prompts[i // draws], seed + i % draws
        row: Row = {"id": digest([prompt, drawn_with, *samples.pair(i)]), "prompt": prompt}
        for name, side in (("base", samples.base), ("policy", samples.policy)):
            row |= {
                f"{name}_completion": side.completions[i],
                f"{name}_score": side.scores[i],
                f"{name}_gold_score": side.gold_scores[i] if side.gold_scores else None,
                f"{name}_length": side.lengths[i],
                f"{name}_ended": side.ended[i],
                f"{name}_degenerate": degenerate(side.completions[i], side.ended[i]),
            }
        rows.append(row | {"seed": drawn_with, "policy_kl_k1": float(k1[i]), "policy_kl_k3": float(k3[i])})
    return rows


def by_seed(rows: Sequence[Row]) -> list[SeedChange]:
    """The mean differences of each seed alone: how far another seed would have told another story."""
    changes: list[SeedChange] = []
    for seed in sorted({row["seed"] for row in rows}):
        own = [row for row in rows if row["seed"] == seed]
        score, gold_score = (
            sum(row[f"policy_{key}"] - row[f"base_{key}"] for row in own) / len(own)
            if own[0][f"policy_{key}"] is not None
            else None
            for key in ("score", "gold_score")
        )
        changes.append(SeedChange(seed, sum(row["policy_kl_k1"] for row in own) / len(own), score, gold_score))
    return changes
