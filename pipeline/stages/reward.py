"""reward: train a reward model, a LoRA adapter over the policy's base, on the preferences."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from pipeline.base.errors import ConfigError, DataError
from pipeline.base.key_numbers import TextSet
from pipeline.base.process import watched
from pipeline.base.records import digest
from pipeline.evaluation.reward.pointwise_metrics import auc
from pipeline.labelling.judgements import Judgements, summary
from pipeline.modeling.loading import load_causal_lm, load_tokenizer, loaded_commit, require_fit
from pipeline.modeling.lora import save_adapter
from pipeline.modeling.precision import note_slow_bf16
from pipeline.modeling.reader_heads import save_reader_heads
from pipeline.modeling.types import Tokenizer
from pipeline.results.reward import PointwiseMetrics, RewardMetrics
from pipeline.results.stats import to_json
from pipeline.scoring.pair_sets import PairRows, parse_sets, read_pairs
from pipeline.scoring.reward_adapter import Scoring, score_position, score_rows
from pipeline.stages.reward_rows import Rereadable, judged_rows
from pipeline.stages.reward_scores import (
    NO_LIMIT,
    SPLITS,
    Row,
    Table,
    explain_chance,
    explain_chance_of_labels,
    held_out,
    held_out_labelled,
    measure_labelled,
    measure_pairs,
    measure_sets,
    training_rows,
    training_texts,
)
from pipeline.stages.rounds.earlier_pairs import earlier_ids, learnt, measure_new_pairs
from pipeline.store.model_card import adapter_card
from pipeline.store.version import Version, split_key
from pipeline.trainers import pointwise as pointwise_trainer
from pipeline.trainers import reward as trainer
from pipeline.trainers.arguments import training_arguments
from pipeline.trainers.pointwise import Labelled
from pipeline.trainers.reward import Pairs, RewardSection, score_head
from pipeline.workflow.reader_votes import votes_by_reader
from pipeline.workflow.stage import Run, main_process, say


def train_reward(run: Run) -> None:
    """Write ``scores`` of the held-out rows and the ``reward`` adapter."""
    args = training_arguments(run.config, "reward", RewardSection, run.workdir)
    require_rows(run.version("preferences"), args)
    if "start" in run.inputs and args.loss != "pointwise":
        what = "reward.inputs.start is gone on from under reward.loss: pointwise alone."
        raise ConfigError(
            str(run.config.path), what, "Leave it out: a reward model of pairs begins from the base."
        )
    sets = test_sets(run, args.test_sets)
    source, revision = run.base
    base = load_causal_lm(source, revision)  # checks the base before anything is read
    limit_length(args, base.config)
    tokenizer = load_tokenizer(source, revision)
    require_fit(base, tokenizer, source)
    if args.bf16:
        note_slow_bf16("reward", base, args.device)
    (pointwise if args.loss == "pointwise" else pairwise)(run, args, tokenizer, sets)


def limit_length(args: RewardSection, config: Any) -> None:
    """Lower ``max_length`` to the base's positions, with a message."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions and (args.max_length is None or args.max_length > positions):
        setting = "no limit" if args.max_length is None else args.max_length
        say("reward", f"max_length is {positions}, the base's positions (reward.max_length: {setting})")
        args.max_length = positions


def require_kept(rows: Mapping[str, Pairs] | Mapping[str, Labelled], max_length: int | None) -> None:
    """Raise DataError where all rows of a split are longer than ``max_length``."""
    longest = max(split.longest for split in rows.values())
    for name, split in rows.items():
        if split.dropped and not len(split.kept):
            raise DataError(
                f"reward, split {name}",
                f"all {split.dropped} rows have more than reward.max_length = {max_length} tokens (the longest "
                f"{longest}).",
                "Raise it (it ends at the base's positions), or bring shorter texts or a base that reads more.",
            )


def test_sets(run: Run, section: dict[str, Any]) -> dict[str, PairRows]:
    """Read the pairs of ``reward.test_sets`` without the training pairs; before training, to find errors early."""
    preferences, where = run.version("preferences"), str(run.config.path)
    options = parse_sets(section, where)
    train = preferences.iter_rows("train", columns=["id"]) if options and preferences.has_split("train") else ()
    trained_on = TextSet(row["id"] for row in train)
    sets = {
        name: read_pairs(o, f"{where}: reward.test_sets.{name}", trained_on, judgements=Judgements)
        for name, o in options.items()
    }
    for name, pairs in sets.items():
        votes = [summary(pairs.report)] if "votes" in pairs.report else []
        for line in (*votes, *pairs.report.get("notices", ())):
            say("reward", f"test set {name}: {line}")
    return sets


