"""Give the report's samples the courses of their scores."""

from __future__ import annotations

from dataclasses import replace

from pipeline.reporting.samples import Sample
from pipeline.texts.score_course import Scores, course_of


def with_courses(sample: Sample, before: Scores | None, after: Scores | None) -> Sample:
    """The sample with the courses of its two scores, both drawn in one scale."""
    return replace(
        sample,
        before_course=None if before is None else course_of(before, after),
        after_course=None if after is None else course_of(after, before),
    )
