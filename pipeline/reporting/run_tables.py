"""What a page's tables say, as text: every number with its interval, how many it is of, how that was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.statistics.intervals import LARGEST_BCA, SMALLEST_BOOTSTRAP, WILSON
from pipeline.statistics.spelling import UNKNOWN, dig, interval, number

Stats = Mapping[str, Any]

Row = tuple[str, str, str, str, str]
"""Metric with its unit, base, policy, difference or note, n and kind of interval."""

RESAMPLED, NEWCOMBE = "bootstrap (percentile)", "Newcombe"


@dataclass(frozen=True)
class Table:
    """Text in columns; the first one names the row. ``compact`` stays a table on a phone."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    compact: bool = False


def mean_interval(n: int | None) -> str:
    """How the interval of a mean of ``n`` values is made, as a rule."""
    if n is None or n < 2:
        return "no interval"
    if n < SMALLEST_BOOTSTRAP:
        return "Student's t"
    return "bootstrap (BCa)" if n <= LARGEST_BCA else RESAMPLED


def basis(entry: Mapping[str, Any] | None, kind: str | None = None) -> str:
    """``n = 400, Wilson``. A mean whose ``method`` is not stored (older versions) has that of its ``n``."""
    n = dig(entry, "n")
    if n is None:
        return UNKNOWN
    if dig(entry, "low") is None:
        return f"n = {n}, no interval"
    return f"n = {n}, {kind or dig(entry, 'method') or mean_interval(n)}"


def metric_rows(stats: Stats | None) -> list[Row]:
    """What a run is judged by, for all of it that ``stats`` holds."""
    rows = _changes(
        stats,
        ("gold_score", "Gold score", 2),
        ("score", "Proxy score (the reward)", 2),
        ("lexicon_words", "Words that the gold score's lexicon knows, per text", 1),
    )
    rows += [*_win_rows(stats), *_kl_rows(stats, ("kl_k1", "KL k1 (nats per completion)", 2))]
    rows += _changes(stats, ("length", "Length (tokens)", 1))
    for key, label in (("ended", "Ended by itself (share)"), ("degenerate", "Degenerate (share)")):
        if dig(stats, key):
            base, policy = (dig(stats, key, side) for side in ("base", "policy"))
            rows.append((label, interval(base), interval(policy), _gap(base, policy), basis(policy, WILSON)))
    return rows


def more_rows(stats: Stats | None) -> list[Row]:
    """What else was measured."""
    rows = _changes(stats, ("entropy", "Entropy of the next token (nats)", 2))
    rows += _kl_rows(
        stats,
        ("kl_k3", "KL k3 (nats per completion)", 2),
        ("kl_k1_per_token", "KL k1 (nats per token)", 3),
        ("kl_k3_per_token", "KL k3 (nats per token)", 3),
    )
    count = (dig(stats, "n") or 0) * (dig(stats, "completions_per_prompt") or 1)
    for key, label in (
        ("unique", "Unique completions (share)"),
        ("distinct_1", "Distinct words (share)"),
        ("distinct_2", "Distinct word pairs (share)"),
        ("distinct_3", "Distinct word triples (share)"),
        ("repetition", "Repeated 4-grams within a completion (share)"),
    ):
        if dig(stats, key):
            base, policy = (dig(stats, key, side) for side in ("base", "policy"))
            gap = _gap({"value": base}, {"value": policy})
            rows.append((label, number(base), number(policy), gap, f"{count} completions, no interval"))
    return rows


def _changes(stats: Stats | None, *wanted: tuple[str, str, int]) -> list[Row]:
    rows: list[Row] = []
    for key, label, digits in wanted:
        if dig(stats, key):
            base, policy, change = (dig(stats, key, part) for part in ("base", "policy", "difference"))
            cells = (interval(base, digits), interval(policy, digits), interval(change, digits, True))
            rows.append((label, *cells, basis(policy)))
    return rows


def _win_rows(stats: Stats | None) -> list[Row]:
    rows: list[Row] = []
    for key, label in (("gold_score", "gold score"), ("score", "proxy score")):
        wins = dig(stats, "win_rate", key)
        if wins:
            rows.append((f"Win rate by {label}", UNKNOWN, interval(wins), _counts(wins), basis(wins, WILSON)))
        equal = dig(stats, "length_controlled_win_rate", key)
        if equal:
            note = equal["reason"] or "if both were equally long"
            label = f"Win rate by {label}, at equal length"
            rows.append((label, UNKNOWN, interval(equal), note, basis(equal, RESAMPLED)))
    return rows


def _kl_rows(stats: Stats | None, *wanted: tuple[str, str, int]) -> list[Row]:
    rows: list[Row] = []
    for key, label, digits in wanted:
        kl = dig(stats, key)
        if kl:
            error = kl.get("standard_error")
            note = UNKNOWN if error is None else f"standard error {number(error)}"
            rows.append((label, UNKNOWN, interval(kl, digits), note, basis(kl)))
    return rows


def by_seed(stats: Stats | None) -> str:
    """The difference of each sampling seed alone, as a sentence; empty for one seed."""
    seeds = dig(stats, "seeds") or []
    if len(seeds) < 2:
        return ""
    key, what = ("gold_score", "gold") if seeds[0].get("gold_score") is not None else ("score", "proxy")
    each = ", ".join(f"{number(s[key], signed=True)} (seed {s['seed']})" for s in seeds)
    return f"By the seed of sampling, the {what} score's difference: {each}."