def require_rows(preferences: Version, args: RewardSection) -> None:
    """DataError where there are no rows for the loss, naming the other where it has some, or of a reader."""
    loss = args.loss
    rows = {(s, c): preferences.splits.get(split_key(s, c), 0) for s in SPLITS for c in ("default", "unpaired")}
    if loss == "pointwise" and not rows["train", "unpaired"]:
        raise DataError(
            preferences.where,
            'config "unpaired" has no single labelled completions to train on.',
            "Set reward.loss=pairwise." if rows["train", "default"] else "Collect some with label.mode=thumbs.",
        )
    if args.reader is not None and not votes_by_reader(preferences).get(args.reader, {}).get("train"):
        readers = ", ".join(votes_by_reader(preferences)) or "none"
        raise DataError(
            preferences.where, f"holds no vote of reader {args.reader} to train on.", f"It has: {readers}."
        )
    for split in SPLITS:
        if loss == "pairwise" and rows[split, "unpaired"] and not rows[split, "default"]:
            raise DataError(
                preferences.where,
                f"split {split} holds {rows[split, 'unpaired']} single labelled completions and no pairs.",
                "Set reward.loss=pointwise.",
            )


def pairwise(run: Run, args: RewardSection, tokenizer: Tokenizer, sets: dict[str, PairRows]) -> None:
    """Train and measure on pairs."""
    preferences, earlier = run.version("preferences"), earlier_ids(run)
    rows: dict[str, Rereadable] = {
        "train": lambda: learnt(preferences.iter_rows("train"), earlier, args.old_share),
        "test": lambda: preferences.iter_rows("test"),
    }
    pairs = tokenize_pairs(run, {split: read() for split, read in rows.items()}, args, tokenizer)
    dropped = {split: p.dropped for split, p in pairs.items()}
    train = pairs["train"]
    say("reward", f"{len(train.kept)} pairs, {sum(dropped.values())} dropped for length")
    require_kept(pairs, args.max_length)
    if 0 < train.without_margin < len(train.kept):
        say("reward", f"margins are not used: {train.without_margin} of the pairs to train on have none")
    model, figures = trainer.train(args, *run.base, tokenizer, train, run.workdir / "metrics.jsonl")
    if main_process():
        texts = training_texts(rows["train"](), train)
        metrics, table = measure_pairs(run, model, held_out(rows["test"](), pairs["test"]), texts)
        metrics = explain_chance(model, metrics, pairs)
        of_sets, tables = measure_sets(run, model, tokenizer, sets, texts)
        figures |= {"dropped_for_length": dropped, "pad_token_id": model.config.pad_token_id}
        every = (row for split in SPLITS for row in preferences.iter_rows(split))
        if (new := measure_new_pairs(run, every, table[2], earlier, model.device)) is not None:
            figures |= {
                "new_pairs": to_json(new),
                "old_pairs_learnt": sum(r["id"] in earlier for r in rows["train"]()),
            }
        reference = itertools.chain(train.chosen_ids, train.rejected_ids)
        publish(run, args, model, tokenizer, reference, figures, replace(metrics, sets=of_sets), [table, *tables])


