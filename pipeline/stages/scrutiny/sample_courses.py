"""Score the samples of the report after every token, where the run has one reward model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.base.errors import PipelineError
from pipeline.reporting.courses import with_courses
from pipeline.reporting.samples import Sample
from pipeline.scoring.build_scorer import ScorerContext, build
from pipeline.scoring.scorer import Scorer
from pipeline.scoring.token_scores import TokenScores, same_score, token_scores
from pipeline.trainers.arguments import has_accelerator
from pipeline.workflow.graph import reward_sources
from pipeline.workflow.stage import Run


def follow_scores(run: Run, samples: Sequence[Sample], rows: Sequence[dict[str, Any]]) -> tuple[list[Sample], str]:
    """The samples, gains and losses with the course of their scores, and why some have none.

    Args:
        rows: of the evaluation, by the samples' ``number``.
    """
    wanted = [sample for sample in samples if sample.kind != "random"]
    if not run.config.report.token_scores or not wanted:
        return list(samples), ""
    try:
        scorer = _one_reward_model(run)
    except PipelineError as err:
        return list(samples), f"The scores after every token are not shown: {err}"
    if scorer is None:
        return list(samples), (
            "The scores after every token are not shown: the score is no single reward model's that reads tokens."
        )
    followed, left_out, reason = list[Sample](), 0, ""
    for sample in samples:
        if sample.kind != "random":
            row = rows[sample.number]
            courses = [_course(scorer, row, side) for side in ("base", "policy")]
            problems = [course for course in courses if isinstance(course, str)]
            left_out += len(problems)
            reason = problems[0] if problems and not reason else reason
            before, after = (course if isinstance(course, TokenScores) else None for course in courses)
            sample = with_courses(sample, before, after)
        followed.append(sample)
    if not left_out:
        return followed, ""
    return followed, f"Without scores after every token: {left_out} of {2 * len(wanted)} completions, as {reason}"


def _course(scorer: Scorer, row: dict[str, Any], side: str) -> TokenScores | str:
    """The course of one completion's score, or why there is none."""
    try:
        course = token_scores(scorer, row["prompt"], row[f"{side}_completion"])
    except PipelineError as err:
        return str(err)
    evaluated = row[f"{side}_score"]
    if evaluated is None or not same_score(course.score, evaluated):
        return f"the whole text's score is {course.score:.2f} here and {evaluated:.2f} in the evaluation."
    return course


def _one_reward_model(run: Run) -> Scorer | None:
    """The run's reward model; None where the score comes from a function, or from several sources."""
    sources = reward_sources(run.config)
    if len(sources) != 1 or sources[0].kind in ("function", "task") or sources[0].weight not in (None, 1.0):
        return None
    value = str(run.version("reward").path) if sources[0].kind == "adapter" else run.config.ppo.reward
    device = "cuda" if has_accelerator() else "cpu"
    return build(value, ScorerContext(str(run.config.path), device, run.store.find_version))
