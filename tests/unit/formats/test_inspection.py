"""``data look``: what a source would be read as, before anything is trained."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from pipeline.base.errors import ConfigError, DataError
from pipeline.base.terminal_text import columns
from pipeline.formats.inspection import look, look_at_head
from pipeline.formats.read_options import JudgedSet
from pipeline.stages.data import look as command
from tests.helpers.row_files import write_rows

Row = dict[str, Any]


def votes(n: int = 4) -> list[Row]:
    """Two people on each of ``n`` pairs, one of them a tie."""
    rows: list[Row] = []
    for i in range(n):
        pair = {"prompt": f"question {i}", "completion_a": f"left {i}", "completion_b": f"right {i}"}
        rows += [
            pair | {"choice": "a", "worker": "ann"},
            pair | {"choice": "tie" if i == 0 else "b", "worker": "bo"},
        ]
    return rows


def run(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert command.main(list(args)) == 0
    return capsys.readouterr().out


def as_json(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    return json.loads(run(capsys, *args, "--json"))


def test_counts_of_votes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        *votes(),
        {"prompt": "q", "completion_a": "x", "completion_b": "y", "choice": "maybe", "worker": "ann"},
    ]
    found = as_json(capsys, write_rows(tmp_path / "a.jsonl", rows), "--columns", "annotator=worker")
    counts = {k: found[k] for k in ("rows", "comparisons", "prompts", "decided", "ties", "votes", "people")}
    assert counts == {"rows": 9, "comparisons": 4, "prompts": 4, "decided": 7, "ties": 1, "votes": 8, "people": 2}
    ((reason, about),) = found["broken"].items()
    assert "choice" in reason
    assert about == {"rows": 1, "first": f"{tmp_path / 'a.jsonl'}:9"}
    assert found["format"] == "choices"
    assert found["complete"]
    assert [row["place"] for row in found["first"]] == [f"{tmp_path / 'a.jsonl'}:{n}" for n in (1, 2, 3)]
    assert "    columns: {annotator: worker}" in found["config"]
    assert "    on_bad_row: skip" in found["config"]


def test_the_lines_for_the_config_are_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import yaml

    from pipeline.annotators.replay import Options
    from pipeline.workflow.key_checks.unknown_and_mistyped import parse_options

    path = write_rows(
        tmp_path / "a.jsonl", [{"question": "q", "chosen": "x", "rejected": f"y{i}"} for i in range(4)]
    )
    found = as_json(capsys, path, "--columns", "{prompt: question}", "--split", "train", "--pairs", "best_worst")
    written = yaml.safe_load("\n".join(found["config"]))["collect"]
    assert written["split_by"] == "completion"  # all share one prompt
    options = parse_options(Options, written["annotator_args"], "x")
    assert options == Options(path, columns={"prompt": "question"}, split="train", pairs="best_worst")


def test_it_fits_a_terminal_and_nothing_in_it_is_obeyed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nasty = "\x1b[31mred\x1b[0m\nsecond \u202eline " + "日本語の長い文章" * 60 + " \x07"
    rows = [{"prompt": nasty, "chosen": nasty + "!", "rejected": nasty * 9, "\x1b]0;title\x07": 1}]
    out = run(capsys, write_rows(tmp_path / "a.jsonl", rows))
    above, _, lines_to_copy = out.partition("write in the config:")
    assert all(columns(line) <= 80 for line in above.splitlines())
    assert f"dataset: {tmp_path / 'a.jsonl'}" in lines_to_copy
    assert not any(char in out for char in "\x1b\x07\u202e")
    assert "␛[31mred" in out
    assert "chosen is better" in out


def test_prompts_and_completions_to_be_labelled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": f"q{i % 3}", "source": "web"} for i in range(6)]
    path = write_rows(tmp_path / "p.jsonl", [*rows, {"prompt": ""}])
    found = as_json(capsys, path)
    assert (found["format"], found["rows"], found["prompts"], found["unused"]) == ("prompts", 7, 3, ["source"])
    assert found["broken"] == {"empty prompt": {"rows": 1, "first": f"{path}:7"}}
    assert found["config"] == ["task: prompts", "task_args:", f"  dataset: {path}"]
    path = write_rows(tmp_path / "c.jsonl", [{"prompt": "q", "completions": ["a", "b"]}])
    found = as_json(capsys, path)
    assert found["format"] == "completions without a verdict"
    assert found["config"][:3] == ["collect:", "  annotator: human", "label:"]
    (tmp_path / "t.txt").write_text("One text.\nAnother text.\n")
    assert as_json(capsys, str(tmp_path / "t.txt"))["config"][0] == "task: continuation"


def test_what_cannot_be_told_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"q": "x", "good": "y", "winner": 1}])
    for args, kind in (
        ([path], DataError),
        ([str(tmp_path / "none.jsonl")], DataError),
        ([path, "--columns", "prompt"], ConfigError),
        ([path, "--columns", "{prompt: [}"], ConfigError),
        ([path, "--columns", "nonsense=q"], ConfigError),
        ([path, "--limit", "many"], ConfigError),
    ):
        with pytest.raises(kind) as caught:
            command.main(args)
        assert "\n" not in str(caught.value)


def test_the_command_line_knows_every_option_of_a_set(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Wider(JudgedSet):
        choices: dict[Any, str] = field(default_factory=dict[Any, str])
        label_config: str | None = None
        aggregate: Literal["majority", "dawid_skene"] = "majority"

    monkeypatch.setattr(command, "JudgedSet", Wider)
    said = [
        "x",
        "--choices",
        "2=tie",
        "--label-config",
        "p.xml",
        "--aggregate",
        "majority",
        "--limit",
        "5",
        "--revision",
        "1234567",
    ]
    said += ["--choices", "{0: a, 1: b}", "--columns", "prompt=[system, question]", "--aggregate", "majority"]
    parsed = command._parser().parse_args(said)
    assert command._options(parsed) == {
        "dataset": "x",
        "choices": {0: "a", 1: "b", "2": "tie"},
        "label_config": "p.xml",
        "aggregate": "majority",
        "columns": {"prompt": ["system", "question"]},
        "limit": 5,
        "revision": "1234567",
    }


def test_columns_that_nobody_reads(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"prompt": "q", "chosen": "x", "rejected": "y", "colour": 1}] * 2)
    assert look(JudgedSet(path), "x").unused == ["colour"]
    assert "columns not used: colour" in look(JudgedSet(path), "x").sentence()


# Catches: a table of pairs passed over as a list of prompts, because nobody said which columns are which.
def test_prompts_beside_answers_and_a_verdict_are_not_taken_for_prompts_alone(tmp_path: Path) -> None:
    row = {"prompt": "q", "answer_1": "x", "answer_2": "y", "preferred": "answer_1"}
    (warning,) = look(JudgedSet(write_rows(tmp_path / "a.jsonl", [row] * 2)), "x").warnings
    assert "columns: {completion_a: answer_1, completion_b: answer_2, choice: preferred}" in warning
    assert (
        look(JudgedSet(write_rows(tmp_path / "b.jsonl", [{"prompt": "q"}, {"prompt": "r"}])), "x").warnings == []
    )


def test_the_head(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", votes(10))
    assert look_at_head(JudgedSet(path), "x", rows=4) == (
        f"{path}: the first 4 rows read as choices; 2 comparisons, 3 decided, 1 ties"
    )
    assert "20 rows read as choices" in look_at_head(JudgedSet(path), "x", rows=20)


def test_it_is_quick_to_start_and_ends_with_2(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", votes())
    code = (
        "import sys; from pipeline.__main__ import main; "
        f"main(['data', 'look', {path!r}]); "
        "print([m for m in ('torch', 'datasets', 'pyarrow', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    missing = [sys.executable, "-m", "pipeline", "data", "look", str(tmp_path / "b.jsonl")]
    done = subprocess.run(missing, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: command line: no file or directory")
