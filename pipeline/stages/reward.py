"""reward: a reward model on the preferences, a LoRA adapter over the policy's own base."""

from __future__ import annotations

from typing import Any

from pipeline.base.errors import DataError
from pipeline.base.records import digest
from pipeline.evaluation.reward.pair_set_metrics import About, metrics_of_set, pair_metrics
from pipeline.evaluation.reward.pairwise_metrics import ScoredPairs
from pipeline.evaluation.reward.pointwise_metrics import Completions, pointwise_metrics
from pipeline.labelling.judgements import Judgements, summary
from pipeline.modeling.loading import load_causal_lm, load_tokenizer, loaded_commit, require_fit
from pipeline.modeling.lora import save_adapter
from pipeline.scoring.pair_sets import PairRows, parse_sets, read_pairs, vote_shares
from pipeline.scoring.reward_role import Scoring, score_position, score_rows
from pipeline.store.model_card import adapter_card
from pipeline.store.version import Version, split_key
from pipeline.tasks import load_task
from pipeline.trainers import pointwise as trainer
from pipeline.trainers import reward
from pipeline.trainers.common import training_arguments
from pipeline.trainers.reward import score_head
from pipeline.workflow.stage import Run, main_process, say

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
SET_SCORES = {k: v for k, v in SCORES.items() if "gold" not in k} | {
    "item": "string",
    "slice": "string",
    "margin": "double",
    "share": "double",
}
UNPAIRED_SCORES = {
    "id": "string",
    "prompt": "string",
    "completion": "string",
    "label": "bool",
    "score": "double",
    "gold_score": "double",
}
SPLITS = ("train", "test")
Rows = dict[str, list[dict[str, Any]]]
Table = tuple[str, dict[str, str], list[dict[str, Any]]]


def train_reward(run: Run) -> None:
    """Write ``scores`` of the held-out rows and the ``reward`` adapter."""
    args = training_arguments(run.config, "reward", reward.RewardSection, run.workdir)
    require_rows(run.version("preferences"), args.loss)
    sets = test_sets(run, args.test_sets)
    source, revision = run.base
    base = load_causal_lm(source, revision)  # says in one line what is wrong with a base that is none
    limit_length(args, base.config)
    tokenizer = load_tokenizer(source, revision)
    require_fit(base, tokenizer, source)
    (pointwise if args.loss == "pointwise" else pairwise)(run, args, tokenizer, sets)


