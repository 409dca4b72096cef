"""Pictures drawn without arranging their axes, or not drawn at all."""

from __future__ import annotations

import pytest


def arrange_no_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw figures with axes wherever they fall: to arrange them is most of a picture's time."""
    monkeypatch.setattr("matplotlib.figure.Figure.get_layout_engine", lambda *_: None)


def draw_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write empty pictures, for tests that read the page around them: drawing is two thirds of a report's time."""
    monkeypatch.setattr("matplotlib.figure.Figure.draw", lambda *_: None)
