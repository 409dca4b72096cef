"""screen: how many of a policy's completions a harm screen flags, beside its base on the same prompts."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from pipeline.base.cli import as_called
from pipeline.base.errors import ConfigError, DataError
from pipeline.base.files import sha256_file
from pipeline.base.process import quiet, say
from pipeline.base.records import digest
from pipeline.base.terminal_text import escape_for_terminal, put, put_json
from pipeline.evaluation.policy.flag_rates import flag_rates
from pipeline.modeling.loading import at_commit
from pipeline.reporting.harm_rows import percent
from pipeline.reporting.runs import PolicyRun, find_run
from pipeline.results.screening import Screen as ScreenResult
from pipeline.results.screening import Screening, harm_rate_over_base
from pipeline.results.sides import SIDES
from pipeline.results.stats import from_json, to_json
from pipeline.scoring.harm.screens import FOLDER, ClassifierScreen, Screen, WordScreen, probe
from pipeline.statistics.bootstrap import Resampling
from pipeline.statistics.intervals import wilson
from pipeline.store.store import Store, Version
from pipeline.trainers.arguments import has_accelerator
from pipeline.workflow.graph import External

FORMAT = 1
"""Raised when the same evaluation gives other stats; see ``FORMATS`` in pipeline/workflow/work_key.py."""

ROWS = {"id": "string", "screen": "string", "base_flags": "string", "policy_flags": "string"}
"""Of the split ``test``: the evaluation's row, by its ``id``; labels that hold, joined by commas. No texts."""

Row = dict[str, Any]


def main(argv: list[str] | None = None) -> int:
    """Screen, and print the rates; of ``--probe``, how far the screens are right.

    Raises:
        PipelineError: there is no such policy or evaluation, or the classifier cannot be used.
    """
    args = _parser().parse_args(argv)
    if not args.probe and args.policy is None:
        raise ConfigError("command line", "names no policy.", "screen demo-policy@v1, or screen --probe")
    if not 0 < args.threshold < 1:
        raise ConfigError("--threshold", f"is {args.threshold}, not a probability between 0 and 1.")
    if args.classifier is None and (args.labels or args.revision):
        raise ConfigError("--labels" if args.labels else "--revision", "is of a classifier.", "Add --classifier.")
    quiet()
    store = Store(args.root)
    if args.probe:
        measured = [probe_figures(screen) for screen in _screens(store, args)]
        put_json(measured) if args.json else put("\n\n".join("\n".join(probe_lines(m)) for m in measured))
        return 0
    version = screened(store, args)
    screening = from_json(Screening, version.manifest.stats, version.ref)
    if args.json:
        put_json({"version": version.ref, **to_json(screening)})
        return 0
    put("\n".join(lines(screening)))
    for line in shown(store, version, args.show):
        put(line)
    return 0


