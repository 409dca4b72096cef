"""One page that sets runs side by side. Leaves out finding them, and every calculation: both come in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.evaluation.policy.headline import direction, diversity
from pipeline.health import Finding
from pipeline.reporting import runs
from pipeline.reporting.figures import compare, frontier
from pipeline.reporting.page import environment
from pipeline.reporting.pictures import Drawn, saved
from pipeline.reporting.run_tables import RESAMPLED, Table, mean_interval
from pipeline.reporting.runs import PolicyRun
from pipeline.reporting.svg import safe_svg
from pipeline.statistics.intervals import WILSON
from pipeline.statistics.spelling import UNKNOWN, dig, interval, number

NAMES = {
    "gold_score": "Gold score",
    "score": "Proxy score",
    "kl_k1": "KL k1 (nats per completion)",
    "length": "Length (tokens)",
}
# Where it is in an evaluation's stats, what it is called, digits, signed, kind of interval (None: a mean's).
ROWS: tuple[tuple[tuple[str, ...], str, int, bool, str | None], ...] = (
    (("gold_score", "policy"), "Gold score", 2, False, None),
    (("gold_score", "difference"), "Gold score, policy − base", 2, True, None),
    (("score", "difference"), "Proxy score, policy − base", 2, True, None),
    (("win_rate", "gold_score"), "Win rate by gold score", 2, False, WILSON),
    (("length_controlled_win_rate", "gold_score"), "Win rate by gold score, at equal length", 2, False, RESAMPLED),
    (("win_rate", "score"), "Win rate by proxy score", 2, False, WILSON),
    (("kl_k1",), "KL k1 (nats per completion)", 2, False, None),
    (("diversity", "closings", "policy"), "Effective closing sentences", 1, False, None),
    (("diversity", "closings", "ratio"), "Effective closing sentences, policy over base", 2, False, None),
    (("diversity", "closing", "policy", "share"), "Most common closing sentence (share)", 2, False, WILSON),
    (("diversity", "ngrams", "ratio"), "Effective word triples, policy over base", 2, False, None),
    (("length", "policy"), "Length (tokens)", 1, False, None),
    (("ended", "policy"), "Ended by itself (share)", 2, False, WILSON),
    (("degenerate", "policy"), "Degenerate (share)", 2, False, WILSON),
)


@dataclass(frozen=True)
class Compared:
    """A run as the page shows it.

    Attributes:
        label: what it is called, and no other run on the page.
        findings: the doctor's.
        paired: against the first run, see ``evaluation.across_runs.on_shared_prompts``; None for the first itself.
    """

    label: str
    run: PolicyRun
    findings: Sequence[Finding] = ()
    paired: Mapping[str, Any] | None = None

    @property
    def stats(self) -> Mapping[str, Any]:
        return self.run.evaluation.manifest.stats


@dataclass(frozen=True)
class Page:
    """What the template shows; ``title`` is read by the one that it extends."""

    title: str


def render(compared: Sequence[Compared], pictures_to: Path | None = None) -> str:
    """The page as HTML.

    Args:
        pictures_to: where the pictures are written as files too.
    """
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
    """Each run against the first, in gold score where it is known, paired where prompts are shared."""
    said: list[str] = []
    for one in compared[1:]:
        gold = dig(one.paired, "gold_score")
        key, found = ("gold score", gold) if gold else ("proxy score", dig(one.paired, "score"))
        shared = dig(one.paired, "prompts") or 0
        if not found:
            why = "no score that both have" if shared else "no prompt in common"
            said.append(f"{one.label} against {compared[0].label}: nothing can be said, as there is {why}.")
            continue
        verb = {1: "is higher", 0: "does not differ measurably", -1: "is lower"}[direction(found["difference"])]
        change = interval(found["difference"], signed=True)
        than = "from" if verb.endswith("measurably") else "than"
        said.append(
            f"{one.label}'s {key} {verb} {than} {compared[0].label}'s: {change}, paired on {shared} prompts."
        )
    for one in compared:
        if collapse := dig(one.stats, "diversity", "collapse"):
            said.append(f"{one.label} has collapsed: {diversity(one.stats, collapse['place'])}.")
    for one in compared:
        if serious := [f.rule for f in one.findings if f.severity == "serious"]:
            said.append(f"The doctor's findings on {one.label} are serious: {', '.join(serious)}.")
    return " ".join(said)


def numbers(compared: Sequence[Compared]) -> Table:
    """The headline numbers of each run, with n and the kind of interval."""
    rows: list[tuple[str, ...]] = []
    for path, label, digits, signed, kind in ROWS:
        entries = [dig(c.stats, *path) for c in compared]
        if not any(dig(entry, "value") is not None for entry in entries):
            continue
        counts = [dig(entry, "n") for entry in entries]
        kinds = {kind or mean_interval(n) for n in counts if n is not None}
        of = " / ".join(dict.fromkeys(UNKNOWN if n is None else str(n) for n in counts))
        rows.append(
            (label, *(interval(e, digits, signed) for e in entries), f"n = {of}, {', '.join(sorted(kinds))}")
        )
    accuracies = [_accuracy(c) for c in compared]
    if any(accuracies):
        of = " / ".join(dict.fromkeys(UNKNOWN if a is None else str(a["n"]) for a in accuracies))
        rows.append(("Reward model's accuracy", *(interval(a) for a in accuracies), f"n = {of}, {WILSON}"))
    kept = [dig(c.run.policy.manifest.stats, "kept") for c in compared]
    if any(k is not None for k in kept):
        rows.append(("Published update", *(number(k, 0) for k in kept), ""))
    found = (", ".join(f"{f.rule} ({f.severity})" for f in c.findings) for c in compared)
    rows.append(("Doctor's findings", *(text or "none" for text in found), ""))
    return Table("", ("metric", *(c.label for c in compared), "n, interval"), rows)


def paired(compared: Sequence[Compared]) -> list[Table]:
    """Each run less the first on the prompts of both; a table for each, none where no prompt is shared."""
    first, tables = compared[0], list[Table]()
    for one in compared[1:]:
        if not dig(one.paired, "prompts"):
            continue
        rows: list[tuple[str, ...]] = []
        for key, name in NAMES.items():
            found = dig(one.paired, key)
            if not found:
                continue
            digits = 1 if key == "length" else 2
            sides = (interval(found[side], digits) for side in ("first", "second"))
            rows.append((name, *sides, interval(found["difference"], digits, signed=True)))
        n = dig(one.paired, "prompts")
        how = mean_interval(n)
        note = f"n = {n} prompts that both were evaluated on; 95 %, {how}, the difference paired by prompt."
        if not dig(one.paired, "score"):
            note += " Their proxies differ, so proxy scores cannot be compared."
        head = ("measure", first.label, one.label, "difference")
        tables.append(Table(f"{one.label} less {first.label}", head, rows, note))
    return tables


def differences(compared: Sequence[Compared]) -> Table:
    """The settings that are not the same in all runs."""
    rows = runs.differing([c.run.settings for c in compared], [c.run.inputs for c in compared])
    note = f'Only what differs; "{runs.DEFAULT}" is not set.' if rows else "No setting differs."
    return Table("", ("setting", *(c.label for c in compared)), rows, note)


def draw(compared: Sequence[Compared]) -> list[Drawn]:
    """The runs' curves on common axes, and their results side by side."""
    found: list[Drawn] = []
    histories = [(c.label, c.run.history) for c in compared]
    if any(rows for _, rows in histories):
        caption = "Lines: means over an update's completions. Marks: held-out prompts, where the run had any."
        figure = compare.training_overlay(histories)
        found.append(Drawn("compare-training", "Reward and KL over time", figure, caption))
    for measure, name in (("gold_score", "gold"), ("score", "proxy")):
        if measure == "score" and not same_proxy(compared):
            continue
        curves = [(c.label, _curves(c, measure)) for c in compared]
        if not any(drawn.policy for _, drawn in curves):
            continue
        best_of = next((label for label, drawn in curves if drawn.best_of_n), None)
        figure = compare.frontier_overlay(curves, measure, best_of)
        caption = "Small marks: over the run. Large: the published policy, paired with its base by prompt."
        if best_of is not None:
            caption += f" Crosses: best-of-n from the base of {best_of}, with its reward."
        found.append(Drawn(f"compare-frontier-{name}", f"Gain in {name} score against KL", figure, caption))
    results = [compare.Result(c.label, _entries(c)) for c in compared]
    panels = [p for p in PANELS if any(dig(r.entries.get(p[0]), "value") is not None for r in results)]
    panels = [p for p in panels if p[0] != "score" or same_proxy(compared)]
    if panels:
        caption = (
            "95 % intervals; dashed: no change, or no preference. n and the kinds of interval are in the table."
        )
        figure = compare.results(results, panels)
        found.append(Drawn("compare-results", "Results", figure, caption))
    return found


