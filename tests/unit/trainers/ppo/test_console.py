"""PPO's lines on the console: the same columns every time, right after a kill, and nothing obeyed in a sample."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipeline.base.terminal_text import columns
from pipeline.store.checkpoints import Checkpoints
from pipeline.trainers.ppo import console as module
from pipeline.trainers.ppo.console import (  # fmt: skip
    COLUMNS,
    HEADER_EVERY,
    WIDTH,
    Console,
    Sample,
    cell,
    clock,
    header,
    held_out_line,
    line,
    prompt_text,
    sample_line,
)
from tests.unit.trainers.ppo.helpers import PROMPTS, trainer

ROW: dict[str, Any] = {
    "update": 12, "objective/scores": 1.2345, "objective/gold_scores": -0.5, "objective/kl": 3.456,
    "objective/kl_per_token": 0.14444, "policy/entropy_avg": 2.345, "policy/clipfrac_avg": 0.0512,
    "diversity/closings": 53.62, "val/explained_variance": -0.123, "eos_rate": 0.987, "length/mean": 23.46,
    "tokens_per_second": 1234.5,
}  # fmt: skip


# Catches: a share not in per cent, a figure under another heading, digits that move a column.
def test_a_line_by_hand() -> None:
    assert line(ROW, 32, 65.4).split() == [
        "12/32", "1.234", "-0.500", "3.46", "0.1444", "2.35", "5.1", "53.6", "-0.12", "99", "23.5", "1234", "1:05",
    ]  # fmt: skip
    headings, units = header()
    assert headings.split()[:4] == ["update", "proxy", "gold", "KL"]
    assert {len(headings), len(units), len(line(ROW, 32, 65.4))} == {len(headings)}
    assert len(headings) <= WIDTH
    ends = [headings.index(m.about.heading) + len(m.about.heading) for m in COLUMNS]
    assert all(line(ROW, 32, 65.4)[end - 1] != " " and line(ROW, 32, 65.4)[end] == " " for end in ends)


@pytest.mark.parametrize("value", [None, 0.0, -0.0001, 1e9, -1e9, 1e-9, 123456.789, float("nan"), float("-inf")])
def test_no_number_breaks_the_columns(value: float | None) -> None:
    for metric, width in COLUMNS.items():
        text = cell(value if metric.about.short_unit != "%" else 1.0, metric)  # a share is never more
        assert len(text) == width
        assert text[0] == " "
        assert text.strip() not in ("-0.00", "-0.000", "-0.0", "-0")


def test_time_left() -> None:
    assert [clock(s) for s in (0, 59.6, 3599, 3600, 90061)] == ["0:00", "1:00", "59:59", "1:00:00", "25:01:01"]


def test_what_was_not_measured_is_a_dash() -> None:
    cells = line({"update": 1, "objective/scores": 1.0}, 5, None).split()
    assert cells == ["1/5", "1.000", *"-" * 11]


def logged(console: Console, updates: int, first: int = 0, total: int = 40, main: bool = True) -> None:
    state = SimpleNamespace(global_step=first, max_steps=total, is_world_process_zero=main)
    console.on_train_begin(None, state, None)
    for update in range(first + 1, first + updates + 1):
        console.on_log(None, state, None, {**ROW, "update": update})


def test_the_header_comes_again(capsys: pytest.CaptureFixture[str]) -> None:
    logged(Console(0), HEADER_EVERY + 1)
    said = capsys.readouterr().out.splitlines()
    assert [i for i, text in enumerate(said) if text == header()[0]] == [0, 2 + HEADER_EVERY]
    assert len(said) == HEADER_EVERY + 1 + 2 * 2
    assert "\x1b" not in "".join(said)


# Catches: the pace of updates that another process made; the mean over a run whose pace changed.
def test_the_pace_is_this_processs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([100.0, 110.0, 120.0, *(120.0 + i for i in range(1, 31))])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(now))
    logged(Console(0), 32, first=60, total=100)
    said = [text.split() for text in capsys.readouterr().out.splitlines() if "/100" in text]
    assert (said[0][0], said[0][-1]) == ("61/100", "6:30")  # 39 left at 10 s
    assert (said[-1][0], said[-1][-1]) == ("92/100", "0:08")  # the latest 20 took 1 s each


def test_one_rank_speaks(capsys: pytest.CaptureFixture[str]) -> None:
    logged(Console(0), 2, main=False)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("width", [80, WIDTH, 200])
@pytest.mark.parametrize(
    ("prompt", "completion"),
    [
        ("short", "\x1b[31m\nred\x07" * 40),
        ("a long prompt " * 50 + "ENDS", "a long completion " * 50),
        ("中文" * 100, "中文" * 100),
        ("", ""),
    ],
)
def test_a_sample_is_one_line(prompt: str, completion: str, width: int) -> None:
    text = sample_line(Sample(prompt, completion, -1.5), width)
    assert columns(text) <= width
    assert text.isprintable()
    assert "-1.500" in text
    if "ENDS" in prompt:
        assert "ENDS → a long" in text


def test_held_out_prompts() -> None:
    figures = {
        "eval/scores": 0.5,
        "eval/check": 0.25,
        "eval/check_error": 0.0126,
        "eval/kl": 2.0,
        "eval/length": 9,
    }
    said = "proxy 0.500, check 0.250 (standard error 0.013), KL k1 2.00 nats, 9.0 tokens"
    assert held_out_line(figures).split("  ")[-1] == said
    assert "check" not in held_out_line({k: v for k, v in figures.items() if "check" not in k})
    figures |= {"eval/closings": 12.34, "eval/closings_left": 0.341}
    assert ", 12.3 (34%) effective closings, KL" in held_out_line(figures)


def test_a_held_out_sample_is_read_beside_its_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 1, "eval_dataset": PROMPTS[3:]}
    made = trainer(
        tmp_path, disable_tqdm=False, total_episodes=16, num_sample_generations=0, **more,
        scorer=lambda samples: torch.tensor([float(p[0]) for p in samples.prompt_ids]),
        check=lambda samples: torch.tensor([-float(p[0]) for p in samples.prompt_ids]),
    )  # fmt: skip
    del made.log
    made.train()
    shown = lines(capsys.readouterr().out, "sample")
    # The first held-out prompt begins with token 11, before the first update and after each of two.
    assert [text.split()[:3] for text in shown] == [["11.000", "(check", "-11.000)"]] * 3
    prompt = made.processing_class.decode(PROMPTS[3])
    assert all(prompt in text for text in shown)


# Seen failing with: prompts decoded without special tokens, which leaves the roles as words.
def test_a_conversation_is_read_without_its_templates_words() -> None:
    asked = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    texts = [asked, "<eos>The film was"]
    marks = re.compile(r"<\|im_start\|>|<\|im_end\|>|<eos>")

    def decode(ids: list[int], skip_special_tokens: bool = False, **_: Any) -> str:
        return marks.sub("", texts[ids[0]]) if skip_special_tokens else texts[ids[0]]

    tokenizer: Any = SimpleNamespace(decode=decode)
    assert [prompt_text(tokenizer, [i]) for i in range(2)] == ["Why?", "The film was"]


def lines(text: str, what: str) -> list[str]:
    return [row.split(maxsplit=1)[1] for row in text.splitlines() if row.split()[:1] == [what]]


# Seen failing with: samples at every update, scores of other rows.
def test_a_run_on_the_console(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[Any] = []

    def keep(update: int, indices: list[int], rollout: Any, score: Any) -> dict[str, float]:
        seen.append((rollout.completions(), rollout.score.tolist(), indices))
        return {"objective/gold_scores": 0.25}

    made = trainer(
        tmp_path, disable_tqdm=False, total_episodes=32, num_sample_generations=2, on_rollout=keep,
        scorer=lambda samples: torch.tensor([float(sum(c)) for c in samples.completion_ids]),
    )  # fmt: skip
    del made.log  # the real one, which tells the callbacks
    capsys.readouterr()
    made.train()
    said = capsys.readouterr().out
    assert [row.split()[0] for row in said.splitlines() if "/4" in row] == ["1/4", "2/4", "3/4", "4/4"]
    assert all(row.split()[2] == "0.250" for row in said.splitlines() if "/4" in row)
    samples = lines(said, "sample")
    assert len(samples) == 6  # three of updates 1 and 3
    for first, update in ((0, 0), (3, 2)):
        completions, scores, indices = seen[update]
        for i in range(3):
            score, rest = samples[first + i].split(maxsplit=1)
            assert float(score) == pytest.approx(scores[i], abs=6e-4)
            prompt = made.processing_class.decode(made.prompts.ids[indices[i]])
            completion = made.processing_class.decode(completions[i]).split("<eos>")[0].strip()
            assert rest.strip() == f"{prompt} → {completion}".strip()
    assert "{'" not in said


def test_nothing_where_the_bar_is_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = trainer(tmp_path)
    made.train()
    assert made.console is None
    assert capsys.readouterr().out == ""


def test_a_continued_run_goes_on_counting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more: dict[str, Any] = {"disable_tqdm": False, "total_episodes": 32, "num_sample_generations": 2}
    kept = Checkpoints(tmp_path / "checkpoints", 99)
    saving = {"save_strategy": "steps", "save_steps": 1, "save_seconds": 0, "checkpoints": kept}
    whole = trainer(tmp_path, **more, **saving)
    del whole.log
    whole.train()
    capsys.readouterr()
    again = trainer(tmp_path, **more)
    del again.log
    again.train(kept.all()[1])
    said = capsys.readouterr().out
    assert [row.split()[0] for row in said.splitlines() if "/4" in row] == ["3/4", "4/4"]
    assert len(lines(said, "sample")) == 3
    assert said.splitlines()[0] == header()[0]
