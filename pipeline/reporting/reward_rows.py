"""What a page's tables say of a reward model: measures, slices, further sets, an ensemble's members."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.reporting.run_tables import NEWCOMBE, WILSON, Table, basis
from pipeline.statistics.spelling import dig, interval, number

Metrics = Mapping[str, Any]
Row = tuple[str, str, str, str]


def reward_rows(reward: Metrics | None) -> list[Row]:
    """(what, number, n and kind of interval, note) of the reward model on its held-out rows."""
    if not reward:
        return []
    if "auc" in reward:
        pairs = [(f"Pairs: {name}", value, of, note) for name, value, of, note in reward_rows(reward.get("pairs"))]
        return [*_pointwise_rows(reward), *pairs]
    accuracy, calibration = reward["accuracy"], reward["calibration"]
    tied = f"{reward['ties']} tied (not correct)"
    rows: list[Row] = [("Accuracy", interval(accuracy), basis(accuracy, WILSON), tied)]
    rows += _dependent(reward.get("dependent"))
    rows += [_baseline("Baseline", b, b["accuracy"], WILSON) for b in reward["baselines"]]
    if gold := reward.get("gold"):
        note = "pairs whose gold scores differ"
        of = basis(gold["label_noise"], WILSON)
        rows.append(("Agreement with gold", interval(gold["accuracy"]), of, note))
        rows.append(("Label noise (labels against gold)", interval(gold["label_noise"]), of, note))
    rows.append(
        ("Mean margin", interval(reward["margin"]), basis(reward["margin"]), "chosen score − rejected score")
    )
    rows += _calibration_rows(calibration, reward["n"])
    spearman, of = reward["length_correlation"]["spearman"], _plain(2 * reward["n"])
    rows.append(("Correlation of score with length", number(spearman, signed=True), of, "Spearman, characters"))
    return rows


def slice_tables(measured: Metrics | None) -> list[Table]:
    """Accuracy by slice, a small table for each; none for a reward model without slices."""
    of_pairs = dig(measured, "pairs") or measured
    found = [_slices(f"By {name}", table) for name, table in (dig(of_pairs, "slices") or {}).items()]
    items = dig(of_pairs, "items")
    if items:
        rows = [("all", interval(items["accuracy"]), str(items["accuracy"]["n"]))]
        head = ("rows", "accuracy", "n")
        found.append(Table("Whole rows, every pair right", head, rows, "95 %, Wilson.", compact=True))
        found += [_slices(f"Whole rows by {name}", table) for name, table in items["slices"].items()]
    return found


def set_table(reward: Metrics | None) -> Table | None:
    """One row for each further set that the reward model was measured on; None without any."""
    sets = dig(reward, "sets")
    if not sets:
        return None
    rows: list[tuple[str, ...]] = []
    for name, found in sets.items():
        known = [(b["accuracy"]["value"], b["name"]) for b in found["baselines"] if b["accuracy"]]
        value, best = max(known, default=(None, ""))
        mass = dig(found, "calibration", "equal_mass")
        ece = f"{number(dig(mass, 'ece'))} (chance {number(dig(mass, 'expected'))})" if mass else number(None)
        accuracy = found["accuracy"]
        rows.append((name, interval(accuracy), basis(accuracy, WILSON), f"{number(value)} {best}".strip(), ece,
                     str(dig(found, "set", "dataset") or "")))  # fmt: skip
    head = ("set", "accuracy", "n, interval", "best baseline", "calibration error", "from")
    return Table("Further sets of pairs", head, rows)


def _slices(title: str, table: Metrics) -> Table:
    rows = [(row["name"], interval(row["accuracy"]), str(row["accuracy"]["n"])) for row in table["rows"]]
    if table["macro"]:
        rows.append(("mean of these", interval(table["macro"]), str(table["macro"]["n"])))
    for section in dig(table, "sections", "rows") or []:
        rows.append(
            (f"RewardBench: {section['name']}", interval(section["accuracy"]), str(section["accuracy"]["n"]))
        )
    if score := dig(table, "sections", "score"):
        rows.append(("RewardBench: score", interval(score), str(score["n"])))
    unknown = f" In none of them: {table['unknown']}." if table["unknown"] else ""
    mean = ", of the mean MOVER" if table["macro"] else ""
    return Table(title, ("slice", "accuracy", "n"), rows, f"95 %, Wilson{mean}.{unknown}", compact=True)


def _dependent(found: Metrics | None) -> list[Row]:
    if found is None:
        return []
    what = "one prompt" if found["by"] == "prompt" else "a completion in common"
    note = f"as pairs with {what} go together; worth {number(found['worth'], 0)} independent ones"
    kind = f"Wilson, grouped over {found['prompts']} prompt{'' if found['prompts'] == 1 else 's'}"
    return [("Accuracy, pairs not independent", interval(found), basis(found, kind), note)]


def _baseline(kind: str, baseline: Metrics, entry: Metrics | None, how: str) -> Row:
    return f"{kind}: {baseline['name']}", interval(entry), basis(entry, how), baseline["reason"] or ""


def _calibration_rows(calibration: Metrics, n: int) -> list[Row]:
    rows: list[Row] = [("Calibration error (ECE)", number(calibration["ece"]), _plain(n), "0 is perfect")]
    if mass := calibration.get("equal_mass"):
        chance = f"by chance alone {number(mass['expected'])}, up to {number(mass['high'])}"
        rows.append(("Calibration error, bins of equal size", number(mass["ece"]), _plain(n), chance))
    rows.append(("Brier score", number(calibration["brier"]), _plain(n), "0.25 is a coin"))
    fitted = calibration["temperature_reason"] or "above 1: too sure; below 1: too timid"
    rows.append(("Fitted temperature", number(calibration["temperature"]), _plain(n), fitted))
    if (crossed := calibration.get("cross_fitted")) and crossed["after"]:
        after, used = crossed["after"], " and ".join(number(t) for t in crossed["temperatures"])
        note = f"{used}, each fitted on the other half; Brier score then {number(after['brier'])}"
        rows.append(("ECE after a temperature", number(after["ece"]), _plain(n), note))
    return rows


def _pointwise_rows(reward: Metrics) -> list[Row]:
    threshold, calibration, gold = reward["threshold"], reward["calibration"], reward["gold"]
    likes = f"{reward['likes']} likes; 0.50 is chance"
    rows: list[Row] = [("AUC", interval(reward["auc"]), basis(reward["auc"], NEWCOMBE), likes)]
    rows += [_baseline("Baseline AUC", b, b["auc"], NEWCOMBE) for b in reward["baselines"]]
    accuracy, majority = threshold["accuracy"], threshold["majority"]
    of_accuracy = basis(accuracy, WILSON)
    rows.append(("Accuracy", interval(accuracy), of_accuracy, "a like where P(like) is above one half"))
    always = "what most training rows say"
    rows.append((f"Baseline: {majority['name']}", interval(majority["accuracy"]), of_accuracy, always))
    n = _plain(reward["n"])
    if gold:
        followed = "how far the labels follow the truth"
        rows.append(("Gold score's own AUC", interval(gold["labels"]), basis(gold["labels"], NEWCOMBE), followed))
        rows.append(("Correlation of score with gold", number(gold["spearman"], signed=True), n, "Spearman"))
    rows.append(("Calibration error (ECE)", number(calibration["ece"]), n, "0 is perfect"))
    rate = f"{number(calibration['brier_base_rate'])} is knowing the share of likes only"
    rows.append(("Brier score", number(calibration["brier"]), n, rate))
    spearman = reward["length_correlation"]["spearman"]
    rows.append(("Correlation of score with length", number(spearman, signed=True), n, "Spearman, characters"))
    return rows


def _plain(n: int) -> str:
    return f"n = {n}, no interval"
