"""Write a sweep as Markdown that lines up on a terminal: its settings over seeds, and every run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from pipeline.base.terminal_text import columns
from pipeline.results.measured import Measured
from pipeline.results.policy import Evaluation
from pipeline.results.reward import RewardMetrics
from pipeline.results.sweep import SettingOverSeeds
from pipeline.statistics.intervals import has_value
from pipeline.statistics.spelling import UNKNOWN, escape_cell, interval, number


@dataclass(frozen=True)
class Figure:
    """A figure of a run and its format; ``path`` is its key in ``Evaluation.figures``."""

    key: str
    heading: str
    path: str = ""
    digits: int = 2
    signed: bool = False
    range: tuple[float, float] | None = None
    """The possible values, where they are bounded."""


FIGURES = (
    Figure("gold_difference", "gold, difference", "gold_score.difference", signed=True),
    Figure("score_difference", "proxy, difference", "score.difference", signed=True),
    Figure("win_rate", "win rate", "win_rate.gold_score", range=(0.0, 1.0)),
    Figure("kl_k1", Measured.KL_K1.column, "kl_k1"),
    Figure("closings_ratio", "closing sentences, over base's", "diversity.closings.ratio", range=(0.0, math.inf)),
    Figure("closing_share", "most common closing (share)", "diversity.closing.policy.share", range=(0.0, 1.0)),
    Figure("collapsed", "collapsed (share of runs)", range=(0.0, 1.0)),
    Figure("length", Measured.LENGTH.column, "length.policy", 1, range=(0.0, math.inf)),
    Figure("reward_accuracy", Measured.PAIR_ACCURACY.about.heading, range=(0.0, 1.0)),
    Figure("minutes", "minutes", digits=1),
)


def figures(
    evaluation: Evaluation, reward: RewardMetrics | None, minutes: float | None
) -> dict[str, float | None]:
    """The :data:`FIGURES` of a run, None where unknown."""
    of_pairs = reward and reward.of_pairs
    accuracy = of_pairs.accuracy.value if of_pairs and has_value(of_pairs.accuracy) else None
    estimates, variety = evaluation.figures, evaluation.diversity
    # Without a gold score, wins are by the proxy.
    estimates = {"win_rate.gold_score": estimates.get("win_rate.score"), **estimates}
    own = {figure.key: estimates.get(figure.path) for figure in FIGURES}
    figures = {key: estimate.value if has_value(estimate) else None for key, estimate in own.items()}
    collapsed = None if variety is None else float(variety.collapse is not None)
    return figures | {"collapsed": collapsed, "reward_accuracy": accuracy, "minutes": minutes}


def render(name: str, groups: Sequence[SettingOverSeeds], runs: Sequence[Mapping[str, Any]]) -> str:
    """Write the whole sweep as Markdown.

    Args:
        runs: run, group, seed, state, evaluation (a reference or None) and the :data:`FIGURES` of each.
    """
    done = [run for run in runs if run["state"] == "done"]
    title = f"{name}: {count(len(done), 'run')} of {len(runs)}"
    if not groups:
        return f"{title}; nothing to compare yet."
    main = main_figure(groups)
    parts = [
        title + ".",
        *_collapsed(done),
        _claims(main, groups),
        _main_table(main, groups),
        _other_table(main, groups),
    ]
    if len(groups) > 1:
        parts.append(
            f"Intervals are of one row each: the best of {len(groups)} settings looks better than it is, until it "
            "is run on new seeds."
            if max(_seeds(main, g) for g in groups) > 1
            else "With one seed, what looks like a better setting may be a luckier draw."
        )
    parts.append(_runs_table(main, runs))
    if missing := [run["run"] for run in runs if run["state"] != "done"]:
        parts.append(f"Not in the means: {', '.join(missing)}.")
    return "\n\n".join(parts)


def card(name: str, text: str, split: str, pictures: Mapping[str, str] | None = None) -> str:
    """Write the README.md of a sweep's version, in the Hub's format.

    Args:
        pictures: the title of each file beside it.
    """
    files = [{"split": split, "path": f"data/{split}-*.parquet"}]
    front = {"license": "unknown", "tags": ["rlhf", "sweep"]}
    front |= {"configs": [{"config_name": "default", "data_files": files}]}
    shown = "".join(f"\n![{title}]({file})\n" for file, title in (pictures or {}).items())
    return f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# {name}\n\n{text}\n{shown}"


def main_figure(groups: Sequence[SettingOverSeeds]) -> Figure:
    """The figure that settings are compared by: the gold score where known, else the proxy."""
    gold, proxy = FIGURES[:2]
    return gold if any(g.figures.get(gold.key) for g in groups) else proxy


def result(figures: Mapping[str, Any]) -> str:
    """One run in a few words: ``gold +0.71, KL 5.8 nats``."""
    gold = figures.get("gold_difference") is not None
    what, value = ("gold", figures.get("gold_difference")) if gold else ("proxy", figures.get("score_difference"))
    text = f"{what} {number(value, signed=True)}, KL {number(figures.get('kl_k1'), 1)} nats"
    kept = figures.get("closings_ratio")
    text += "" if kept is None else f", {number(kept)} of the base's closing sentences"
    return f"collapsed: {text}" if figures.get("collapsed") else text


def count(n: int, noun: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up; the first row is the heading, the first column is flush left."""
    cells = [[escape_cell(cell) for cell in row] for row in rows]
    widths = [max(columns(row[i]) for row in cells) for i in range(len(cells[0]))]
    rule = ["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])]
    lines = [
        [
            cell + " " * (width - columns(cell)) if i == 0 else " " * (width - columns(cell)) + cell
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in cells
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in [lines[0], rule, *lines[1:]])


def _collapsed(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence with the runs that collapsed."""
    names = [run["run"] for run in runs if run.get("collapsed")]
    if not names:
        return []
    return [f"Collapsed, so that what they gained is one text again and again: {', '.join(names)}."]


def _claims(main: Figure, groups: Sequence[SettingOverSeeds]) -> str:
    """The caption of the first table, with the number of seeds."""
    what = "gold score" if main.key == "gold_difference" else "proxy score"
    sizes = sorted({_seeds(main, g) for g in groups})
    seeds = " to ".join(str(n) for n in dict.fromkeys((sizes[0], sizes[-1])))
    text = f"Difference of the {what}, policy less base; mean over {seeds} seed{'' if sizes == [1] else 's'}"
    text += ", which gives no interval." if sizes[-1] < 2 else " [95 % interval over seeds]."
    return text + ("\nAgainst the first setting: the differences of the same seeds." if len(groups) > 1 else "")


def _seeds(main: Figure, group: SettingOverSeeds) -> int:
    entry = group.figures.get(main.key)
    return entry.n if entry else 0


def _main_table(main: Figure, groups: Sequence[SettingOverSeeds]) -> str:
    rows = [["setting", "seeds", main.heading, "least", "most"]]
    if len(groups) > 1:
        rows[0] += ["against the first", "seeds in both"]
    for group in groups:
        entry, against = group.figures.get(main.key), (group.against_first or {}).get(main.key)
        row = [
            group.group,
            number(entry and entry.n, 0),
            interval(entry, main.digits, main.signed),
            number(entry and entry.least, main.digits, main.signed),
            number(entry and entry.most, main.digits, main.signed),
        ]
        if len(groups) > 1:
            row += [interval(against, main.digits, signed=True), number(against and against.n, 0)]
        rows.append(row)
    return aligned(rows)


def _other_table(main: Figure, groups: Sequence[SettingOverSeeds]) -> str:
    others = [f for f in FIGURES if f is not main and f.key != "minutes"]
    shown = [f for f in others if any(g.figures.get(f.key) for g in groups)]
    rows = [["setting", "seeds", *(f.heading for f in shown)]]
    for group in groups:
        cells = [interval(group.figures.get(f.key), f.digits, f.signed) for f in shown]
        rows.append([group.group, str(len(group.seeds)), *cells])
    return aligned(rows)


def _runs_table(main: Figure, runs: Sequence[Mapping[str, Any]]) -> str:
    rows = [["run", main.heading, Measured.KL_K1.column, "closings, over base's", "minutes", "evaluation"]]
    for run in runs:
        figures = [number(run.get(main.key), main.digits, main.signed), number(run.get("kl_k1"), 1)]
        figures.append(number(run.get("closings_ratio")))
        rows.append([run["run"], *figures, number(run.get("minutes"), 1), run.get("evaluation") or UNKNOWN])
    return aligned(rows)
