"""Tables of an evaluation, as text: every number with its interval, n and the kind of interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.results.measured import RESAMPLED, Measured
from pipeline.results.policy import Evaluation, JudgeVerdicts, SequenceKL, WinRate
from pipeline.results.sides import MEASURES, Change, Side
from pipeline.statistics.intervals import LARGEST_BCA, SMALLEST_BOOTSTRAP, WILSON, Estimate, has_value
from pipeline.statistics.spelling import UNKNOWN, interval, number

Row = tuple[str, str, str, str, str]
"""Metric with its unit, base, policy, difference or note, n and kind of interval."""


@dataclass(frozen=True)
class Table:
    """Text in columns; the first column names the row. A ``compact`` table stays one on a phone."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    compact: bool = False


def mean_interval(n: int | None) -> str:
    """The kind of interval of a mean of ``n`` values."""
    if n is None or n < 2:
        return "no interval"
    if n < SMALLEST_BOOTSTRAP:
        return "Student's t"
    return "bootstrap (BCa)" if n <= LARGEST_BCA else RESAMPLED


def basis(estimate: Estimate | None, kind: str | None = None) -> str:
    """``n = 400, Wilson``. Older versions did not store ``method``; a mean's then follows from its ``n``."""
    if estimate is None:
        return UNKNOWN
    if not estimate.has_limits:
        return f"n = {estimate.n}, no interval"
    return f"n = {estimate.n}, {kind or estimate.method or mean_interval(estimate.n)}"


def metric_rows(evaluation: Evaluation | None) -> list[Row]:
    """The main metrics of a run, as far as measured."""
    if evaluation is None:
        return []
    shares = ((Measured.ENDED, evaluation.ended), (Measured.DEGENERATE, evaluation.degenerate))
    other = evaluation.other_history
    return [
        *_change(Measured.GOLD_SCORE, evaluation.gold_score),
        *_change(Measured.SCORE, evaluation.score),
        *_change(Measured.LEXICON_WORDS, evaluation.lexicon_words),
        *_change(Measured.OTHER_HISTORY, other and other.gold_score),
        *_change(Measured.HISTORY_GAIN, other and other.gain),
        *_win_rows(evaluation),
        *_kl(Measured.KL_K1, evaluation.kl_k1),
        *_change(Measured.LENGTH, evaluation.length),
        *(_shares(metric, sides["base"], sides["policy"]) for metric, sides in shares if sides),
    ]


def more_rows(evaluation: Evaluation | None) -> list[Row]:
    """The further metrics of a run."""
    if evaluation is None:
        return []
    rows = [
        *_change(Measured.ENTROPY, evaluation.entropy),
        *_kl(Measured.KL_K3, evaluation.kl_k3),
        *_kl(Measured.KL_K1_PER_TOKEN, evaluation.kl_k1_per_token),
        *_kl(Measured.KL_K3_PER_TOKEN, evaluation.kl_k3_per_token),
    ]
    count = evaluation.n * (evaluation.completions_per_prompt or 1)
    for metric, sides in (
        (Measured.UNIQUE, evaluation.unique),
        (Measured.DISTINCT_1, evaluation.distinct_1),
        (Measured.DISTINCT_2, evaluation.distinct_2),
        (Measured.DISTINCT_3, evaluation.distinct_3),
        (Measured.REPETITION, evaluation.repetition),
    ):
        if sides:
            base, policy = sides["base"], sides["policy"]
            gap = UNKNOWN if base is None or policy is None else number(policy - base, signed=True)
            rows.append((metric.with_unit, number(base), number(policy), gap, f"{count} completions, no interval"))
    return rows


def _change(metric: Measured, change: Change | None) -> list[Row]:
    if change is None:
        return []
    digits = metric.about.digits
    sides = interval(change.base, digits), interval(change.policy, digits)
    return [(metric.with_unit, *sides, interval(change.difference, digits, signed=True), basis(change.policy))]


def _shares(metric: Measured, base: Estimate, policy: Estimate) -> Row:
    gap = number(policy.value - base.value, signed=True)
    return metric.with_unit, interval(base), interval(policy), gap, basis(policy, metric.about.interval)


def _win_rows(evaluation: Evaluation) -> list[Row]:
    rows: list[Row] = []
    for measure, name in MEASURES.items():
        label = f"Win rate by {name} score"
        if wins := evaluation.win_rate.get(measure):
            rows.append((label, UNKNOWN, interval(wins), _counts(wins), basis(wins, WILSON)))
        if equal := evaluation.length_controlled_win_rate.get(measure):
            note = equal.reason or "if both were equally long"
            rows.append((f"{label}, at equal length", UNKNOWN, interval(equal), note, basis(equal, RESAMPLED)))
    return rows


def _kl(metric: Measured, kl: Estimate | None) -> list[Row]:
    if kl is None:
        return []
    error = kl.standard_error if isinstance(kl, SequenceKL) else math.nan
    note = f"standard error {number(error)}" if math.isfinite(error) else UNKNOWN
    return [(metric.with_unit, UNKNOWN, interval(kl, metric.about.digits), note, basis(kl))]


def by_seed(evaluation: Evaluation | None) -> str:
    """A sentence with the score's difference of each sampling seed; empty for one seed."""
    seeds = evaluation.seeds if evaluation else ()
    if len(seeds) < 2:
        return ""
    what = "proxy" if seeds[0].gold_score is None else "gold"
    changes = [(s.seed, s.score if what == "proxy" else s.gold_score) for s in seeds]
    each = ", ".join(f"{number(change, signed=True)} (seed {seed})" for seed, change in changes)
    return f"By the seed of sampling, the {what} score's difference: {each}."