def pointwise(run: Run, args: RewardSection, tokenizer: Tokenizer, sets: dict[str, PairRows]) -> None:
    """Train and measure on single labelled completions, and measure on held-out pairs where there are any."""
    rows, paired = judged_rows(run, args)
    limit, position = args.max_length or NO_LIMIT, score_position(tokenizer)
    labelled = {
        split: pointwise_trainer.tokenize_labelled(
            tokenizer,
            watched(read(), "reward", f"completions of split {split} tokenised"),
            limit,
            position,
            run.token_file(f"{split}_labelled"),
            args.reader_heads and split == "train",
        )
        for split, read in rows.items()
    }
    pairs = tokenize_pairs(run, {split: read() for split, read in paired.items()}, args, tokenizer)
    dropped = {split: labels.dropped for split, labels in labelled.items()}
    if len(pairs["test"].kept) + pairs["test"].dropped:
        dropped["test pairs"] = pairs["test"].dropped
    train = labelled["train"]
    say("reward", f"{len(train.kept)} completions, {sum(dropped.values())} rows dropped for length")
    require_kept(labelled, args.max_length)
    start = run.version("start").path if "start" in run.inputs else None
    held = held_out_labelled(rows["test"](), labelled["test"])
    trained = pointwise_trainer.train(
        args, *run.base, tokenizer, train, run.workdir / "metrics.jsonl", start, held.ids
    )
    model, figures = trained.model, trained.figures
    if main_process():
        texts = training_texts(paired["train"](), pairs["train"])
        learnt_from = training_rows(rows["train"](), train.kept, "completions")
        metrics, table = measure_labelled(run, model, held, learnt_from, figures["offset"])
        metrics = explain_chance_of_labels(model, metrics, labelled)
        tables = [table]
        if trained.before:
            figures["start_auc"] = to_json(auc(trained.before, [bool(row["label"]) for row in table[2]]))
        if len(pairs["test"].kept):
            of_pairs, table = measure_pairs(run, model, held_out(paired["test"](), pairs["test"]), texts)
            metrics, tables = replace(metrics, pairs=of_pairs), [table, *tables]
        of_sets, more = measure_sets(run, model, tokenizer, sets, texts)
        figures |= {"dropped_for_length": dropped, "pad_token_id": model.config.pad_token_id}
        metrics = replace(metrics, sets=of_sets)
        publish(run, args, model, tokenizer, train.ids, figures, metrics, [*tables, *more], trained.heads)


def tokenize_pairs(
    run: Run, rows: Mapping[str, Iterable[Row]], args: RewardSection, tokenizer: Tokenizer
) -> dict[str, Pairs]:
    """The pairs of each split as tokens."""
    limit, position = args.max_length or NO_LIMIT, score_position(tokenizer)
    return {
        split: trainer.tokenize_pairs(
            tokenizer,
            watched(r, "reward", f"pairs of split {split} tokenised"),
            limit,
            position,
            run.token_file(split),
        )
        for split, r in rows.items()
    }


def publish(
    run: Run,
    args: RewardSection,
    model: Any,
    tokenizer: Tokenizer,
    reference: Iterable[list[int]],
    figures: dict[str, Any],
    metrics: RewardMetrics,
    tables: list[Table],
    heads: Mapping[str, Tensor] | None = None,
) -> None:
    """Write the scores and the adapter.

    Args:
        reference: token rows on which the score's mean and standard deviation may be measured.
        tables: (config, schema, rows) of ``scores``.
        heads: of readers, beside the adapter's own.
    """
    # Ordered by hash: a sorted dataset gives a fair sample too.
    sample = heapq.nsmallest(args.reference_samples, reference, key=digest)
    raw = score_rows(model, score_head(model), sample)
    scoring = Scoring(score_position(tokenizer), raw.mean().item(), max(raw.std().item(), 1e-6), len(sample))

    stats = to_json(metrics)
    with run.draft("scores") as draft:
        for config, schema, rows in tables:
            draft.write_rows("test", rows, config, schema=schema)
        draft.stats.update(stats)
    with run.draft("reward", parents=[(draft.version, "scores")]) as draft:
        base, revision = run.published_base(draft, loaded_commit(*run.base))
        save_adapter(model, "default", draft.path, base=base, revision=revision, tokenizer=tokenizer)
        scoring.save(draft.path)
        if heads:
            save_reader_heads(draft.path, heads)
        run.keep_metrics(draft)
        draft.device = str(model.device)
        draft.stats.update(figures, **vars(scoring), evaluation=stats)
        labels = run.version("preferences").manifest.stats
        draft.card = lambda made: adapter_card(made, metrics, run.lineage(made.ref), "reward", labels)
    for line in sentences(metrics):
        say("reward", line)


def sentences(metrics: RewardMetrics) -> list[str]:
    """The verdicts with their notes: on held-out rows, on held-out pairs, on further sets by name."""
    lines = [metrics.verdict, *metrics.notes]
    if isinstance(metrics, PointwiseMetrics) and metrics.pairs is not None:
        lines += [metrics.pairs.verdict, *metrics.pairs.notes]
    for name, measured in metrics.sets.items():
        lines += [f"{name}: {line}" for line in (measured.verdict, *measured.notes)]
    return lines
