"""Everything that is said of a reward model on one set of pairs. Leaves out reading and scoring them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.evaluation.reward.calibration import cross_fitted, equal_mass
from pipeline.evaluation.reward.pairwise_metrics import ScoredPairs, pair_accuracy, reward_metrics
from pipeline.evaluation.reward.slices import by_length, by_name, by_size, whole_items

if TYPE_CHECKING:
    from numpy.typing import NDArray

Numbers = Sequence[float | None]


@dataclass(frozen=True)
class About:
    """What is known of the pairs besides texts and scores, each (n,), or nothing of it.

    Attributes:
        margins: by how much the choice was won, as the annotators said.
        shares: of the votes, those for the chosen completion, or the probability that it is the right choice.
        columns: values by column, to slice by.
        items: what several pairs belong to, of which all have to be right.
    """

    margins: Numbers = ()
    shares: Numbers = ()
    columns: Mapping[str, Sequence[str | None]] = field(default_factory=dict[str, Sequence[str | None]])
    items: Sequence[str] = ()


def pair_metrics(
    test: ScoredPairs,
    about: About,
    train: Sequence[tuple[str, str]] = (),
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Any]:
    """What :func:`reward_metrics` says, and:

    - ``slices``: tables of :mod:`pipeline.evaluation.reward.slices` by ``length``, ``gold margin``, ``margin``,
      ``confidence`` (of the annotators) and the columns; only those that there are;
    - ``items``: share of items all of whose pairs are right, and slices of it by the columns; None where no item
      has several pairs;
    - ``calibration`` with ``equal_mass`` and ``cross_fitted`` (see :mod:`pipeline.evaluation.reward.calibration`);
    - ``notes``: sentences to read beside the verdict.
    """
    found = reward_metrics(test, train, seed, level)
    margins = np.asarray(test.chosen_scores, np.float64) - np.asarray(test.rejected_scores, np.float64)
    tables = {
        "length": by_length(margins, test.chosen, test.rejected, level),
        "gold margin": by_size(margins, _gold_margins(test), level=level),
        "margin": by_size(margins, about.margins, level=level) if about.margins else None,
        "confidence": by_size(margins, about.shares, level=level) if about.shares else None,
    }
    for name, values in about.columns.items():
        tables[f"column {name}" if name in tables else name] = by_name(margins, values, level)
    found["slices"] = {name: table for name, table in tables.items() if table is not None}
    found["items"] = _items(margins, about, level)
    groups = test.prompts if test.prompts is not None else [str(i) for i in range(len(margins))]
    found["calibration"] |= {
        "equal_mass": equal_mass(margins, seed),
        "cross_fitted": cross_fitted(margins, _halves(groups), seed),
    }
    found["notes"] = notes(found)
    return found


def metrics_of_set(
    chosen_scores: Sequence[float],
    rejected_scores: Sequence[float],
    rows: Sequence[Mapping[str, Any]],
    column: str | None,
    train: Sequence[tuple[str, str]] = (),
    seed: int = 0,
) -> dict[str, Any]:
    """:func:`pair_metrics` of the rows of a set, see :class:`pipeline.scoring.pair_sets.PairRows`.

    Args:
        column: theirs, whose values are in ``slice``.
    """
    chosen, rejected, prompts = ([row[key] for row in rows] for key in ("chosen", "rejected", "prompt"))
    about = About(
        margins=[row["margin"] for row in rows],
        shares=[row["share"] for row in rows],
        columns={} if column is None else {column: [row["slice"] for row in rows]},
        items=[row["item"] for row in rows],
    )
    test = ScoredPairs(chosen_scores, rejected_scores, chosen, rejected, prompts=prompts)
    return pair_metrics(test, about, train, seed)


def notes(found: Mapping[str, Any]) -> list[str]:
    """What a reader of the verdict should know too: how texts were split, ties, few prompts, a length that
    decides."""
    said: list[str] = [found["words"]] if found.get("words") else []
    if found["ties"]:
        said.append(f"Of the {found['n']} pairs, {found['ties']} have equal scores, which counts as wrong.")
    dependent = found["dependent"]
    if dependent is not None and dependent["by"] == "completion":
        few = "one prompt" if dependent["prompts"] == 1 else f"{dependent['prompts']} prompts"
        said.append(f"The pairs are of {few}: how it does on other prompts is not known.")
    rows = {row["name"].split()[0]: row["accuracy"] for row in found["slices"].get("length", {"rows": []})["rows"]}
    for bad, good in (("shorter", "longer"), ("longer", "shorter")):
        if len(rows) == 2 and rows[bad]["high"] < 0.5:
            said.append(
                f"It goes by length: where the {bad} completion was chosen it is right on {_spelled(rows[bad])}, "
                f"where the {good} one was on {_spelled(rows[good])}."
            )
    return said


def _items(margins: NDArray[np.float64], about: About, level: float) -> dict[str, Any] | None:
    whole = whole_items(margins, about.items) if about.items else None
    if whole is None:
        return None
    least, first = whole
    tables = {name: by_name(least, [values[i] for i in first], level) for name, values in about.columns.items()}
    slices = {name: table for name, table in tables.items() if table is not None}
    return {"accuracy": pair_accuracy(least, level).as_dict(), "slices": slices}


def _gold_margins(test: ScoredPairs) -> list[float]:
    if test.chosen_gold_scores is None or test.rejected_gold_scores is None:
        return []
    return np.abs(np.subtract(test.chosen_gold_scores, test.rejected_gold_scores)).tolist()


def _halves(prompts: Sequence[str]) -> Sequence[str]:
    """What is kept together when the pairs are halved: a prompt, or of a single one, each pair."""
    return prompts if len(set(prompts)) > 1 else [str(i) for i in range(len(prompts))]


def _spelled(entry: Mapping[str, Any]) -> str:
    return f"{entry['value']:.2f} [{entry['low']:.2f}, {entry['high']:.2f}] of {entry['n']}"
