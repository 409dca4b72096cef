"""``python -m pipeline``: it names every command, and knows no other."""

from __future__ import annotations

import pytest

from pipeline.__main__ import main


@pytest.mark.parametrize("words", [[], ["--help"], ["help"]])
def test_the_help_names_the_stages(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    said = capsys.readouterr().out
    for stage in ("sft", "collect", "label", "reward", "ppo", "evaluate", "report"):
        assert f"\n  {stage} " in said
    assert "python -m pipeline.STAGE --config configs/X.yaml" in said


# Mutation caught: the help on standard output, and 0. Seen failing: below the error stood the whole help.
def test_an_unknown_command_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train"]) == main(["docter", "demo"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    others = "All commands: python -m pipeline --help\n"
    assert said.err == (
        f'error: command line: unknown command "train". {others}'
        f'error: command line: unknown command "docter". Did you mean "doctor"? {others}'
    )
