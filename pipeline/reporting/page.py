"""One self-contained report.html of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.evaluation.policy.headline import headline
from pipeline.health import Finding
from pipeline.reporting import diversity_rows, reward_rows, run_tables
from pipeline.reporting.run_tables import Table
from pipeline.reporting.samples import Sample, folded
from pipeline.reporting.svg import safe_svg
from pipeline.reporting.trees import Branch
from pipeline.results.policy import Evaluation
from pipeline.results.reward import RewardMetrics
from pipeline.statistics.spelling import interval, number

Part = Literal["training", "frontier", "diversity", "policy", "reward"]


@dataclass(frozen=True)
class Picture:
    """A figure as the <svg> element that ``figures.inline_svg`` returns, and the section it belongs to."""

    title: str
    svg: str
    caption: str = ""
    part: Part = "policy"


@dataclass(frozen=True)
class Checkup:
    """What the doctor found in the run.

    Attributes:
        blind: rules that had no figures to look at.
        stopped: why the run ended early, in its own words.
    """

    findings: Sequence[Finding] = ()
    updates: int = 0
    blind: Sequence[str] = ()
    stopped: str | None = None


@dataclass(frozen=True)
class Report:
    """Everything on the page. A part that is None or empty is left out, or said to be missing.

    Attributes:
        differences: what this run has set otherwise than its parent run.
        config: the settings of the run's stages, shown as YAML.
        facts: short lines under the title, such as ("base model", "gpt2").
    """

    title: str
    evaluation: Evaluation | None = None
    reward: RewardMetrics | None = None
    pictures: Sequence[Picture] = ()
    samples: Sequence[Sample] = ()
    lineage: Branch | None = None
    differences: Table | None = None
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    checkup: Checkup | None = None
    warnings: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()


def render_page(report: Report) -> str:
    """The page as HTML. It loads nothing, runs nothing, and shows every text as text.

    Raises:
        ValueError: a picture is not a plain SVG (see :func:`safe_svg`).
    """
    evaluation = report.evaluation
    diversity = evaluation and evaluation.diversity
    mood, sentence = headline(evaluation)
    serious = [f.rule for f in report.checkup.findings if f.severity == "serious"] if report.checkup else []
    if serious:
        # What the doctor calls serious is not to be believed, however good it looks.
        mood = "flat" if mood == "good" else mood
        sentence += f" The doctor's findings are serious: {', '.join(serious)}."
        best, updates = evaluation and evaluation.best_checkpoint, report.checkup.updates if report.checkup else 0
        if best and best.is_kept and best.update < updates:
            sentence += f" Published is the policy of update {best.kept} of {updates}, the best held out."
    by = "gold score" if any(s.gold_score_after is not None for s in report.samples) else "proxy score"
    titles = {"gain": f"Largest gains in {by}", "loss": f"Largest losses in {by}", "random": "Random"}
    groups = [(titles[kind], [s for s in report.samples if s.kind == kind]) for kind in titles]
    sets = report.reward.sets if report.reward else {}
    tables = (run_tables.best_of_n_table(evaluation), run_tables.law_table(evaluation))
    return environment().get_template("page.html.jinja").render(
        report=report,
        mood=mood,
        headline=sentence,
        rows=run_tables.metric_rows(evaluation),
        more=run_tables.more_rows(evaluation),
        by_seed=run_tables.by_seed(evaluation),
        judges=run_tables.judge_table(evaluation),
        frontier=[t for t in tables if t is not None],
        variety=diversity_rows.measure_rows(diversity),
        variety_note=diversity_rows.note(diversity),
        sentences=diversity_rows.sentence_table(diversity),
        beside_best_of_n=diversity_rows.best_of_n_table(diversity),
        best_checkpoint=best_checkpoint(evaluation),
        reward_rows=reward_rows.reward_rows(report.reward),
        slices=reward_rows.slice_tables(report.reward),
        sets=reward_rows.set_table(report.reward),
        set_slices=[(name, measured, reward_rows.slice_tables(measured)) for name, measured in sets.items()],
        pictures=[(p, safe_svg(p.svg)) for p in report.pictures],
        groups=[(title, samples) for title, samples in groups if samples],
        config=yaml.safe_dump(dict(report.config), sort_keys=False, allow_unicode=True) if report.config else "",
    )  # fmt: skip


def environment() -> Environment:
    """Where the templates are and how they are read: every text escaped, no name unknown."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(number=number, interval=interval, folded=folded)
    return made


def best_checkpoint(evaluation: Evaluation | None) -> str:
    """Whether another update's policy was better on held-out prompts than the published one; empty if unknown."""
    best = evaluation and evaluation.best_checkpoint
    if not best:
        return ""
    what = "check" if best.by == "check" else "proxy score"
    text = f"Best held-out {what}: update {best.update} ({number(best.value)} at KL {number(best.kl_k1, 1)})"
    if best.is_kept:
        return f"{text}, which is the one published."
    if best.kept is None:
        return f"{text}."
    kept = "" if best.kept_value is None else f" ({number(best.kept_value)})"
    return f"{text}; published is update {best.kept}{kept}. ppo.keep_best publishes the best."
