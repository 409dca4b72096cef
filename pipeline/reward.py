"""reward: a reward model on the preferences, a LoRA adapter over the policy's own base."""

from __future__ import annotations

from typing import Any

from pipeline.core.cli import guard
from pipeline.core.records import digest
from pipeline.core.stage import Run, main_process, say, stage_main
from pipeline.tasks import load_task

SCORES = {
    "id": "string",
    "prompt": "string",
    "chosen": "string",
    "rejected": "string",
    "chosen_score": "double",
    "rejected_score": "double",
    "chosen_gold_score": "double",
    "rejected_gold_score": "double",
}


def run(run: Run) -> None:
    """Write ``scores`` of the held-out pairs and the ``reward`` adapter."""
    from pipeline.modeling.loading import load_causal_lm, load_tokenizer
    from pipeline.trainers import reward
    from pipeline.trainers.common import training_arguments

    config = run.config
    args = training_arguments(config, "reward", reward.RewardSection, run.workdir)
    preferences = run.version("preferences")
    rows = {split: preferences.rows(split) for split in ("train", "test")}
    source, revision = run.base
    load_causal_lm(source, revision)  # says in one line what is wrong with a base that is none
    tokenizer = load_tokenizer(source, revision)
    position = reward.score_position(tokenizer)
    pairs = {s: reward.tokenize_pairs(tokenizer, r, args.max_length or 10**9, position) for s, r in rows.items()}
    dropped = {s: p.dropped for s, p in pairs.items()}
    say("reward", f"{len(pairs['train'].kept)} pairs, {sum(dropped.values())} dropped for length")
    model, figures = reward.train(args, source, revision, tokenizer, pairs["train"], run.workdir / "metrics.jsonl")
    if main_process():
        figures |= {"dropped_for_length": dropped, "pad_token_id": model.config.pad_token_id}
        publish(run, model, tokenizer, rows, pairs, figures, args.reference_samples)


def publish(
    run: Run,
    model: Any,
    tokenizer: Any,
    rows: dict[str, list[dict[str, Any]]],
    pairs: dict[str, Any],
    figures: dict[str, Any],
    reference_samples: int,
) -> None:
    """Measure on the held-out pairs, then write the scores and the adapter."""
    from pipeline.evaluation.reward_metrics import ScoredPairs, reward_metrics
    from pipeline.modeling.loading import loaded_commit
    from pipeline.modeling.lora import save_adapter
    from pipeline.modeling.scoring import Scoring, score_position, score_rows
    from pipeline.reporting.cards import adapter_card
    from pipeline.trainers.reward import score_head

    head = score_head(model)
    test = [rows["test"][i] for i in pairs["test"].kept]
    chosen = score_rows(model, head, pairs["test"].chosen_ids).tolist()
    rejected = score_rows(model, head, pairs["test"].rejected_ids).tolist()
    gold = gold_scores(run, test)
    train = [(rows["train"][i]["chosen"], rows["train"][i]["rejected"]) for i in pairs["train"].kept]
    scored = ScoredPairs(
        chosen,
        rejected,
        [r["chosen"] for r in test],
        [r["rejected"] for r in test],
        gold["chosen"],
        gold["rejected"],
    )
    metrics = reward_metrics(scored, train, run.config.seed)
    reference = [*pairs["train"].chosen_ids, *pairs["train"].rejected_ids]
    # In order of a hash, so that a sorted dataset gives a fair sample too.
    reference = sorted(reference, key=digest)[:reference_samples]
    raw = score_rows(model, head, reference)
    scoring = Scoring(score_position(tokenizer), raw.mean().item(), max(raw.std().item(), 1e-6), len(reference))

    with run.draft("scores") as draft:
        draft.write_rows("test", score_table(test, chosen, rejected, gold), schema=SCORES)
        draft.stats.update(metrics)
    with run.draft("reward", parents=[(draft.version, "scores")]) as draft:
        base, revision = run.published_base(draft, loaded_commit(*run.base))
        save_adapter(model, "default", draft.path, base=base, revision=revision, tokenizer=tokenizer)
        scoring.save(draft.path)
        run.keep_metrics(draft)
        draft.device = str(model.device)
        draft.stats.update(figures, **vars(scoring), evaluation=metrics)
        card = adapter_card(draft.so_far(), metrics, run.lineage("reward"), "reward")
        (draft.path / "README.md").write_text(card, encoding="utf-8")
    say("reward", metrics["verdict"])


def gold_scores(run: Run, rows: list[dict[str, Any]]) -> dict[str, list[float] | None]:
    """The task's ground truth of both sides, where it has one."""
    task = load_task(run.config.task, run.config.task_args, str(run.config.path))
    prompts = [r["prompt"] for r in rows]
    return {side: task.gold_scores(prompts, [r[side] for r in rows]) for side in ("chosen", "rejected")}


def score_table(
    rows: list[dict[str, Any]], chosen: list[float], rejected: list[float], gold: dict[str, list[float] | None]
) -> list[dict[str, Any]]:
    """Rows of the ``scores`` dataset."""
    table: list[dict[str, Any]] = []
    for i, row in enumerate(rows):
        entry: dict[str, Any] = {k: row[k] for k in ("id", "prompt", "chosen", "rejected")}
        entry |= {"chosen_score": chosen[i], "rejected_score": rejected[i]}
        entry |= {f"{side}_gold_score": found[i] if found else None for side, found in gold.items()}
        table.append(entry)
    return table


def main(argv: list[str] | None = None) -> int:
    return stage_main("reward", run, argv)


if __name__ == "__main__":
    guard(main)