def judge_table(stats: Stats | None) -> Table | None:
    """Judges that were asked besides, and how far each is to be trusted; None without any."""
    judges = dig(stats, "judges")
    if not judges:
        return None
    rows: list[tuple[str, ...]] = []
    for name, found in judges.items():
        wins, equal = found["win_rate"], found["length_controlled_win_rate"]
        rows.append((name, interval(wins), interval(equal) if equal["value"] is not None else equal["reason"],
                     _counts(wins), basis(wins, WILSON), trust(found)))  # fmt: skip
    head = ("judge", "win rate", "at equal length", "completions", "n, interval", "how far to trust it")
    return Table("Other judges", head, rows, "At equal length: bootstrap (percentile) over the same prompts.")


def trust(judged: Mapping[str, Any]) -> str:
    """A language model's position bias, contradictions and abstentions; of a scorer its mean scores."""
    if judged["kind"] == "scorer":
        return f"a scorer, mean {interval(dig(judged, 'score', 'difference'), signed=True)} higher for PPO"
    bias, contradicts = judged["position_bias"], judged["disagreement"]
    silent = sum(judged["abstentions"].values())
    reasons = ", ".join(f"{count} {reason}" for reason, count in judged["abstentions"].items())
    return (
        f"names the first-shown one {interval(bias)} of the time (0.50 is no bias, n = {bias['n']}); contradicts "
        f"itself on {interval(contradicts)} of pairs (n = {contradicts['n']}); no answer: {silent}"
        f"{f' ({reasons})' if silent else ''}"
    )


def best_of_n_table(stats: Stats | None) -> Table | None:
    """Best-of-n from the base, the policy on the same prompts, and their difference at equal KL."""
    found = dig(stats, "best_of_n")
    if not dig(found, "rows"):
        return None
    measures = [(k, name) for k, name in (("gold_score", "gold"), ("score", "proxy")) if k in found["rows"][0]]
    rows: list[tuple[str, ...]] = []
    for row in found["rows"]:
        label = "base" if row["n"] == 1 else f"best of {row['n']}"
        rows.append((label, number(row["kl_bound"]), *(interval(row[k]) for k, _ in measures)))
    lines = [found["yardstick"][k] for k, _ in measures]
    rows.append(("PPO", number(lines[0]["policy_kl_k1"]), *(interval(one["policy"]) for one in lines)))
    first = lines[0]
    if first["within"]:
        label, differences = (
            f"PPO − best of {first['n_needed']}, at equal KL",
            [one["difference"] for one in lines],
        )
    else:
        label = f"PPO − best of {first['largest']['n']}, at less KL"
        differences = [one["largest"]["difference"] for one in lines]
    rows.append((label, UNKNOWN, *(interval(d, signed=True) for d in differences)))
    prompts = found["prompts"]
    note = (
        f"The same {prompts} prompts, {found['samples']} completions each; 95 %, {mean_interval(prompts)}, "
        "differences paired by prompt. KL of best-of-n is its upper bound, log n − (n − 1) / n; PPO's is k1."
    )
    return Table(
        "Best-of-n and PPO", ("who", "KL (nats)", *(name for _, name in measures)), rows, note, compact=True
    )


def law_table(stats: Stats | None) -> Table | None:
    """The fitted laws of Gao et al. with their coefficients; None where none was fitted."""
    fits = [
        ("best-of-n, gold", dig(stats, "best_of_n", "laws", "gold_score")),
        ("best-of-n, proxy", dig(stats, "best_of_n", "laws", "score")),
        ("PPO, over the run, gold", dig(stats, "overoptimisation", "training", "law")),
        ("PPO, over several runs, gold", dig(stats, "overoptimisation", "sweep", "law")),
    ]
    rows: list[tuple[str, ...]] = []
    for name, fit in fits:
        if not fit or fit["reason"] is not None:
            continue
        peak = fit["peak"]
        at = UNKNOWN if peak is None else f"{number(peak['kl'], 1)}{'' if peak['within'] else ' *'}"
        fitted = f"{number(fit['r2'])}, {fit['points']}"
        rows.append((name, interval(fit["alpha"]), interval(fit["beta"]), fitted, at))
    if not rows:
        return None
    note = (
        "Gain over the base at d = √KL (Gao et al. 2023, arXiv:2210.10760): d (α − β d) for best-of-n, "
        "d (α − β log d) for PPO. 95 %: bootstrap over prompts for best-of-n and several runs, Student's t from "
        "the residuals over one run. * beyond the points: extrapolated."
    )
    return Table("Fitted laws", ("curve", "α", "β", "R², points", "best at KL"), rows, note, compact=True)


def _counts(wins: Mapping[str, Any]) -> str:
    return f"{wins['wins']} won, {wins['ties']} tied (half), {wins['losses']} lost"


def _gap(base: Mapping[str, Any] | None, policy: Mapping[str, Any] | None) -> str:
    first, second = dig(base, "value"), dig(policy, "value")
    return UNKNOWN if first is None or second is None else number(second - first, signed=True)
