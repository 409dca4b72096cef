"""What holds for every format: the winner decides the label, order nothing, a strange column is told once."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.formats.detect import JudgedRow, Reading, Unusable, detect_format, read_judged
from pipeline.formats.known import FORMATS, Format
from pipeline.sources.row_sources import located_rows
from tests.helpers.read_rows import shuffled

Row = dict[str, Any]


def said(role: str, text: str) -> Row:
    return {"role": role, "content": text}


def spoken(who: str, text: str) -> Row:
    return {"from": who, "value": text}


def _oasst(q: str, a: str, b: str, a_won: bool) -> Row:
    def message(role: str, text: str, *replies: Row, rank: int | None = None) -> Row:
        return {"text": text, "role": role, "rank": rank, "replies": list(replies)}

    answers = (message("assistant", a, rank=int(not a_won)), message("assistant", b, rank=int(a_won)))
    return {"message_tree_id": q, "prompt": message("prompter", q, *answers)}


# A question, two answers to it, and whether the first one won.
ONE_ROW: dict[Format, Callable[[str, str, str, bool], Row]] = {
    "trl": lambda q, a, b, w: {"prompt": q, "chosen": a if w else b, "rejected": b if w else a},
    "conversational": lambda q, a, b, w: {
        "prompt": [said("user", q)],
        "chosen": [said("assistant", a if w else b)],
        "rejected": [said("assistant", b if w else a)],
    },
    "hh": lambda q, a, b, w: {
        "chosen": f"\n\nHuman: {q}\n\nAssistant: {a if w else b}",
        "rejected": f"\n\nHuman: {q}\n\nAssistant: {b if w else a}",
    },
    "arena": lambda q, a, b, w: {
        "conversation_a": [said("user", q), said("assistant", a)],
        "conversation_b": [said("user", q), said("assistant", b)],
        "winner": "model_a" if w else "model_b",
    },
    "arena_55k": lambda q, a, b, w: {
        "prompt": json.dumps([q]),
        "response_a": json.dumps([a]),
        "response_b": json.dumps([b]),
        "winner_model_a": int(w),
        "winner_model_b": int(not w),
        "winner_tie": 0,
    },
    "ultrafeedback": lambda q, a, b, w: {
        "instruction": q,
        "completions": [{"response": a, "overall_score": 3 + w}, {"response": b, "overall_score": 4 - w}],
    },
    "shp": lambda q, a, b, w: {"history": q, "human_ref_A": a, "human_ref_B": b, "labels": int(w)},
    "helpsteer": lambda q, a, b, w: {
        "prompt": q,
        "response_1": a,
        "response_2": b,
        "preference_strength": -2 if w else 2,
    },
    "rewardbench": lambda q, a, b, w: {
        "prompt": q,
        "chosen": a if w else b,
        "rejected": b if w else a,
        "chosen_model": "x",
        "rejected_model": "y",
        "subset": "chat",
    },
    "safe_rlhf": lambda q, a, b, w: {
        "prompt": q,
        "response_0": a,
        "response_1": b,
        "better_response_id": int(not w),
    },
    "alpacafarm": lambda q, a, b, w: {
        "instruction": q,
        "input": "",
        "output_1": a,
        "output_2": b,
        "preference": 1 if w else 2,
    },
    "webgpt": lambda q, a, b, w: {
        "question": {"dataset": "d", "id": "1", "full_text": q},
        "answer_0": a,
        "answer_1": b,
        "score_0": 0.5 if w else -0.5,
        "score_1": -0.5 if w else 0.5,
    },
    "summaries": lambda q, a, b, w: {
        "info": {"id": "t3", "post": q, "title": "Help", "subreddit": "advice", "article": None},
        "summaries": [{"text": f" {a}", "policy": "x"}, {"text": f" {b}", "policy": "y"}],
        "choice": int(not w),
        "worker": "w1",
    },
    "nectar": lambda q, a, b, w: {
        "prompt": f"\n\nHuman: {q}\n\nAssistant: ",
        "answers": [{"answer": a, "rank": 2.0 - w, "model": "x"}, {"answer": b, "rank": 1.0 + w, "model": "y"}],
        "turns": 1,
    },
    "oasst": _oasst,
    "responses_scores": lambda q, a, b, w: {
        "prompt": q,
        "responses": [a, b],
        "scores": [0.9, 0.1] if w else [0.1, 0.9],
    },
    "openai_preference": lambda q, a, b, w: {
        "input": {"messages": [said("user", q)], "tools": [], "parallel_tool_calls": True},
        "preferred_output": [said("assistant", a if w else b)],
        "non_preferred_output": [said("assistant", b if w else a)],
    },
    "swift": lambda q, a, b, w: {
        "messages": [said("user", q), said("assistant", a if w else b)],
        "rejected_response": b if w else a,
    },
    "sharegpt": lambda q, a, b, w: {
        "conversations": [spoken("human", q)],
        "chosen": spoken("gpt", a if w else b),
        "rejected": spoken("gpt", b if w else a),
    },
    "instructed": lambda q, a, b, w: {
        "system": "Be brief.",
        "question": q,
        "chosen": a if w else b,
        "rejected": b if w else a,
    },
    "ultrafeedback_pairs": lambda q, a, b, w: {
        "instruction": q,
        "chosen_response": a if w else b,
        "rejected_response": b if w else a,
        "chosen_avg_rating": 4.5,
        "rejected_avg_rating": 3.0,
    },
    "prodigy": lambda q, a, b, w: {
        "text": q,
        "options": [{"id": 1, "text": a}, {"id": 2, "text": b}],
        "accept": [1 if w else 2],
        "answer": "accept",
    },
    "choices": lambda q, a, b, w: {
        "prompt": q,
        "completion_a": a,
        "completion_b": b,
        "choice": "A" if w else "B",
    },
}

SEVERAL_ROWS: dict[Format, Callable[[str, str, str, bool], list[Row]]] = {
    "unpaired": lambda q, a, b, w: [
        {"prompt": q, "completion": a, "label": w},
        {"prompt": q, "completion": b, "label": not w},
    ],
    "helpsteer_rated": lambda q, a, b, w: [
        {"prompt": q, "response": r, "helpfulness": score, "correctness": 4, "coherence": 4}
        for r, score in ((a, 3 + w), (b, 4 - w))
    ],
    "oasst_flat": lambda q, a, b, w: [
        {"message_id": q, "parent_id": None, "text": q, "role": "prompter", "rank": None},
        {"message_id": a, "parent_id": q, "text": a, "role": "assistant", "rank": int(not w)},
        {"message_id": b, "parent_id": q, "text": b, "role": "assistant", "rank": int(w)},
    ],
}

SAMPLES: dict[Format, Callable[[str, str, str, bool], list[Row]]] = {
    **{name: (lambda *x, row=row: [row(*x)]) for name, row in ONE_ROW.items()},
    **SEVERAL_ROWS,
}
QUESTIONS = [(f"What is {i}?", f"It is {i}, of course.", f"Nobody knows {i}.", i % 3 > 0) for i in range(6)]


def rows_of(format: Format, *, inverted: bool = False) -> list[Row]:
    return [row for q, a, b, w in QUESTIONS for row in SAMPLES[format](q, a, b, w != inverted)]


def read(rows: list[Row], format: Format, how: Reading | None = None) -> list[JudgedRow | Unusable]:
    assert detect_format(rows[0], "a.jsonl:1", "auto") == format
    located = ((f"a.jsonl:{i}", row) for i, row in enumerate(rows, 1))
    return [one for _, one in read_judged(located, format, how or Reading())]


def verdicts(rows: list[Row], format: Format) -> set[tuple[str, str, str]]:
    found = read(rows, format)
    assert all(isinstance(one, JudgedRow) and not one.tie for one in found), found
    return {(one.prompt, one.chosen, one.rejected) for one in found if isinstance(one, JudgedRow)}


def test_every_format_is_among_the_samples() -> None:
    # Records of tools have tests of their own; an implicit prompt is never guessed, and the page's export is ours.
    ours = {"argilla", "label_studio", "open_webui", "trl_implicit", "label_page"}
    assert set(FORMATS) - set(SAMPLES) == ours


@pytest.mark.parametrize("format", SAMPLES)
def test_the_first_row_tells_the_format_and_the_winner_is_chosen(format: Format) -> None:
    right = {(a.strip(), b.strip()) if w else (b.strip(), a.strip()) for _, a, b, w in QUESTIONS}
    found = verdicts(rows_of(format), format)
    assert {(chosen.strip(), rejected.strip()) for _, chosen, rejected in found} == right
    assert all(any(q in prompt for q, *_ in QUESTIONS) for prompt, *_ in found)


@pytest.mark.parametrize("format", SAMPLES)
def test_inverting_the_winner_inverts_every_label(format: Format) -> None:
    inverted = {(p, rejected, chosen) for p, chosen, rejected in verdicts(rows_of(format), format)}
    assert verdicts(rows_of(format, inverted=True), format) == inverted


@pytest.mark.parametrize("format", SAMPLES)
def test_the_order_of_keys_and_rows_says_nothing(format: Format) -> None:
    rng = random.Random(0)
    rows = rows_of(format)
    mixed = [shuffled(row, rng) for row in rows]
    rng.shuffle(mixed)
    assert verdicts(mixed, format) == verdicts(rows, format)


@pytest.mark.parametrize("format", SAMPLES)
def test_an_unknown_column_adds_one_line_and_nothing_else(format: Format) -> None:
    rows = rows_of(format)
    before, after = Reading(), Reading()
    plain = read(rows, format, before)
    more = read([{**row, "shoe_size": 42 if i else None} for i, row in enumerate(rows)], format, after)
    assert more == plain
    new = [line for line in after.notices.lines() if line not in before.notices.lines()]
    assert len(new) == 1
    assert "columns not used: " in new[0]
    assert "shoe_size" in new[0]
    assert len(after.notices.lines()) == max(1, len(before.notices.lines()))


# Catches: a list or an object that a table holds as text is taken for a text.
@pytest.mark.parametrize(
    "written", [str, json.dumps, lambda v: json.dumps(v, indent=1)], ids=["str", "json", "lines"]
)
@pytest.mark.parametrize("format", SAMPLES)
def test_a_table_says_the_same(tmp_path: Path, format: Format, written: Callable[[Any], str]) -> None:
    rows = rows_of(format)
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(
            {k: written(v) if isinstance(v, (list, dict)) else v for k, v in row.items()} for row in rows
        )
    back = [row for _, row in located_rows(str(path), where="x")]
    assert verdicts(back, format) == verdicts(rows, format)


class Watched(Mapping[str, Any]):
    """A row that remembers which columns were asked for."""

    def __init__(self, row: Row, asked: set[str]) -> None:
        self._row, self._asked = row, asked

    def __getitem__(self, name: str) -> Any:
        self._asked.add(name)
        return self._row[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._row)

    def __len__(self) -> int:
        return len(self._row)


# Catches: a reader that reads a column its layout does not name, which is then called unused.
@pytest.mark.parametrize("format", [name for name in SAMPLES if FORMATS[name].row is not None])
def test_a_layout_names_every_column_that_its_reader_reads(format: Format) -> None:
    layout, asked = FORMATS[format], set[str]()
    read_row = layout.row
    assert read_row is not None
    for row in rows_of(format):
        read_row(Watched(layout.named(row), asked), Reading())
    ours = {"choice"} if format == "safe_rlhf" else set[str]()
    assert asked <= set(layout.used()) | ours
