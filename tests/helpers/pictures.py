"""Pictures drawn without arranging their axes."""

from __future__ import annotations

import pytest


def arrange_no_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw figures with axes wherever they fall: to arrange them is most of a picture's time."""
    monkeypatch.setattr("matplotlib.figure.Figure.get_layout_engine", lambda *_: None)
