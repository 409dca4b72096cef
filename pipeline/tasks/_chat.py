"""Conversations of a task as text."""

from __future__ import annotations

from pipeline.formats.messages import Render


def chat_render(template: str | None) -> Render:
    """See :func:`pipeline.modeling.tokens.template_render`, which is imported only once a prompt is asked for."""
    from pipeline.modeling.tokens import template_render

    return template_render(template)