def limit_length(args: Any, config: Any) -> None:
    """Lower ``max_length`` to what the base can read, and say so."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions and (args.max_length is None or args.max_length > positions):
        asked = "no limit" if args.max_length is None else args.max_length
        say("reward", f"max_length is {positions}, the base's positions (reward.max_length: {asked})")
        args.max_length = positions


def require_kept(dropped: dict[str, int], kept: dict[str, int], longest: int, max_length: int | None) -> None:
    """Raises DataError where a split has lost all its rows to ``max_length``."""
    for split, n in dropped.items():
        if n and not kept[split]:
            raise DataError(
                f"reward, split {split}",
                f"all {n} rows have more than reward.max_length = {max_length} tokens (the longest {longest}).",
                "Raise it (it ends at the base's positions), or bring shorter texts or a base that reads more.",
            )


def test_sets(run: Run, given: dict[str, Any]) -> dict[str, PairRows]:
    """The pairs of ``reward.test_sets``, less those that are trained on. Read before training: mistakes show."""
    preferences, where = run.version("preferences"), str(run.config.path)
    options = parse_sets(given, where)
    train = preferences.iter_rows("train", columns=["id"]) if options and preferences.has_split("train") else ()
    known = {row["id"] for row in train}
    sets = {
        name: read_pairs(o, f"{where}: reward.test_sets.{name}", known, judgements=Judgements)
        for name, o in options.items()
    }
    for name, found in sets.items():
        if "votes" in found.report:
            say("reward", f"test set {name}: {summary(found.report)}")
        for line in found.report.get("notices", ()):
            say("reward", f"test set {name}: {line}")
    return sets


def require_rows(preferences: Version, loss: str) -> None:
    """Raises DataError where there is nothing to train on by ``loss``, naming the other one where it would do."""
    rows = {(s, c): preferences.splits.get(split_key(s, c), 0) for s in SPLITS for c in ("default", "unpaired")}
    if loss == "pointwise" and not rows["train", "unpaired"]:
        raise DataError(
            preferences.where,
            'config "unpaired" has no single labelled completions to train on.',
            "Set reward.loss=pairwise." if rows["train", "default"] else "Collect some with label.mode=thumbs.",
        )
    for split in SPLITS:
        if loss == "pairwise" and rows[split, "unpaired"] and not rows[split, "default"]:
            raise DataError(
                preferences.where,
                f"split {split} holds {rows[split, 'unpaired']} single labelled completions and no pairs.",
                "Set reward.loss=pointwise.",
            )


def pairwise(run: Run, args: Any, tokenizer: Any, sets: dict[str, PairRows]) -> None:
    """Train and measure on pairs."""
    preferences = run.version("preferences")
    rows = {split: preferences.rows(split) for split in SPLITS}
    pairs = tokenize_pairs(rows, args, tokenizer)
    dropped = {s: p.dropped for s, p in pairs.items()}
    say("reward", f"{len(pairs['train'].kept)} pairs, {sum(dropped.values())} dropped for length")
    kept, longest = {s: len(p.kept) for s, p in pairs.items()}, max(p.longest for p in pairs.values())
    require_kept(dropped, kept, longest, args.max_length)
    without = sum(rows["train"][i].get("margin") is None for i in pairs["train"].kept)
    if 0 < without < len(pairs["train"].kept):
        say("reward", f"margins are not used: {without} of the pairs to train on have none")
    model, figures = reward.train(args, *run.base, tokenizer, pairs["train"], run.workdir / "metrics.jsonl")
    if main_process():
        figures |= {"dropped_for_length": dropped, "pad_token_id": model.config.pad_token_id}
        metrics, table = measure_pairs(run, model, rows, pairs)
        of_sets = measure_sets(run, model, tokenizer, sets, training_texts(rows, pairs), metrics)
        reference = [*pairs["train"].chosen_ids, *pairs["train"].rejected_ids]
        publish(run, args, model, tokenizer, reference, figures, metrics, [table, *of_sets])


def pointwise(run: Run, args: Any, tokenizer: Any, sets: dict[str, PairRows]) -> None:
    """Train and measure on single labelled completions, and measure on held-out pairs where there are any."""
    preferences = run.version("preferences")
    rows, paired = (
        {s: preferences.rows(s, c) if preferences.has_split(s, c) else [] for s in SPLITS}
        for c in ("unpaired", "default")
    )
    position = reward.score_position(tokenizer)
    labelled = {
        s: trainer.tokenize_labelled(tokenizer, r, args.max_length or 10**9, position) for s, r in rows.items()
    }
    pairs = tokenize_pairs(paired, args, tokenizer)
    dropped = {s: found.dropped for s, found in labelled.items()}
    if paired["test"]:
        dropped["test pairs"] = pairs["test"].dropped
    say("reward", f"{len(labelled['train'].kept)} completions, {sum(dropped.values())} rows dropped for length")
    kept, longest = {s: len(p.kept) for s, p in labelled.items()}, max(p.longest for p in labelled.values())
    require_kept({s: dropped[s] for s in kept}, kept, longest, args.max_length)
    model, figures = trainer.train(args, *run.base, tokenizer, labelled["train"], run.workdir / "metrics.jsonl")
    if main_process():
        figures |= {"dropped_for_length": dropped, "pad_token_id": model.config.pad_token_id}
        metrics, table = measure_labelled(run, model, rows, labelled, figures["offset"])
        tables = [table]
        if pairs["test"].kept:
            metrics["pairs"], of_pairs = measure_pairs(run, model, paired, pairs)
            tables.insert(0, of_pairs)
        tables += measure_sets(run, model, tokenizer, sets, training_texts(paired, pairs), metrics)
        publish(run, args, model, tokenizer, labelled["train"].ids, figures, metrics, tables)


def tokenize_pairs(rows: Rows, args: Any, tokenizer: Any) -> dict[str, Any]:
    """:class:`pipeline.trainers.reward.Pairs` of each split."""
    position = reward.score_position(tokenizer)
    return {s: reward.tokenize_pairs(tokenizer, r, args.max_length or 10**9, position) for s, r in rows.items()}


def training_texts(rows: Rows, pairs: dict[str, Any]) -> list[tuple[str, str]]:
    """(chosen, rejected) of the pairs that were trained on, from which the baselines learn."""
    return [(rows["train"][i]["chosen"], rows["train"][i]["rejected"]) for i in pairs["train"].kept]


def measure_pairs(run: Run, model: Any, rows: Rows, pairs: dict[str, Any]) -> tuple[dict[str, Any], Table]:
    """Metrics on the held-out pairs, and their rows of ``scores``."""
    head = score_head(model)
    test = [rows["test"][i] for i in pairs["test"].kept]
    chosen = score_rows(model, head, pairs["test"].chosen_ids).tolist()
    rejected = score_rows(model, head, pairs["test"].rejected_ids).tolist()
    gold = gold_scores(run, test, ("chosen", "rejected"))
    scored = ScoredPairs(
        chosen,
        rejected,
        [r["chosen"] for r in test],
        [r["rejected"] for r in test],
        gold["chosen"],
        gold["rejected"],
        [r["prompt"] for r in test],
    )
    people = [r.get("annotator") for r in test]
    about = About(
        margins=[r.get("margin") for r in test],
        shares=vote_shares(run.version("preferences"), "test", test),
        columns={"annotator": people} if len(set(people)) > 1 else {},
    )
    metrics = pair_metrics(scored, about, training_texts(rows, pairs), run.config.seed)
    return metrics, ("default", SCORES, score_table(test, chosen, rejected, gold))


def measure_sets(
    run: Run,
    model: Any,
    tokenizer: Any,
    sets: dict[str, PairRows],
    train: list[tuple[str, str]],
    metrics: dict[str, Any],
) -> list[Table]:
    """Put metrics on each set into ``metrics["sets"]``, and give the rows of ``scores``."""
    tables: list[Table] = []
    limit = getattr(model.config, "max_position_embeddings", None) or 10**9
    for name, found in sets.items():
        pairs = reward.tokenize_pairs(tokenizer, found.rows, 10**9, reward.score_position(tokenizer))
        # What is too long loses its beginning, as in PPO.
        chosen, rejected = (
            score_rows(model, reward.score_head(model), [ids[-limit:] for ids in side]).tolist()
            for side in (pairs.chosen_ids, pairs.rejected_ids)
        )
        truncated = sum(len(ids) > limit for ids in (*pairs.chosen_ids, *pairs.rejected_ids))
        measured = metrics_of_set(chosen, rejected, found.rows, found.report["slice"], train, run.config.seed)
        metrics.setdefault("sets", {})[name] = measured | {"set": found.report | {"truncated": truncated}}
        scores = zip(found.rows, chosen, rejected, strict=True)
        rows = [row | {"chosen_score": c, "rejected_score": r} for row, c, r in scores]
        tables.append((name, SET_SCORES, rows))
    return tables


def measure_labelled(
    run: Run, model: Any, rows: Rows, labelled: dict[str, Any], offset: float
) -> tuple[dict[str, Any], Table]:
    """Metrics on the held-out single completions, and their rows of ``scores``."""
    kept = {s: [rows[s][i] for i in labelled[s].kept] for s in SPLITS}
    scores = score_rows(model, score_head(model), labelled["test"].ids).tolist()
    gold = gold_scores(run, kept["test"], ("completion",))["completion"]
    test, train = (
        Completions(
            [r["label"] for r in kept[s]], [r["prompt"] for r in kept[s]], [r["completion"] for r in kept[s]], g
        )
        for s, g in (("test", gold), ("train", None))
    )
    table = [
        {k: row[k] for k in ("id", "prompt", "completion", "label")}
        | {"score": scores[i], "gold_score": gold[i] if gold else None}
        for i, row in enumerate(kept["test"])
    ]
    return pointwise_metrics(scores, offset, test, train), ("unpaired", UNPAIRED_SCORES, table)


def publish(
    run: Run,
    args: Any,
    model: Any,
    tokenizer: Any,
    reference: list[list[int]],
    figures: dict[str, Any],
    metrics: dict[str, Any],
    tables: list[Table],
) -> None:
    """Write the scores and the adapter.

    Args:
        reference: token rows on which the score's mean and standard deviation may be measured.
        tables: (config, schema, rows) of ``scores``.
    """
    # In order of a hash, so that a sorted dataset gives a fair sample too.
    reference = sorted(reference, key=digest)[: args.reference_samples]
    raw = score_rows(model, score_head(model), reference)
    scoring = Scoring(score_position(tokenizer), raw.mean().item(), max(raw.std().item(), 1e-6), len(reference))

    with run.draft("scores") as draft:
        for config, schema, rows in tables:
            draft.write_rows("test", rows, config, schema=schema)
        draft.stats.update(metrics)
    with run.draft("reward", parents=[(draft.version, "scores")]) as draft:
        base, revision = run.published_base(draft, loaded_commit(*run.base))
        save_adapter(model, "default", draft.path, base=base, revision=revision, tokenizer=tokenizer)
        scoring.save(draft.path)
        run.keep_metrics(draft)
        draft.device = str(model.device)
        draft.stats.update(figures, **vars(scoring), evaluation=metrics)
        labels = run.version("preferences").manifest.stats
        draft.card = lambda made: adapter_card(made, metrics, run.lineage(made.ref), "reward", labels)
    say("reward", metrics["verdict"])
    measured = {"": metrics, "pairs": metrics.get("pairs", {}), **metrics.get("sets", {})}
    for name, found in measured.items():
        for sentence in [*([found["verdict"]] if name and found else []), *found.get("notes", [])]:
            say("reward", f"{name}: {sentence}" if name in metrics.get("sets", {}) else sentence)


def gold_scores(run: Run, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> dict[str, list[float] | None]:
    """The task's ground truth of each column of completions, where it has one."""
    task = load_task(run.config.task, run.config.task_args, str(run.config.path))
    prompts = [r["prompt"] for r in rows]
    return {column: task.gold_scores(prompts, [r[column] for r in rows]) for column in columns}


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
