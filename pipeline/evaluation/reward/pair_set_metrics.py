"""All metrics of a reward model on one set of scored pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.evaluation.reward.calibration import cross_fitted, equal_mass
from pipeline.evaluation.reward.pairwise_metrics import ScoredPairs, pair_accuracy, reward_metrics
from pipeline.evaluation.reward.slices import by_length, by_name, by_size, whole_items
from pipeline.results.reward import PairwiseMetrics, WholeRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

Numbers = Sequence[float | None]


@dataclass(frozen=True)
class PairContext:
    """Further columns of the pairs, each (n,) or empty.

    Attributes:
        margins: the annotators' margins of the choice.
        shares: of the votes, those for the chosen completion, or the probability that it is the right choice.
        columns: values by column, to slice by.
        items: the item of each pair; all pairs of an item have to be right.
    """

    margins: Numbers = ()
    shares: Numbers = ()
    columns: Mapping[str, Sequence[str | None]] = field(default_factory=dict[str, Sequence[str | None]])
    items: Sequence[str] = ()


def pair_metrics(
    test: ScoredPairs,
    context: PairContext,
    train: Sequence[tuple[str, str]] = (),
    seed: int = 0,
    level: float = 0.95,
) -> PairwiseMetrics:
    """:func:`reward_metrics` with calibration in bins of equal mass, slices, whole items and notes.

    Slices are by ``length``, ``gold margin``, ``margin``, ``confidence`` (of the annotators) and the columns; only
    those that there are.
    """
    metrics = reward_metrics(test, train, seed, level)
    margins = np.asarray(test.chosen_scores, np.float64) - np.asarray(test.rejected_scores, np.float64)
    tables = {
        "length": by_length(margins, test.chosen, test.rejected, level),
        "gold margin": by_size(margins, _gold_margins(test), level=level),
        "margin": by_size(margins, context.margins, level=level) if context.margins else None,
        "confidence": by_size(margins, context.shares, level=level) if context.shares else None,
    }
    for name, values in context.columns.items():
        tables[f"column {name}" if name in tables else name] = by_name(margins, values, level)
    groups = test.prompts if test.prompts is not None else [str(i) for i in range(len(margins))]
    halves = cross_fitted(margins, _halves(groups), seed)
    metrics = replace(
        metrics,
        calibration=replace(metrics.calibration, equal_mass=equal_mass(margins, seed), cross_fitted=halves),
        slices={name: table for name, table in tables.items() if table is not None},
        items=_items(margins, context, level),
    )
    return replace(metrics, notes=notes(metrics))


def metrics_of_set(
    chosen_scores: Sequence[float],
    rejected_scores: Sequence[float],
    rows: Sequence[Mapping[str, Any]],
    column: str | None,
    train: Sequence[tuple[str, str]] = (),
    seed: int = 0,
) -> PairwiseMetrics:
    """:func:`pair_metrics` of the rows of a set, see :class:`pipeline.scoring.pair_sets.PairRows`.

    Args:
        column: the set's column whose values are in ``slice``.
    """
    chosen, rejected, prompts = ([row[key] for row in rows] for key in ("chosen", "rejected", "prompt"))
    context = PairContext(
        margins=[row["margin"] for row in rows],
        shares=[row["share"] for row in rows],
        columns={} if column is None else {column: [row["slice"] for row in rows]},
        items=[row["item"] for row in rows],
    )
    test = ScoredPairs(chosen_scores, rejected_scores, chosen, rejected, prompts=prompts)
    return pair_metrics(test, context, train, seed)


def notes(metrics: PairwiseMetrics) -> tuple[str, ...]:
    """Sentences to read beside the verdict: how texts were split, ties, few prompts, a length that decides."""
    lines = [metrics.words] if metrics.words else []
    if metrics.ties:
        lines.append(f"Of the {metrics.n} pairs, {metrics.ties} have equal scores, which counts as wrong.")
    dependent = metrics.dependent
    if dependent is not None and dependent.by == "completion":
        few = "one prompt" if dependent.prompts == 1 else f"{dependent.prompts} prompts"
        lines.append(f"The pairs are of {few}: its accuracy on other prompts is not known.")
    lengths = metrics.slices.get("length")
    rows = {} if lengths is None else {row.name.split()[0]: row.accuracy for row in lengths.rows}
    for bad, good in (("shorter", "longer"), ("longer", "shorter")):
        if len(rows) == 2 and rows[bad].high < 0.5:
            lines.append(
                f"It goes by length: where the {bad} completion was chosen it is right on {rows[bad]} of "
                f"{rows[bad].n}, where the {good} one was on {rows[good]} of {rows[good].n}."
            )
    return tuple(lines)


def _items(margins: NDArray[np.float64], context: PairContext, level: float) -> WholeRows | None:
    whole = whole_items(margins, context.items) if context.items else None
    if whole is None:
        return None
    least, first = whole
    tables = {name: by_name(least, [values[i] for i in first], level) for name, values in context.columns.items()}
    slices = {name: table for name, table in tables.items() if table is not None}
    return WholeRows(pair_accuracy(least, level), slices)


def _gold_margins(test: ScoredPairs) -> list[float]:
    if test.chosen_gold_scores is None or test.rejected_gold_scores is None:
        return []
    return np.abs(np.subtract(test.chosen_gold_scores, test.rejected_gold_scores)).tolist()


def _halves(prompts: Sequence[str]) -> Sequence[str]:
    """The groups that are not split when the pairs are halved: prompts, or the pairs of a single prompt."""
    return prompts if len(set(prompts)) > 1 else [str(i) for i in range(len(prompts))]
