"""Render the self-contained report.html of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.base.terminal_text import escape_lines
from pipeline.evaluation.policy.headline import headline
from pipeline.health import Finding
from pipeline.reporting import diversity_rows, reward_rows, run_tables
from pipeline.reporting.accountability import Answer
from pipeline.reporting.run_tables import Table
from pipeline.reporting.samples import Sample, folded
from pipeline.reporting.svg import safe_svg
from pipeline.reporting.trees import Branch
from pipeline.results.policy import Evaluation
from pipeline.results.reward import RewardMetrics
from pipeline.statistics.spelling import interval, number

Part = Literal["rounds", "readers", "training", "frontier", "diversity", "policy", "reward"]


@dataclass(frozen=True)
class Picture:
    """A figure as an <svg> element, and the section of the page that shows it."""

    title: str
    svg: str
    caption: str = ""
    part: Part = "policy"


@dataclass(frozen=True)
class Checkup:
    """What the doctor found in the run.

    Attributes:
        blind: rules whose figures are missing.
        stopped: why the run ended early, in its own words.
    """

    findings: Sequence[Finding] = ()
    updates: int = 0
    blind: Sequence[str] = ()
    stopped: str | None = None


@dataclass(frozen=True)
class Report:
    """Everything on the page; parts that are None or empty are left out.

    Attributes:
        courses_note: which samples have no course of their score, and why.
        answers: the section "Who answers for it".
        differences: settings that differ from the parent run.
        config: the settings of the run's stages, shown as YAML.
        facts: short lines under the title, such as ("base model", "gpt2").
        rounds: of the loop that the run is a round of.
        readers: those who have a policy of their own beside this one.
    """

    title: str
    evaluation: Evaluation | None = None
    reward: RewardMetrics | None = None
    pictures: Sequence[Picture] = ()
    samples: Sequence[Sample] = ()
    courses_note: str = ""
    answers: Sequence[Answer] = ()
    lineage: Branch | None = None
    differences: Table | None = None
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    checkup: Checkup | None = None
    warnings: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()
    rounds: Table | None = None
    readers: Sequence[Table] = ()


def render_page(report: Report) -> str:
    """Render the page as HTML, without scripts or external files, with every text escaped.

    Raises:
        ValueError: a picture is not a plain SVG (see :func:`safe_svg`).
    """
    evaluation = report.evaluation
    diversity = evaluation and evaluation.diversity
    mood, sentence = headline(evaluation)
    serious = [f.rule for f in report.checkup.findings if f.severity == "serious"] if report.checkup else []
    if serious:
        # A run with serious findings is not shown as a success.
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
        best_of_n=bool(evaluation and evaluation.best_of_n.rows),
        references=run_tables.reference_table(evaluation),
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
    """The template environment: every text is escaped, with a sign for what would hide or reorder text."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_with_signs,
    )
    environment.filters.update(number=number, interval=interval, folded=folded)
    return environment


def _with_signs(value: object) -> object:
    return escape_lines(value) if type(value) is str else value  # markup has been through here


def best_checkpoint(evaluation: Evaluation | None) -> str:
    """A sentence on the best update on held-out prompts and the published one; empty if unknown."""
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
