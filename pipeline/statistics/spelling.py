"""Numbers and intervals as text."""

from __future__ import annotations

import math

from pipeline.statistics.intervals import Estimate, has_value

UNKNOWN = "–"


def number(value: object, digits: int = 2, signed: bool = False) -> str:
    """``value`` with fixed digits and a true minus; a dash for anything but a finite number."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return UNKNOWN
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    # -0.001 is 0.00, not -0.00.
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "\u2212")


def interval(estimate: Estimate | None, digits: int = 2, signed: bool = False) -> str:
    """``0.57 [0.52, 0.62]``; the value alone without limits, a dash without a value.

    Args:
        signed: write the value as a change, ``+0.46 [0.40, 0.52]``. A limit that would round to 0 gets the digits
            that show its side: ``[-0.004, 0.14]`` holds 0, ``[0.004, 0.14]`` does not.
    """
    if not has_value(estimate):
        return UNKNOWN
    value = number(estimate.value, digits, signed)
    if not estimate.has_limits:
        return value
    low, high = (
        number(x, _digits_of_side(x, digits) if signed else digits) for x in (estimate.low, estimate.high)
    )
    return f"{value} [{low}, {high}]"


def _digits_of_side(limit: float, digits: int) -> int:
    """``digits``, or as many more as show a digit that is not 0, up to four."""
    return next((d for d in range(digits, digits + 4) if round(limit, d)), digits)


def escape_cell(text: str) -> str:
    """``text`` on one line of a Markdown table: no pipe ends the cell, no tag opens."""
    one_line = " ".join(str(text).split())
    return one_line.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "\\`")
