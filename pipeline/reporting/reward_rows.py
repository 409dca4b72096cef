"""Tables of a reward model: measures, slices, further sets of pairs."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.reporting.run_tables import Table, basis
from pipeline.results.calibration import Calibration
from pipeline.results.measured import NEWCOMBE, Measured
from pipeline.results.reward import (
    AucBaseline,
    Baseline,
    DependentAccuracy,
    PointwiseMetrics,
    RewardMetrics,
    SliceTable,
    best_baseline,
)
from pipeline.statistics.intervals import WILSON, Estimate
from pipeline.statistics.spelling import interval, number

Row = tuple[str, str, str, str]
"""Label, number, n and kind of interval, note."""


def reward_rows(reward: RewardMetrics | None) -> list[Row]:
    """The measures on held-out rows."""
    if reward is None:
        return []
    if isinstance(reward, PointwiseMetrics):
        pairs = [(f"Pairs: {name}", value, of, note) for name, value, of, note in reward_rows(reward.pairs)]
        return [*_pointwise_rows(reward), *pairs]
    rows = [_estimate(Measured.PAIR_ACCURACY, reward.accuracy, f"{reward.ties} tied (not correct)")]
    rows += _dependent(reward.dependent)
    rows += _baselines("Baseline", reward.baselines, WILSON)
    rows += _chance(reward, WILSON)
    if gold := reward.gold:
        note = "pairs whose gold scores differ"
        rows.append(_estimate(Measured.GOLD_ACCURACY, gold.accuracy, note))
        rows.append(_estimate(Measured.LABEL_NOISE, gold.label_noise, note))
    rows.append(_estimate(Measured.MARGIN, reward.margin, "chosen score − rejected score"))
    rows += _calibration_rows(reward.calibration, reward.n)
    rows.append(_length_row(reward, 2 * reward.n))
    return rows


def slice_tables(reward: RewardMetrics | None) -> list[Table]:
    """A table of accuracies for each way of slicing."""
    of_pairs = None if reward is None else reward.of_pairs
    if of_pairs is None:
        return []
    tables = [_slices(f"By {name}", table) for name, table in of_pairs.slices.items()]
    if items := of_pairs.items:
        rows = [("all", interval(items.accuracy), str(items.accuracy.n))]
        head = ("rows", "accuracy", "n")
        tables.append(Table("Whole rows, every pair right", head, rows, "95 %, Wilson.", compact=True))
        tables += [_slices(f"Whole rows by {name}", table) for name, table in items.slices.items()]
    return tables


def set_table(reward: RewardMetrics | None) -> Table | None:
    """A table with a row for each further set; None without any."""
    if reward is None or not reward.sets:
        return None
    rows: list[tuple[str, ...]] = []
    for name, measured in reward.sets.items():
        value, best = best_baseline(measured.baselines) or (None, "")
        mass = measured.calibration.equal_mass
        error = number(None) if mass is None else f"{number(mass.ece)} (chance {number(mass.expected)})"
        accuracy, source = measured.accuracy, str(measured.set.get("dataset") or "")
        best = f"{number(value)} {best}".strip()
        rows.append((name, interval(accuracy), basis(accuracy, WILSON), best, error, source))
    head = ("set", "accuracy", "n, interval", "best baseline", "calibration error", "from")
    return Table("Further sets of pairs", head, rows)


def _slices(title: str, table: SliceTable) -> Table:
    rows = [(row.name, interval(row.accuracy), str(row.accuracy.n)) for row in table.rows]
    if table.macro:
        rows.append(("mean of these", interval(table.macro), str(table.macro.n)))
    if table.sections:
        named = [(section.name, section.accuracy) for section in table.sections.rows]
        named += [("score", table.sections.score)] if table.sections.score else []
        rows += [(f"RewardBench: {name}", interval(accuracy), str(accuracy.n)) for name, accuracy in named]
    unknown = f" In none of them: {table.unknown}." if table.unknown else ""
    mean = ", of the mean MOVER" if table.macro else ""
    return Table(title, ("slice", "accuracy", "n"), rows, f"95 %, Wilson{mean}.{unknown}", compact=True)


def _dependent(accuracy: DependentAccuracy | None) -> list[Row]:
    if accuracy is None:
        return []
    what = "one prompt" if accuracy.by == "prompt" else "a completion in common"
    note = f"as pairs with {what} go together; worth {number(accuracy.worth, 0)} independent ones"
    kind = f"Wilson, grouped over {accuracy.prompts} prompt{'' if accuracy.prompts == 1 else 's'}"
    return [(Measured.DEPENDENT.about.label, interval(accuracy), basis(accuracy, kind), note)]


def _baselines(title: str, baselines: Sequence[Baseline] | Sequence[AucBaseline], kind: str) -> list[Row]:
    return [
        (f"{title}: {b.name}", interval(b.estimate), basis(b.estimate, kind), b.reason or "") for b in baselines
    ]


def _chance(reward: RewardMetrics, kind: str) -> list[Row]:
    """Of a reward model at chance, what its cause was concluded from."""
    if (chance := reward.chance) is None:
        return []
    rows = (
        ("Linear probe of the base", chance.probe, "held out"),
        ("The model itself", chance.learnt, "trained on"),
    )
    return [(label, interval(e), basis(e, kind), f"rows that were {how}") for label, e, how in rows]


def _calibration_rows(calibration: Calibration, n: int) -> list[Row]:
    rows = [_plain(Measured.ECE, calibration.ece, n, "0 is perfect")]
    if mass := calibration.equal_mass:
        chance = f"by chance alone {number(mass.expected)}, up to {number(mass.high)}"
        rows.append(_plain(Measured.MASS_ECE, mass.ece, n, chance))
    rows.append(_plain(Measured.BRIER, calibration.brier, n, "0.25 is a coin"))
    fitted = calibration.temperature_reason or "above 1: too sure; below 1: too timid"
    rows.append(_plain(Measured.TEMPERATURE, calibration.temperature, n, fitted))
    if (crossed := calibration.cross_fitted) and crossed.after:
        used = " and ".join(number(t) for t in crossed.temperatures or ())
        note = f"{used}, each fitted on the other half; Brier score then {number(crossed.after.brier)}"
        rows.append(("ECE after a temperature", number(crossed.after.ece), _count(n), note))
    return rows


def _pointwise_rows(reward: PointwiseMetrics) -> list[Row]:
    rows = [_estimate(Measured.AUC, reward.auc, f"{reward.likes} likes; 0.50 is chance")]
    rows += _baselines("Baseline AUC", reward.baselines, NEWCOMBE)
    rows += _chance(reward, NEWCOMBE)
    threshold, gold, n = reward.threshold, reward.gold, reward.n
    rows.append(_estimate(Measured.THRESHOLD, threshold.accuracy, "a like where P(like) is above one half"))
    majority, always = threshold.majority, "what most training rows say"
    of_accuracy = basis(threshold.accuracy, WILSON)
    rows.append((f"Baseline: {majority.name}", interval(majority.accuracy), of_accuracy, always))
    if gold:
        followed = "how far the labels follow the truth"
        rows.append(("Gold score's own AUC", interval(gold.labels), basis(gold.labels, NEWCOMBE), followed))
        spearman = number(gold.spearman, signed=True)
        rows.append(("Correlation of score with gold", spearman, _count(n), "Spearman"))
    rows.append(_plain(Measured.ECE, reward.calibration.ece, n, "0 is perfect"))
    rate = f"{number(reward.calibration.brier_base_rate)} is knowing the share of likes only"
    rows.append(_plain(Measured.BRIER, reward.calibration.brier, n, rate))
    return [*rows, _length_row(reward, n)]


def _length_row(reward: RewardMetrics, n: int) -> Row:
    spearman = number(reward.length_correlation.spearman, signed=True)
    return Measured.LENGTH_CORRELATION.about.label, spearman, _count(n), "Spearman, characters"


def _estimate(metric: Measured, estimate: Estimate, note: str) -> Row:
    return metric.about.label, interval(estimate), basis(estimate, metric.about.interval or None), note


def _plain(metric: Measured, value: float | None, n: int, note: str) -> Row:
    return metric.about.label, number(value), _count(n), note


def _count(n: int) -> str:
    return f"n = {n}, no interval"