PANELS = (
    ("gold_score", "gold score, policy − base", 0.0),
    ("score", "proxy score, policy − base", 0.0),
    ("win_rate", "win rate by gold score", 0.5),
    ("controlled", "win rate by gold score, at equal length", 0.5),
)


def same_proxy(compared: Sequence[Compared]) -> bool:
    """Whether all runs are scored by the same reward, so that proxy scores have one unit."""
    rewards = [(c.run.inputs.get("reward", ("", ""))[1], dig(c.run.settings, "ppo", "reward")) for c in compared]
    return all(reward == rewards[0] for reward in rewards)


def _entries(one: Compared) -> dict[str, Any]:
    return {
        "gold_score": dig(one.stats, "gold_score", "difference"),
        "score": dig(one.stats, "score", "difference"),
        "win_rate": dig(one.stats, "win_rate", "gold_score"),
        "controlled": dig(one.stats, "length_controlled_win_rate", "gold_score"),
    }


def _curves(one: Compared, measure: str) -> frontier.Curves:
    check = dig(one.run.policy.manifest.config, "ppo", "check")
    return frontier.curves(one.stats, measure, check is None)


def _accuracy(one: Compared) -> Mapping[str, Any] | None:
    """Of the run's reward model on its own held-out pairs."""
    measured = one.run.reward_metrics
    return dig(dig(measured, "pairs") or measured, "accuracy")
