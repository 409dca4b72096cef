"""Measure each reader's own policy beside the shared one, and write a ``NAME-readers`` version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState

from pipeline.evaluation.policy.policy_metrics import change_by_prompt
from pipeline.reporting.figures.common import save
from pipeline.reporting.figures.readers import draw_readers
from pipeline.reporting.reader_rows import card, sentence
from pipeline.reporting.runs import results_of
from pipeline.results.readers import ReaderFigures, ReadersFigures, Written
from pipeline.results.stats import from_json, to_json
from pipeline.scoring.build_scorer import ScorerContext, build
from pipeline.scoring.pair_sets import score_pairs
from pipeline.statistics.bootstrap import Resampling
from pipeline.statistics.intervals import Estimate
from pipeline.store.store import Version
from pipeline.tasks import load_task
from pipeline.workflow.graph import artefact
from pipeline.workflow.reader_votes import reader_rows, votes_by_reader
from pipeline.workflow.readers import Reader, Readers
from pipeline.workflow.stage import say

Row = dict[str, Any]
Key = tuple[str, int]
"""Prompt and seed of a completion."""
WEIGHTS = "adapter_model.safetensors"
SAMPLES = 4
"""Prompts of which a reader's samples are kept."""


def publish(plan: Readers, readers: Sequence[Reader]) -> None:
    """Write the record of readers whose runs are done."""
    figures = figures_of(plan, readers)
    roles = {"policy": "ppo", "evaluation": "evaluate", "reward": "reward"}
    parents = [(plan.shared_version(stage, role), role) for role, stage in roles.items()]
    parents += [(plan.preferences, "preferences")]
    for reader in readers:
        parents += [(reader.version(stage, role), f"{role}-{reader.name}") for role, stage in roles.items()]
    with plan.store.draft(
        artefact(plan.config, "readers"),
        kind="report",
        stage="readers",
        key=plan.record_key(readers),
        parents=parents,
        config={"name": plan.config.name, "task": plan.config.task, "readers": vars(plan.options)},
        seed=plan.config.seed,
    ) as draft:
        pictures = draw(figures, draft.path)
        draft.stats.update(to_json(figures))
        draft.card = lambda made: card(made, figures, pictures)
    say("readers", sentence(figures))
    say("readers", f"wrote {draft.version.ref}")


def figures_of(plan: Readers, readers: Sequence[Reader]) -> ReadersFigures:
    """The figures of all readers."""
    shared = completions(plan.shared_version("evaluate", "evaluation"))
    own = {reader.name: completions(reader.version("evaluate", "evaluation")) for reader in readers}
    each = [reader_figures(plan, reader, shared, own) for reader in readers]
    names = {load_task(r.config.task, r.config.task_args, str(r.config.path)).gold_name for r in readers}
    return ReadersFigures(
        readers=each,
        shared=plan.shared_version("ppo", "policy").ref,
        gold_name=names.pop() if len(names) == 1 else None,
        without=len(votes_by_reader(plan.preferences)) - len(readers),
    )


def reader_figures(
    plan: Readers, reader: Reader, shared: Mapping[Key, Row], own: Mapping[str, Mapping[Key, Row]]
) -> ReaderFigures:
    """The figures of one reader.

    Args:
        shared: the rows of the shared policy's evaluation.
        own: those of each reader's own.
    """
    written = own[reader.name]
    pairs = [(written[key], shared[key]) for key in written if key in shared]
    policy, reward = reader.version("ppo", "policy"), reader.version("reward", "reward")
    evaluation = results_of(reader.version("evaluate", "evaluation"))
    gold = gold_of(reader, pairs)
    proxy = change(proxy_of(plan, reward, pairs), pairs, plan.config.seed)
    over_shared = change(gold, pairs, plan.config.seed) if gold else None
    rows = reader_rows(plan.preferences, "train", reader.name)
    measured, diversity = reward.manifest.stats["evaluation"], evaluation.diversity
    start = reward.manifest.stats.get("start_auc")
    same_as, same = likest(reader.name, own)
    return ReaderFigures(
        reader=reader.name,
        policy=policy.ref,
        votes=reader.votes,
        held_out=reader.held_out,
        liked=sum(row["label"] for row in rows) / len(rows),
        shared_auc=None if start is None else from_json(Estimate, start, reward.ref),
        own_auc=from_json(Estimate, measured["auc"], reward.ref),
        gold_base=evaluation.gold_score and evaluation.gold_score.base,
        gold_shared=over_shared and over_shared[0],
        gold_own=over_shared and over_shared[1],
        gold_over_shared=over_shared and over_shared[2],
        proxy_over_shared=proxy[2],
        kl=plain(evaluation.kl_k1),
        closings=diversity.closings.policy if diversity and diversity.closings else None,
        seconds=sum(v.manifest.stats["stage_seconds"] for v in (reward, policy)),
        kilobytes=(policy.path / WEIGHTS).stat().st_size / 1000,
        same_as=same_as,
        same_texts=same,
        samples=samples(pairs, gold),
    )


