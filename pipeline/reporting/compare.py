"""Write one page that compares runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.evaluation.policy.across_runs import PairedMeasure, SharedPrompts
from pipeline.evaluation.policy.headline import direction
from pipeline.evaluation.policy.headline import diversity as diversity_sentence
from pipeline.health import Finding
from pipeline.reporting import runs
from pipeline.reporting.figures import compare, frontier
from pipeline.reporting.page import environment
from pipeline.reporting.pictures import Drawn, saved
from pipeline.reporting.run_tables import Table, mean_interval
from pipeline.reporting.runs import PolicyRun
from pipeline.reporting.svg import safe_svg
from pipeline.results.measured import Measured
from pipeline.results.sides import MEASURES, Measure
from pipeline.statistics.intervals import WILSON, Estimate, has_value
from pipeline.statistics.spelling import UNKNOWN, interval, number

NAMES: dict[PairedMeasure, str] = {
    "gold_score": "Gold score",
    "score": "Proxy score",
    "kl_k1": Measured.KL_K1.with_unit,
    "length": Measured.LENGTH.with_unit,
}
# The key in ``Evaluation.figures``, the metric, and a label where it is not the metric's.
ROWS: tuple[tuple[str, Measured, str], ...] = (
    ("gold_score.policy", Measured.GOLD_SCORE, ""),
    ("gold_score.difference", Measured.GOLD_SCORE, "Gold score, policy − base"),
    ("score.difference", Measured.SCORE, "Proxy score, policy − base"),
    ("win_rate.gold_score", Measured.WIN_RATE, "Win rate by gold score"),
    ("length_controlled_win_rate.gold_score", Measured.WIN_RATE_AT_EQUAL_LENGTH,
     "Win rate by gold score, at equal length"),
    ("win_rate.score", Measured.WIN_RATE, "Win rate by proxy score"),
    ("kl_k1", Measured.KL_K1, ""),
    ("diversity.closings.policy", Measured.CLOSINGS, ""),
    ("diversity.closings.ratio", Measured.CLOSINGS_RATIO, ""),
    ("diversity.patterns.ratio", Measured.PATTERNS_RATIO, ""),
    ("diversity.closing.policy.share", Measured.CLOSING, ""),
    ("diversity.ngrams.ratio", Measured.NGRAMS_RATIO, ""),
    ("length.policy", Measured.LENGTH, ""),
    ("ended.policy", Measured.ENDED, ""),
    ("degenerate.policy", Measured.DEGENERATE, ""),
)  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """A run as the page shows it.

    Attributes:
        label: unique on the page.
        findings: the doctor's.
        paired: against the first run; None for the first run.
    """

    label: str
    run: PolicyRun
    findings: Sequence[Finding] = ()
    paired: SharedPrompts | None = None


@dataclass(frozen=True)
class Page:
    """What the base template reads."""

    title: str


def render(compared: Sequence[Compared], pictures_to: Path | None = None) -> str:
    """Render the page as HTML; the pictures are also written into ``pictures_to``."""
    drawn = draw(compared)
    title = (" against " if len(compared) == 2 else ", ").join(c.label for c in compared)
    return (
        environment()
        .get_template("compare.html.jinja")
        .render(
            report=Page(title),
            headline=headline(compared),
            runs=[(c.label, c.run.policy.ref, c.run.evaluation.ref) for c in compared],
            numbers=numbers(compared),
            paired=paired(compared),
            pictures=[(p, safe_svg(p.svg)) for p in saved(drawn, pictures_to)],
            differences=differences(compared),
        )
    )


def headline(compared: Sequence[Compared]) -> str:
    """Compare each run with the first, in gold score where known, paired on shared prompts."""
    sentences = [_against(compared[0].label, run) for run in compared[1:]]
    for run in compared:
        if (diversity := run.run.results.diversity) and diversity.collapse:
            variety = diversity_sentence(run.run.results, diversity.collapse.place)
            sentences.append(f"{run.label} has collapsed: {variety}.")
    for run in compared:
        if serious := [f.rule for f in run.findings if f.severity == "serious"]:
            sentences.append(f"The doctor's findings on {run.label} are serious: {', '.join(serious)}.")
    return " ".join(sentences)


def _against(first: str, run: Compared) -> str:
    shared, measures = (run.paired.prompts, run.paired.measures) if run.paired else (0, {})
    paired = measures.get("gold_score") or measures.get("score")
    if not paired:
        why = "no score that both have" if shared else "no prompt in common"
        return f"{run.label} against {first}: nothing can be said, as there is {why}."
    key = "gold score" if "gold_score" in measures else "proxy score"
    verb = {1: "is higher than", 0: "does not differ measurably from", -1: "is lower than"}
    claim = f"{run.label}'s {key} {verb[direction(paired.difference)]} {first}'s"
    return f"{claim}: {interval(paired.difference, signed=True)}, paired on {shared} prompts."


def numbers(compared: Sequence[Compared]) -> Table:
    """The main numbers of each run, with n and the kind of interval."""
    rows: list[tuple[str, ...]] = []
    figures = [c.run.results.figures for c in compared]
    for path, metric, label in ROWS:
        estimates = [own.get(path) for own in figures]
        if not any(has_value(e) for e in estimates):
            continue
        kinds = {metric.about.interval or mean_interval(e.n) for e in estimates if e is not None}
        signed = path.endswith(".difference")
        cells = (interval(e, metric.about.digits, signed) for e in estimates)
        rows.append((label or metric.with_unit, *cells, f"n = {_counts(estimates)}, {', '.join(sorted(kinds))}"))
    accuracies = [_accuracy(c) for c in compared]
    if any(accuracies):
        cells = (interval(a) for a in accuracies)
        rows.append(("Reward model's accuracy", *cells, f"n = {_counts(accuracies)}, {WILSON}"))
    kept = [c.run.policy.manifest.stats.get("kept") for c in compared]
    if any(k is not None for k in kept):
        rows.append(("Published update", *(number(k, 0) for k in kept), ""))
    findings = (", ".join(f"{f.rule} ({f.severity})" for f in c.findings) for c in compared)
    rows.append(("Doctor's findings", *(text or "none" for text in findings), ""))
    return Table("", ("metric", *(c.label for c in compared), "n, interval"), rows)


def _counts(estimates: Sequence[Estimate | None]) -> str:
    """``400``, or ``200 / 400`` where runs differ."""
    return " / ".join(dict.fromkeys(UNKNOWN if e is None else str(e.n) for e in estimates))


def paired(compared: Sequence[Compared]) -> list[Table]:
    """A table for each run that shares prompts with the first: the paired differences."""
    first, tables = compared[0], list[Table]()
    for run in compared[1:]:
        if run.paired is None or not run.paired.prompts:
            continue
        rows: list[tuple[str, ...]] = []
        for key, name in NAMES.items():
            if pair := run.paired.measures.get(key):
                digits = 1 if key == "length" else 2
                sides = interval(pair.first, digits), interval(pair.second, digits)
                rows.append((name, *sides, interval(pair.difference, digits, signed=True)))
        n, how = run.paired.prompts, mean_interval(run.paired.prompts)
        note = f"n = {n} prompts that both were evaluated on; 95 %, {how}, the difference paired by prompt."
        if "score" not in run.paired.measures:
            note += " Their proxies differ, so proxy scores cannot be compared."
        head = ("measure", first.label, run.label, "difference")
        tables.append(Table(f"{run.label} less {first.label}", head, rows, note))
    return tables


def differences(compared: Sequence[Compared]) -> Table:
    """The settings that differ between runs."""
    rows = runs.differing([c.run.settings for c in compared], [c.run.inputs for c in compared])
    note = f'Only what differs; "{runs.DEFAULT}" is not set.' if rows else "No setting differs."
    return Table("", ("setting", *(c.label for c in compared)), rows, note)


def draw(compared: Sequence[Compared]) -> list[Drawn]:
    """Draw the runs' curves on common axes, and their results side by side."""
    drawn: list[Drawn] = []
    histories = [(c.label, c.run.history) for c in compared]
    if any(rows for _, rows in histories):
        caption = "Lines: means over an update's completions. Marks: held-out prompts, where the run had any."
        figure = compare.training_overlay(histories)
        drawn.append(Drawn("compare-training", "Reward and KL over time", figure, caption))
    one_proxy = same_proxy(compared)
    for measure, name in MEASURES.items():
        if measure == "score" and not one_proxy:
            continue
        curves = [(c.label, _curves(c, measure)) for c in compared]
        if not any(c.policy for _, c in curves):
            continue
        best_of = next((label for label, c in curves if c.best_of_n), None)
        figure = compare.frontier_overlay(curves, measure, best_of)
        caption = "Small marks: over the run. Large: the published policy, paired with its base by prompt."
        if best_of is not None:
            caption += f" Crosses: best-of-n from the base of {best_of}, with its reward."
        drawn.append(Drawn(f"compare-frontier-{name}", f"Gain in {name} score against KL", figure, caption))
    results = [compare.Result(c.label, c.run.results.figures) for c in compared]
    panels = [p for p in PANELS if any(has_value(r.entries.get(p[0])) for r in results)]
    panels = [p for p in panels if p[0] != "score.difference" or one_proxy]
    if panels:
        caption = (
            "95 % intervals; dashed: no change, or no preference. n and the kinds of interval are in the table."
        )
        figure = compare.results(results, panels)
        drawn.append(Drawn("compare-results", "Results", figure, caption))
    return drawn


PANELS = (
    ("gold_score.difference", "gold score, policy − base", 0.0),
    ("score.difference", "proxy score, policy − base", 0.0),
    ("win_rate.gold_score", "win rate by gold score", 0.5),
    ("length_controlled_win_rate.gold_score", "win rate by gold score, at equal length", 0.5),
)


def same_proxy(compared: Sequence[Compared]) -> bool:
    """Whether all runs have the same reward, so that proxy scores can be compared."""
    ids = [c.run.inputs.get("reward", ("", ""))[1] for c in compared]
    sources = [(c.run.settings.get("ppo") or {}).get("reward") for c in compared]
    return all(content == ids[0] and source == sources[0] for content, source in zip(ids, sources, strict=True))


def _curves(compared: Compared, measure: Measure) -> frontier.Curves:
    ppo = compared.run.policy.manifest.config.get("ppo") or {}
    return frontier.curves(compared.run.results, measure, ppo.get("check") is None)


def _accuracy(compared: Compared) -> Estimate | None:
    """The accuracy of the run's reward model on its held-out pairs."""
    of_pairs = compared.run.reward and compared.run.reward.of_pairs
    return of_pairs and of_pairs.accuracy
