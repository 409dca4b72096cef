"""evaluate: the trained policy against its base on held-out prompts, with the same seeds.

Beside it stand best-of-n from the base, which PPO has to beat, and what the run's history says about
over-optimisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object

from pipeline.base.files import replace_text
from pipeline.base.records import digest
from pipeline.evaluation.policy.degenerate import degenerate
from pipeline.evaluation.policy.diversity_metrics import Embed, compare_diversity
from pipeline.evaluation.policy.headline import verdict
from pipeline.evaluation.policy.policy_metrics import Sampled, change_by_prompt, compare, sequence_kl
from pipeline.modeling.embedding import load_embedder
from pipeline.scoring.load_for_stage import load_sides, scorer
from pipeline.stages.evaluate.best_of_base import Given, best_of_base, best_of_n_closings
from pipeline.stages.evaluate.history import missing_eos_penalty, over_optimisation
from pipeline.stages.evaluate.judges import JUDGED, build_scorers, judge_all
from pipeline.stages.evaluate.sampled_sides import Found, Setting, Side, best_of_samples, measure
from pipeline.statistics.spelling import interval, number
from pipeline.store.model_card import adapter_card
from pipeline.store.starting_policy import is_starting
from pipeline.tasks import Task, load_task
from pipeline.tasks._vader import VADER_NAME, lexicon_words
from pipeline.workflow.judges import Judge, parse_judges
from pipeline.workflow.sections.evaluate import EvaluateSection
from pipeline.workflow.stage import Run, main_process, say

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


def evaluate(run: Run) -> None:
    """Write an ``evaluation`` version: a row per prompt and seed, the comparison as its stats."""
    config = run.config
    options = config.evaluate
    judges = parse_judges(options.judges, str(config.path))
    task = load_task(config.task, config.task_args, str(config.path))
    # Neither trained on nor looked at by PPO: its checks have a split of their own.
    prompts = [r["prompt"] for r in run.version("prompts").iter_rows("test")][: options.prompts]
    if len(prompts) == 1:
        # What is measured is then this one prompt's completions, of which each draw is a sample of its own.
        prompts *= options.prompts
        say("evaluate", f"the task has one prompt, also trained on; it is sampled {options.prompts} times")
    state = PartialState()
    device: Any = state.device
    base, policy, tokenizer = load_sides(run, run.version("policy").path, device)
    proxy = scorer(run, base.model, tokenizer, device)
    others = build_scorers(run, judges, base.model, tokenizer, device)
    embed = embedder(run, options, device) if main_process() else None
    setting = Setting(tokenizer, task, proxy, others, options.temperature, options.batch_size)

    def of_all(mine: list[int], part: list[Any]) -> list[Any]:
        """Every rank's part, in order; each has every n-th of the work."""
        found = {i: row for rank in gather_object([list(zip(mine, part, strict=True))]) for i, row in rank}
        return [found[i] for i in sorted(found)]

    each = [prompt for prompt in prompts for _ in range(options.draws)]
    mine = list(range(state.process_index, len(each), state.num_processes))
    rows: list[list[Any]] = []
    for name, side in (("base", base), ("policy", policy)):
        say("evaluate", f"{len(each)} completions of the {name}")
        rows.append(of_all(mine, measure(side, base, setting, prompts, mine, options.draws, options.seed)))
    best: list[Any] = []
    if options.ns and options.temperature > 0:
        asked = prompts[: options.best_of_prompts]
        most, penalty = options.ns[-1], missing_eos_penalty(run)
        say("evaluate", f"{len(asked)} x {most} completions of the base, for best-of-n")
        mine = list(range(state.process_index, len(asked), state.num_processes))
        best = of_all(mine, best_of_samples(base, setting, asked, mine, most, options.seed, penalty))
    if main_process():
        first, second = (Side.of(part, each, task) for part in rows)
        publish(run, task, Found(prompts, first, second, best), judges, options, embed)
    state.wait_for_everyone()


def publish(
    run: Run,
    task: Task,
    found: Found,
    judges: Sequence[Judge],
    options: EvaluateSection,
    embed: Embed | None = None,
) -> None:
    """Compare the two sides and write them."""
    draws = options.draws
    given = Given(options.ns, draws, options.seed, options.temperature)
    base, policy = (
        Sampled(**{k: v for k, v in vars(side).items() if k != "judged"}) for side in (found.base, found.policy)
    )
    stats = compare(base, policy, options.seed, per_prompt=draws)
    if task.gold_name == VADER_NAME:
        before, after = (lexicon_words(side.completions) for side in (base, policy))
        stats["lexicon_words"] = change_by_prompt(before, after, draws, options.seed)
    if options.temperature == 0:
        stats["entropy"] = None  # what is always taken is no sample of the distribution
    rows = rows_of(found, draws, options.seed)
    stats["seeds"] = by_seed(rows)
    stats["judges"], judgements = judge_all(run, found, judges, draws, options.seed)
    stats["best_of_n"], best_rows = best_of_base(run, found, given)
    stats["diversity"] = compare_diversity(base, policy, draws, options.seed, embed=embed)
    stats["diversity"] |= {
        "embedding_model": options.embedding_model,
        "best_of_n": best_of_n_closings(found, given),
    }
    stats |= over_optimisation(run, rows)
    stats["starting_policy"] = is_starting(run.version("policy").manifest.stats)
    with run.draft("evaluation") as draft:
        draft.write_rows("test", rows, schema=ROWS)
        if judgements:
            draft.write_rows("test", judgements, "judges", schema=JUDGED)
        if best_rows:
            draft.write_rows("test", best_rows, "best_of_n", schema=BEST)
        draft.stats.update(stats, gold_name=task.gold_name)
    write_results_on_card(run, stats)
    for sentence in (*verdict(stats)[1], *told(stats)):
        say("evaluate", sentence)