def completions(evaluation: Version) -> dict[Key, Row]:
    """The rows of an evaluation by prompt and seed."""
    return {(row["prompt"], row["seed"]): row for row in evaluation.iter_rows("test")}


def gold_of(reader: Reader, pairs: Sequence[tuple[Row, Row]]) -> tuple[list[float], list[float]] | None:
    """The reader's gold scores of the shared policy's completions, and of their own; None without a gold score."""
    task = load_task(reader.config.task, reader.config.task_args, str(reader.config.path))
    prompts = [own["prompt"] for own, _ in pairs]
    before = task.gold_scores(prompts, [shared["policy_completion"] for _, shared in pairs])
    after = task.gold_scores(prompts, [own["policy_completion"] for own, _ in pairs])
    return None if before is None or after is None else (before, after)


def proxy_of(plan: Readers, reward: Version, pairs: Sequence[tuple[Row, Row]]) -> tuple[list[float], list[float]]:
    """The scores of the reader's reward model, of the shared policy's completions and of their own."""
    device: Any = PartialState().device
    scorer = build(str(reward.path), ScorerContext(plan.path, device, plan.store.find_version), key="readers")
    rows = [
        {"prompt": own["prompt"], "chosen": own["policy_completion"], "rejected": shared["policy_completion"]}
        for own, shared in pairs
    ]
    after, before = score_pairs(scorer, rows)
    return before, after


def change(
    scores: tuple[Sequence[float], Sequence[float]], pairs: Sequence[tuple[Row, Row]], seed: int
) -> tuple[Estimate, Estimate, Estimate]:
    """Scores of the shared policy, of the reader's own, and what theirs gains; a prompt's seeds averaged first."""
    by_prompt: dict[str, tuple[list[float], list[float]]] = {}
    for (own, _), *of_both in zip(pairs, *scores, strict=True):
        for side, score in zip(by_prompt.setdefault(own["prompt"], ([], [])), of_both, strict=True):
            side.append(score)
    before, after = ([sum(of[side]) / len(of[side]) for of in by_prompt.values()] for side in (0, 1))
    made = change_by_prompt(before, after, 1, Resampling(seed))
    return made.base, made.policy, made.difference


def likest(name: str, own: Mapping[str, Mapping[Key, Row]]) -> tuple[str | None, float | None]:
    """The other reader whose policy writes the most of the same completions, and their share."""
    written = own[name]
    shares = {
        reader: sum(rows[key]["policy_completion"] == row["policy_completion"] for key, row in written.items())
        / len(written)
        for reader, rows in own.items()
        if reader != name and rows.keys() == written.keys()
    }
    return max(shares.items(), key=lambda share: share[1], default=(None, None))


def samples(
    pairs: Sequence[tuple[Row, Row]], gold: tuple[Sequence[float], Sequence[float]] | None
) -> list[Written]:
    """The completions of the first prompts, each once."""
    chosen: dict[str, Written] = {}
    for number, (own, shared) in enumerate(pairs):
        if own["prompt"] not in chosen and len(chosen) < SAMPLES:
            before, after = (None, None) if gold is None else (gold[0][number], gold[1][number])
            chosen[own["prompt"]] = Written(
                prompt=own["prompt"],
                shared=shared["policy_completion"],
                own=own["policy_completion"],
                shared_gold=before,
                own_gold=after,
            )
    return list(chosen.values())


def plain(estimate: Estimate | None) -> Estimate | None:
    """An estimate without what only its own measure has."""
    if estimate is None:
        return None
    return Estimate(estimate.value, estimate.low, estimate.high, estimate.n, estimate.method)


def draw(figures: ReadersFigures, directory: Path) -> dict[str, str]:
    """Draw the readers into the directory, as SVG and PNG; returns the title of the PNG."""
    figure = draw_readers(figures)
    return {} if figure is None else {save(figure, directory, "readers")[1].name: "What each reader gains"}
