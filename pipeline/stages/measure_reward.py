"""``python -m pipeline.reward --evaluate MODEL ... --on SET``: measure reward models, and print a table.

Nothing is trained and no version is written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np

from pipeline.base.cli import as_called
from pipeline.base.errors import ConfigError
from pipeline.base.process import quiet
from pipeline.base.terminal_text import columns, cut, escape_for_terminal, put, put_json
from pipeline.evaluation.reward.ensembles import ensemble_metrics
from pipeline.evaluation.reward.pair_set_metrics import metrics_of_set
from pipeline.formats.detect import Format
from pipeline.formats.read_options import Aggregation
from pipeline.labelling.judgements import Judgements, summary
from pipeline.results.calibration import Calibration
from pipeline.results.reward import EnsembleMetrics, PairwiseMetrics, SliceTable
from pipeline.results.stats import to_json
from pipeline.scoring.build_scorer import Ensemble, ScorerContext, build
from pipeline.scoring.pair_sets import PairRows, parse_sets, read_pairs, score_pairs, score_unit, vote_shares
from pipeline.statistics.intervals import Estimate
from pipeline.statistics.spelling import interval, number
from pipeline.store.store import Store
from pipeline.store.version import Version
from pipeline.trainers.arguments import has_accelerator
from pipeline.workflow.yaml_text import parse_yaml

WHERE = "command line"
WIDTH = 44
Row = dict[str, Any]
Scores = tuple[list[float], list[float], float]
"""Raw scores of the chosen and of the rejected completions, and the unit of the scores."""


def main(argv: list[str]) -> int:
    """Measure and print.

    Raises:
        PipelineError: see :func:`pipeline.base.cli.run_cli`.
    """
    args = _parser().parse_args(argv)
    quiet()
    store = Store(args.data_dir)
    models = [store.find_version(text) for text in args.evaluate]
    train = {row["id"]: row for version in models for row in _training_rows(store, version)}
    pairs = _pairs(store, args, set(train))
    scored, truncated = _scores(store, args, pairs.rows)
    texts = [(row["chosen"], row["rejected"]) for row in train.values()]
    metrics = metrics_of_set(*_mean(scored), pairs.rows, pairs.report["slice"], texts)
    metrics = replace(metrics, set=pairs.report | {"truncated": truncated})
    ensemble = None
    if len(scored) > 1:
        margins = [np.subtract(chosen, rejected) / unit for chosen, rejected, unit in scored]
        ensemble = ensemble_metrics(margins, args.evaluate)
    for line in pairs.report.get("notices", ()):
        put(f"{pairs.report['dataset']}: {line}", sys.stderr)
    if args.json:
        of_members = {} if ensemble is None else {"ensemble": to_json(ensemble)}
        put_json({"models": args.evaluate, **to_json(metrics), **of_members})
    else:
        put("\n".join(table(metrics, args.evaluate, ensemble)))
    return 0


def table(metrics: PairwiseMetrics, models: Sequence[str], ensemble: EnsembleMetrics | None = None) -> list[str]:
    """The metrics as lines of a terminal."""
    about = metrics.set
    left_out = ", ".join(f"{n} {reason}" for reason, n in about["left_out"].items())
    lines = [
        f"{', '.join(models)} on {about['dataset']} ({about['format']}): {about['pairs']} pairs",
        *([summary(dict(about))] if "votes" in about else []),
        *([f"left out: {left_out}"] if left_out else []),
        *([f"longer than a model can read, and cut: {about['truncated']} texts"] if about["truncated"] else []),
        "",
        metrics.verdict,
        *metrics.notes,
        "",
        _line("", "n", "accuracy"),
        _row("all pairs", metrics.accuracy),
    ]
    dependent = metrics.dependent
    lines += [_row(f"  with a {dependent.by} in common together", dependent)] if dependent else []
    for b in metrics.baselines:
        lines.append(_row(b.name, b.accuracy) if b.accuracy else f"{b.name}: {b.reason}")
    for name, slices in metrics.slices.items():
        lines += ["", *_slices(name, slices)]
    if items := metrics.items:
        lines += ["", _row("whole rows", items.accuracy)]
        for name, slices in items.slices.items():
            lines += _slices(f"whole rows by {name}", slices)
    lines += ["", *_calibration(metrics.calibration)]
    if (spearman := metrics.length_correlation.spearman) is not None:
        lines.append(f"score and length: rank correlation {number(spearman)}")
    return lines + (["", *_ensemble(ensemble)] if ensemble else [])


def _columns(text: str) -> Any:
    return parse_yaml(text, f"{WHERE}, --columns", lines=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=as_called("pipeline.reward --evaluate"),
        description="Measure a reward model, or the mean of several, on a set of pairs. MODEL is a version "
        "(name@v3), a directory or Hub id of an adapter or classifier, or module:function.",
    )
    parser.add_argument("--evaluate", metavar="MODEL", nargs="+", required=True)
    parser.add_argument(
        "--on", metavar="SET", required=True, help="preferences@v3, a file, a directory or a Hub id"
    )
    parser.add_argument("--format", choices=get_args(Format), help="of the set, where it cannot be detected")
    parser.add_argument("--columns", type=_columns, help='such as "{chosen: better, rejected: worse}"')
    parser.add_argument("--split", help="of the set (default: test of a version, else train or the only one)")
    parser.add_argument("--slice", metavar="COLUMN", help="accuracy for each value of this column of the set")
    parser.add_argument("--aggregate", choices=get_args(Aggregation), help="how several votes become one outcome")
    parser.add_argument("--chat-template", help="a tokenizer whose chat template writes out conversations")
    parser.add_argument("--limit", type=int, help="read at most this many rows")
    parser.add_argument("--label", help="of a classifier: the label whose score is the reward")
    parser.add_argument("--data-dir", default="data", help="the data directory (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="everything, as JSON")
    return parser


def _training_rows(store: Store, model: Version | None) -> list[Row]:
    """The pairs that a version was trained on; none for a model from outside the store."""
    parents = [] if model is None else [p for p in model.manifest.parents if p.role == "preferences"]
    versions = [store.resolve(p.ref) for p in parents]
    return [row for version in versions if version.has_split("train") for row in version.iter_rows("train")]


def _pairs(store: Store, args: argparse.Namespace, trained_on: set[str]) -> PairRows:
    version = store.find_version(args.on)
    keys = ("format", "columns", "slice", "chat_template", "limit", "aggregate")
    options = {k: getattr(args, k) for k in keys if getattr(args, k) is not None}
    split = args.split or ("test" if version is not None else None)
    options |= {"dataset": str(version.path) if version is not None else args.on, "split": split}
    pair_set = parse_sets({"on": options}, WHERE, "--on")["on"]
    pairs = read_pairs(pair_set, f"{WHERE}: --on", trained_on, judgements=Judgements)
    if version is None:
        return pairs
    shares = vote_shares(version, split or "test", pairs.rows)
    rows = [row | {"share": share} for row, share in zip(pairs.rows, shares, strict=True)]
    return PairRows(rows, pairs.report | {"dataset": version.ref})


def _scores(store: Store, args: argparse.Namespace, rows: list[Row]) -> tuple[list[Scores], int]:
    """The scores of each model, and how many texts were too long for one."""
    if "adapter" in args.evaluate:
        mend = "Name a version, such as demo-reward@v1."
        raise ConfigError(WHERE, "--evaluate adapter names no model here.", mend)
    context = ScorerContext(WHERE, "cuda" if has_accelerator() else "cpu", store.find_version)
    scorer = build(
        [{"model": text, "label": args.label} if args.label else text for text in args.evaluate],
        context,
        key="--evaluate",
    )
    members = scorer.members if isinstance(scorer, Ensemble) else [scorer]
    scored = [(*score_pairs(member, rows), score_unit(member)) for member in members]
    return scored, sum(getattr(member, "truncated", 0) for member in members)


def _mean(scored: list[Scores]) -> tuple[list[float], list[float]]:
    """The mean of the members' normalised scores, as PPO takes it, on the scale of their raw scores."""
    scale = float(np.mean([unit for _, _, unit in scored]))
    sides = (np.mean([np.divide(scores[side], scores[2]) for scores in scored], axis=0) * scale for side in (0, 1))
    chosen, rejected = (side.tolist() for side in sides)
    return chosen, rejected