def judge_table(evaluation: Evaluation | None) -> Table | None:
    """The further judges, and how far to trust each; None without any."""
    if evaluation is None or not evaluation.judges:
        return None
    rows: list[tuple[str, ...]] = []
    for name, judge in evaluation.judges.items():
        wins, equal = judge.win_rate, judge.length_controlled_win_rate
        at_equal_length = interval(equal) if has_value(equal) else equal.reason or UNKNOWN
        rows.append((name, interval(wins), at_equal_length, _counts(wins), basis(wins, WILSON), trust(judge)))
    head = ("judge", "win rate", "at equal length", "completions", "n, interval", "how far to trust it")
    return Table("Other judges", head, rows, "At equal length: bootstrap (percentile) over the same prompts.")


def reference_table(evaluation: Evaluation | None) -> Table | None:
    """Base and policy among the task's references, and what happened to each; None without any."""
    if evaluation is None or evaluation.gold_score is None or not (evaluation.references or evaluation.events):
        return None
    gold, events = evaluation.gold_score, list(evaluation.events)
    beside: dict[Side, tuple[str, str]] = {
        "policy": (interval(gold.policy), UNKNOWN),
        "base": (interval(gold.base), interval(gold.difference, signed=True)),
    }
    sides = [
        (side, *cells, *(interval(evaluation.events[event].get(side)) for event in events))
        for side, cells in beside.items()
    ]
    others = [
        (
            name,
            interval(reference.gold_score.base),
            interval(reference.gold_score.difference, signed=True),
            *(interval(reference.events.get(event)) for event in events),
        )
        for name, reference in evaluation.references.items()
    ]
    note = (
        f"The same {evaluation.n} prompts. Differences are paired by prompt, {mean_interval(evaluation.n)}; "
        f"shares: {WILSON}. What learns nothing is no judge: it shows what the gold score gives to it."
    )
    head = ("who", "gold score", "the policy's less that", *events)
    return Table("Beside what learns nothing", head, [*sides, *others], note)


def trust(judge: JudgeVerdicts) -> str:
    """Position bias, contradictions and abstentions of a language model; the mean score of a scorer."""
    if judge.trust is None:
        return f"a scorer, mean {interval(judge.score and judge.score.difference, signed=True)} higher for PPO"
    bias, contradicts, abstentions = judge.trust.position_bias, judge.trust.disagreement, judge.trust.abstentions
    silent = sum(abstentions.values())
    reasons = ", ".join(f"{count} {reason}" for reason, count in abstentions.items())
    doubt = "" if judge.trust.doubt is None else "NOT TO BE TRUSTED: "
    return (
        f"{doubt}names the first-shown one {interval(bias)} of the time (0.50 is no bias, n = {bias.n}); "
        f"contradicts itself on {interval(contradicts)} of pairs (n = {contradicts.n}); no answer: {silent}"
        f"{f' ({reasons})' if silent else ''}"
    )


def best_of_n_table(evaluation: Evaluation | None) -> Table | None:
    """Best-of-n from the base and the policy on the same prompts, and their difference at equal KL."""
    if evaluation is None or not evaluation.best_of_n.rows:
        return None
    best = evaluation.best_of_n
    measures = {measure: name for measure, name in MEASURES.items() if best.rows[0].means.get(measure)}
    rows: list[tuple[str, ...]] = []
    for row in best.rows:
        label = "base" if row.n == 1 else f"best of {row.n}"
        rows.append((label, number(row.kl_bound), *(interval(row.means[m]) for m in measures)))
    lines = [best.yardstick[m] for m in measures]
    rows.append(("PPO", number(lines[0].policy_kl_k1), *(interval(line.policy) for line in lines)))
    n, at = lines[0].compared[0], "equal" if lines[0].within else "less"
    differences = (interval(line.compared[1], signed=True) for line in lines)
    rows.append((f"PPO − best of {n}, at {at} KL", UNKNOWN, *differences))
    note = (
        f"The same {best.prompts} prompts, {best.samples} completions each; 95 %, {mean_interval(best.prompts)}, "
        "differences paired by prompt. KL of best-of-n is its upper bound, log n − (n − 1) / n; PPO's is k1."
    )
    head = ("who", "KL (nats)", *measures.values())
    return Table("Best-of-n and PPO", head, rows, note, compact=True)


def law_table(evaluation: Evaluation | None) -> Table | None:
    """The coefficients of the fitted laws of Gao et al.; None without any."""
    if evaluation is None:
        return None
    laws, curves = evaluation.best_of_n.laws, evaluation.overoptimisation
    fits = [
        ("best-of-n, gold", laws.get("gold_score")),
        ("best-of-n, proxy", laws.get("score")),
        ("PPO, over the run, gold", curves.training and curves.training.law),
        ("PPO, over several runs, gold", curves.sweep and curves.sweep.law),
    ]
    rows: list[tuple[str, ...]] = []
    for name, law in fits:
        if law is None or law.reason is not None:
            continue
        best = UNKNOWN if law.peak is None else f"{number(law.peak.kl, 1)}{'' if law.peak.within else ' *'}"
        rows.append((name, interval(law.alpha), interval(law.beta), f"{number(law.r2)}, {law.points}", best))
    if not rows:
        return None
    note = (
        "Gain over the base at d = √KL (Gao et al. 2023, arXiv:2210.10760): d (α − β d) for best-of-n, "
        "d (α − β log d) for PPO. 95 %: bootstrap over prompts for best-of-n and several runs, Student's t from "
        "the residuals over one run. * beyond the points: extrapolated."
    )
    return Table("Fitted laws", ("curve", "α", "β", "R², points", "best at KL"), rows, note, compact=True)


def _counts(wins: WinRate) -> str:
    return f"{wins.wins} won, {wins.ties} tied (half), {wins.losses} lost"