def write_results_on_card(run: Run, stats: dict[str, Any]) -> None:
    """Tell the policy's README what was measured. A card is not among what a version is known by.

    A policy from outside the data directory, or one that may not be written, keeps its card.
    """
    policy = run.version("policy")
    tree = "\n".join(run.store.lineage(policy).draw())
    card = adapter_card(policy.manifest, stats, tree, "policy")
    try:
        replace_text(policy.path / "README.md", card, run.workdir)
    except OSError as err:
        say("evaluate", f"{policy.ref}: its README.md was not updated ({err.strerror})")


def rows_of(found: Found, draws: int, seed: int) -> list[dict[str, Any]]:
    """A row per prompt and seed."""
    k1, k3 = sequence_kl(found.policy.logprobs, found.policy.ref_logprobs)
    rows: list[dict[str, Any]] = []
    for i, (first, second) in enumerate(zip(found.base.completions, found.policy.completions, strict=True)):
        prompt, drawn_with = found.prompts[i // draws], seed + i % draws
        row: dict[str, Any] = {"id": digest([prompt, drawn_with, first, second]), "prompt": prompt}
        for name, side in (("base", found.base), ("policy", found.policy)):
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


def by_seed(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The mean differences of each seed alone: how far another seed would have told another story."""
    found: list[dict[str, Any]] = []
    for seed in sorted({row["seed"] for row in rows}):
        own = [row for row in rows if row["seed"] == seed]
        entry: dict[str, Any] = {"seed": seed, "kl_k1": sum(r["policy_kl_k1"] for r in own) / len(own)}
        for key in ("score", "gold_score"):
            known = own[0][f"policy_{key}"] is not None
            entry[key] = sum(r[f"policy_{key}"] - r[f"base_{key}"] for r in own) / len(own) if known else None
        found.append(entry)
    return found


def embedder(run: Run, options: EvaluateSection, device: Any) -> Embed | None:
    """The model of embeddings that ``evaluate.embedding_model`` names."""
    if options.embedding_model is None:
        return None
    return load_embedder(options.embedding_model, device, str(run.config.path), "evaluate.embedding_model")


def told(stats: dict[str, Any]) -> list[str]:
    """What is said besides the headline: the judges, the yardstick, where gold turned, the best checkpoint."""
    found: list[str] = []
    for name, s in stats["judges"].items():
        equal = s["length_controlled_win_rate"]
        more = f", {interval(equal)} at equal length" if equal["value"] is not None else ""
        if s["win_rate"]["value"] is None:
            why = ", ".join(f"{n} {reason}" for reason, n in s.get("abstentions", {}).items())
            found.append(f"{name} gave no answer that could be used{f' ({why})' if why else ''}.")
            continue
        found.append(f"{name} prefers the policy on {interval(s['win_rate'])} of prompts{more}.")
    lines = stats["best_of_n"].get("yardstick") or {}
    for key, score_name in (("gold_score", "gold score"), ("score", "proxy score")):
        if line := lines.get(key):
            n, gap, at = line["n_needed"], line["difference"], "the policy's KL"
            if not line["within"]:
                n, gap = line["largest"]["n"], line["largest"]["difference"]
                at = f"{number(line['largest']['kl_bound'], 1)} nats to the policy's"
            kl = number(line["policy_kl_k1"], 1)
            found.append(
                f"Against best-of-{n} of the base, at {at} {kl}: {score_name} {interval(gap, signed=True)}."
            )
            break
    if words := stats.get("lexicon_words"):
        found.append(
            "The gold score is a lexicon's opinion: of a text it knows nothing but "
            f"{interval(words['base'])} words (base) or {interval(words['policy'])} (policy)."
        )
    training, best = stats["overoptimisation"]["training"], stats["best_checkpoint"]
    turned = training and training["turning_point"]["index"]
    if turned is not None:
        point = training["points"][turned]
        found.append(
            f"Over-optimised: past update {point['update']} (KL {number(point['kl_k1'], 1)}) gold fell while the "
            "proxy rose."
        )
    if best is not None:
        value = f"update {best['update']} ({best['by']} {number(best['value'])}, KL {number(best['kl_k1'], 1)})"
        kept = (
            f"published is update {best['kept']} ({number(best['kept_value'])}); ppo.keep_best publishes the best"
        )
        found.append(f"Best held-out checkpoint: {value}; {'it is published' if best['is_kept'] else kept}.")
    return found
