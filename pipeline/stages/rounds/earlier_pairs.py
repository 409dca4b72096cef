"""Tell the pairs of this round from those of earlier rounds, for the stage ``reward``.

In a loop the new pairs are the last policy's own samples. The last reward model has learnt from none of them, so
its accuracy on all of them says what PPO's reward is worth where the policy is now.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pipeline.base.key_numbers import TextSet
from pipeline.base.records import bucket
from pipeline.evaluation.reward.clustered_accuracy import dependent_accuracy
from pipeline.evaluation.reward.pairwise_metrics import pair_accuracy
from pipeline.results.reward import NewPairs
from pipeline.scoring.build_scorer import ScorerContext, build
from pipeline.scoring.pair_sets import score_pairs
from pipeline.statistics.intervals import Estimate
from pipeline.workflow.stage import Run

Row = dict[str, Any]
SPLITS = ("train", "test")


def earlier_ids(run: Run, config: str = "default") -> TextSet:
    """Ids of the rows that ``inputs.earlier`` has; empty where it is not named."""
    if "earlier" not in run.inputs:
        return TextSet()
    version = run.version("earlier")
    splits = [split for split in SPLITS if version.has_split(split, config)]
    return TextSet(row["id"] for split in splits for row in version.iter_rows(split, config, columns=["id"]))


def learnt(rows: Iterable[Row], earlier: TextSet, share: float) -> Iterator[Row]:
    """The training rows without those of ``earlier`` that the share leaves out, the same ones in every round."""
    if not earlier:
        return iter(rows)
    return (row for row in rows if row["id"] not in earlier or bucket(row["id"], "old pairs") < share)


def measure_new_pairs(
    run: Run, rows: Iterable[Row], scores: Iterable[Row], earlier: TextSet, device: Any
) -> NewPairs | None:
    """The last reward model and this one on the pairs that are new; None without ``inputs.earlier``.

    Args:
        rows: the pairs of all splits, all that there are.
        scores: of the held-out pairs, with ``chosen_score`` and ``rejected_score``.
    """
    if "earlier" not in run.inputs:
        return None
    scored = list(scores)
    margins = [row["chosen_score"] - row["rejected_score"] for row in scored]
    old = [row["id"] in earlier for row in scored]
    last: Estimate | None = None
    new = [row for row in rows if row["id"] not in earlier]
    if "earlier_reward" in run.inputs and new:
        context = ScorerContext(str(run.config.path), device, run.store.find_version)
        model = build(str(run.version("earlier_reward").path), context, key="reward.inputs.earlier_reward")
        chosen, rejected = score_pairs(model, new)
        last = accuracy(new, [c - r for c, r in zip(chosen, rejected, strict=True)])
    return NewPairs(
        pairs=len(new),
        last=last,
        held_out=_part(scored, margins, [not o for o in old]),
        old_held_out=_part(scored, margins, old),
    )


def accuracy(rows: Sequence[Row], margins: Sequence[float]) -> Estimate:
    """The share of pairs that are right, with an interval that allows for several of one prompt."""
    chosen, rejected, prompts = ([row[name] for row in rows] for name in ("chosen", "rejected", "prompt"))
    return dependent_accuracy(margins, prompts, chosen, rejected) or pair_accuracy(margins)


def _part(rows: Sequence[Row], margins: Sequence[float], chosen: Sequence[bool]) -> Estimate | None:
    kept = [i for i, is_chosen in enumerate(chosen) if is_chosen]
    return accuracy([rows[i] for i in kept], [margins[i] for i in kept]) if kept else None