def screened(store: Store, args: argparse.Namespace) -> Version:
    """The ``screening`` version of a policy's newest evaluation with these screens, made unless it is there.

    Raises:
        PipelineError: see :func:`main`.
    """
    run = find_run(store, args.policy)
    key = _key(store, run, args)
    name = f"{run.evaluation.name.removesuffix('-evaluation')}-screening"
    if (made := store.find(name, key)) is not None:
        say("screen", f"up to date: {made.ref}")
        return made
    rows = run.evaluation.rows("test")
    draws = run.results.completions_per_prompt or 1
    if not rows or len(rows) % draws:
        raise DataError(run.evaluation.where, "holds no whole prompts.", "Evaluate again: make evaluate")
    results: dict[str, ScreenResult] = {}
    flagged: list[Row] = []
    for screen in _screens(store, args):
        say("screen", f"{2 * len(rows)} completions by {screen.name}")
        results[screen.name], labels = screen_rows(
            screen, rows, draws, Resampling(run.evaluation.manifest.seed or 0)
        )
        flagged += [{"id": row["id"], "screen": screen.name, **own} for row, own in zip(rows, labels, strict=True)]
    screening = Screening(n=len(rows) // draws, completions_per_prompt=draws, screens=results)
    config = {"classifier": args.classifier, "labels": args.labels, "threshold": args.threshold}
    parents = [(run.evaluation, "evaluation"), (run.policy, "policy")]
    manifest = run.policy.manifest
    with store.draft(
        name, kind="screening", stage="screen", key=key, parents=parents, config=config, seed=manifest.seed
    ) as draft:
        draft.write_rows("test", flagged, schema=ROWS)
        draft.stats.update(to_json(screening))
    say("screen", f"wrote {draft.version.ref}")
    return draft.version


def screen_rows(
    screen: Screen, rows: Sequence[Row], draws: int, resampling: Resampling
) -> tuple[ScreenResult, list[Row]]:
    """The rates of both sides, and which labels hold of each row.

    Args:
        rows: of an evaluation, those of one prompt together.
    """
    before = screen.truncated
    flags = {side: screen.flags([row[f"{side}_completion"] for row in rows]) for side in SIDES}
    whole = {side: [any(of) for of in zip(*flags[side].values(), strict=True)] for side in SIDES}
    result = ScreenResult(
        kind=screen.kind,
        labels=list(screen.labels),
        threshold=screen.threshold,
        truncated=screen.truncated - before,
        flagged=flag_rates(whole["base"], whole["policy"], draws, resampling),
        by_label={
            label: flag_rates(flags["base"][label], flags["policy"][label], draws, resampling)
            for label in screen.labels
        },
    )
    labels = [
        {f"{side}_flags": ",".join(label for label in screen.labels if flags[side][label][i]) for side in SIDES}
        for i in range(len(rows))
    ]
    return result, labels


def lines(screening: Screening) -> Iterator[str]:
    """The rates as lines of a terminal."""
    texts = screening.n * screening.completions_per_prompt
    for name, screen in screening.screens.items():
        yield f"{name}: {texts} completions of each side, n counts {screening.n} prompts"
        yield f"{'flagged for':<24}{'base':>22}{'policy':>22}   difference"
        for label, change in {"any": screen.flagged, **screen.by_label}.items():
            sides = f"{percent(change.base):>22}{percent(change.policy):>22}"
            yield f"{escape_for_terminal(label):<24.24}{sides}   {percent(change.difference, signed=True)}"
        if screen.truncated:
            yield f"longer than the classifier reads, and cut: {screen.truncated}"
        yield ""
    yield f"harm over base: {percent(harm_rate_over_base(screening), signed=True)}, by {screening.main[0]}"
    yield "A rate beside the base's: a screen errs, see screen --probe, and says nothing sure about one text."


def shown(store: Store, screening: Version, most: int) -> Iterator[str]:
    """The first flagged completions of each side, to read for oneself."""
    if not most:
        return
    parent = next(p for p in screening.manifest.parents if p.role == "evaluation")
    texts = {row["id"]: row for row in store.resolve(parent.ref).iter_rows("test")}
    for name, rows in groupby(screening.iter_rows("test"), key=lambda row: row["screen"]):
        own = list(rows)
        for side in SIDES:
            for row in [row for row in own if row[f"{side}_flags"]][:most]:
                text = escape_for_terminal(texts[row["id"]][f"{side}_completion"])
                yield f"{name}, {side}, {row[f'{side}_flags']}: {text}"


def probe_figures(screen: Screen) -> Row:
    """How often the screen flags harmful texts (recall) and harmless ones (false alarms), by kind of text."""
    texts = probe()
    flagged = [any(of) for of in zip(*screen.flags([p.text for p in texts]).values(), strict=True)]
    counts = Counter[tuple[bool, str]]()
    hits = Counter[tuple[bool, str]]()
    for text, flag in zip(texts, flagged, strict=True):
        for kind in ("all", text.kind):
            counts[text.harmful, kind] += 1
            hits[text.harmful, kind] += flag
    shares = {group: to_json(wilson(hits[group], n)) for group, n in counts.items()}
    return {
        "screen": screen.name,
        "recall": {kind: share for (harmful, kind), share in shares.items() if harmful},
        "false_alarms": {kind: share for (harmful, kind), share in shares.items() if not harmful},
    }


def probe_lines(measured: Mapping[str, Any]) -> Iterator[str]:
    """The figures of :func:`probe_figures` as lines of a terminal."""
    yield f"{measured['screen']}: of texts whose truth is known, flagged with Wilson's 95 %"
    for title, key in (("harmful", "recall"), ("harmless", "false_alarms")):
        for kind, share in measured[key].items():
            low, high = 100 * share["low"], 100 * share["high"]
            what = f"{title}, {kind}"
            yield f"  {what:<22}{share['n']:>4}  {100 * share['value']:5.1f} % [{low:.1f}, {high:.1f}]"


def _screens(store: Store, args: argparse.Namespace) -> Iterator[Screen]:
    yield WordScreen()
    if args.classifier is not None:
        version = store.find_version(args.classifier)
        yield ClassifierScreen.load(
            args.classifier if version is None else str(version.path),
            revision=args.revision,
            labels=args.labels,
            threshold=args.threshold,
            device="cuda" if has_accelerator() else "cpu",
            name=args.classifier,
        )


def _key(store: Store, run: PolicyRun, args: argparse.Namespace) -> str:
    """The key of a screening: an equal one is not made again."""
    classifier = None
    if args.classifier is not None:
        version = store.find_version(args.classifier)
        commit = None if version is not None else at_commit(args.classifier, args.revision)
        classifier = version.id if version is not None else External(args.classifier, commit).id
    words = sha256_file(FOLDER / "words.tsv")
    labels = [args.labels, args.threshold] if args.classifier else []
    return digest(["screen", run.evaluation.id, run.policy.id, words, classifier, labels, FORMAT])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=as_called("pipeline screen"),
        description="How many of a policy's completions a screen of harm flags, beside its base's on the same "
        "held-out prompts. Reads the newest evaluation; samples nothing. A rate, never a judgement of one text.",
    )
    parser.add_argument("policy", nargs="?", metavar="POLICY", help="such as demo-policy@v1, or an experiment")
    parser.add_argument("--classifier", metavar="MODEL", help="a text classifier: Hub id, directory or version")
    parser.add_argument("--labels", nargs="+", default=[], metavar="LABEL", help="of the classifier, that count")
    parser.add_argument("--threshold", type=float, default=0.5, help="probability from which a label counts (0.5)")
    parser.add_argument("--revision", help="of a classifier on the Hub")
    parser.add_argument(
        "--show", type=int, default=0, metavar="N", help="print N flagged completions of each side"
    )
    parser.add_argument(
        "--probe", action="store_true", help="measure the screens themselves, on texts of known truth"
    )
    parser.add_argument("--root", default="data", help="the data directory (default: data)")
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")
    return parser
