"""Generated parts of Markdown files."""

from __future__ import annotations

import pytest

from pipeline.base.errors import DataError
from pipeline.base.markdown import replace_between

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def test_replaces_and_is_idempotent() -> None:
    text = f"# Title\n\n{BEGIN}\nold\n{END}\n\nrest\n"
    once = replace_between(text, "results", "| new |\n", "README")
    assert once == f"# Title\n\n{BEGIN}\n| new |\n{END}\n\nrest\n"
    assert replace_between(once, "results", "| new |\n", "README") == once


@pytest.mark.parametrize("text", ["", f"{BEGIN}\n", f"{END}\n{BEGIN}\n", f"{BEGIN}{BEGIN}{END}"])
def test_a_missing_doubled_or_swapped_marker_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="results:"):
        replace_between(text, "results", "| new |", "README")