def _slices(name: str, table: SliceTable) -> list[str]:
    lines = [name, *(_row(f"  {row.name}", row.accuracy) for row in table.rows)]
    lines += [_row("  mean of these", table.macro)] if table.macro else []
    if table.sections:
        lines += ["RewardBench", *(_row(f"  {row.name}", row.accuracy) for row in table.sections.rows)]
        lines += [_row("  score", table.sections.score)] if table.sections.score else []
    return lines


def _calibration(calibration: Calibration) -> list[str]:
    mass, crossed = calibration.equal_mass, calibration.cross_fitted
    assert mass is not None  # metrics_of_set measures both
    assert crossed is not None
    lines = [
        f"calibration error {number(mass.ece, 3)} (by chance alone {number(mass.expected, 3)}, up to "
        f"{number(mass.high, 3)}), Brier score {number(mass.brier, 3)} (a coin: 0.250)"
    ]
    if crossed.temperatures is None or crossed.after is None:
        return [*lines, f"temperature: none, as {crossed.reason}"]
    first, second = crossed.temperatures
    return [
        *lines,
        f"temperature {first:.2f} and {second:.2f}, each fitted on one half and used on the other: "
        f"calibration error {number(crossed.after.ece, 3)}, Brier score {number(crossed.after.brier, 3)}",
    ]


def _ensemble(ensemble: EnsembleMetrics) -> list[str]:
    return [
        "ensemble",
        *(_row(f"  {member.name}", member.accuracy) for member in ensemble.members),
        _row("  their mean", ensemble.accuracy),
        _row("  mean, where all agree", ensemble.unanimous),
        _row("  mean, where they do not", ensemble.split),
        f"  mean less members: {interval(ensemble.gain, 3, signed=True)}",
        "  telling wrong pairs from right ones, as AUC:",
        _row("    the members' disagreement", ensemble.disagreement),
        _row("    a small mean margin", ensemble.doubt),
    ]


def _row(name: str, estimate: Estimate) -> str:
    return _line(name, f"{estimate.n:,}", interval(estimate))


def _line(name: str, n: str, accuracy: str) -> str:
    # Names of slices come from the data: they may be long, or hold control characters.
    shown = cut(escape_for_terminal(name), WIDTH - 1)
    return f"{shown}{' ' * (WIDTH - columns(shown))}{n:>8}  {accuracy}".rstrip()
