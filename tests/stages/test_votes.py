"""Several people's judgements of one comparison, through ``collect`` and on a test set."""

from __future__ import annotations

import csv
import json
import random
import shutil
from typing import Any

import pytest

from tests.stages.conftest import MINI, Project

COLUMNS = {"prompt": "task", "completion_a": "left", "completion_b": "right", "choice": "verdict"}
N = 24


def majority() -> list[dict[str, str]]:
    return [
        {"prompt": f"How was trip {i}?", "chosen": f" Sunny, all {i} days.", "rejected": f" Rain, all {i} days."}
        for i in range(N)
    ]


def votes() -> list[dict[str, str]]:
    """Five people, four of them for the first; each pair's columns swapped for two of the five."""
    rows: list[dict[str, str]] = []
    for i, pair in enumerate(majority()):
        for k in range(5):
            sides, better = [pair["chosen"], pair["rejected"]], "a" if k != i % 5 else "b"
            if (i + k) % 5 < 2:
                sides, better = sides[::-1], {"a": "b", "b": "a"}[better]
            rows.append(
                {"task": pair["prompt"], "left": sides[0], "right": sides[1], "verdict": better, "who": f"w{k}"}
            )
    return rows


def undecided() -> list[dict[str, str]]:
    return [
        {"task": "And the food?", "left": " Good.", "right": " Bad.", "verdict": verdict, "who": who}
        for verdict, who in (("a", "w0"), ("tie", "w1"), ("b", "w2"), ("tie", "w3"), ("a", "w4"))
    ]


def collected(
    project: Project, finished: Project, rows: list[dict[str, str]], name: str = "votes", **options: Any
) -> Any:
    file = project.root / f"{name}.csv"
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    prompts = project.root / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"p{i}", "chosen": "x " * 9}) + "\n" for i in range(40)))
    if not (project.root / "data").exists():
        shutil.copytree(finished.root / "data", project.root / "data")
    args = {"dataset": str(file), "columns": COLUMNS, **options}
    project.write(
        task="prompts",
        task_args={"dataset": str(prompts), "corpus_column": "chosen", "completion_tokens": 8},
        collect={
            "comparisons": None,
            "annotator": "replay",
            "annotator_args": args,
            "test_share": 0.3,
            "inputs": {"base": "mini-base@v1"},
        },
        sft={**MINI["sft"], "per_device_train_batch_size": 4, "max_steps": 2},
    )
    assert project.run("collect") == 0
    return project.latest("preferences")


def texts(version: Any) -> set[tuple[str, str, str, str]]:
    return {(s, r["prompt"], r["chosen"], r["rejected"]) for s in ("train", "test") for r in version.rows(s)}


# Catches: a row for every direction anybody chose, sides told by their column, people that are not counted.
def test_four_to_one_is_what_the_majority_says(
    finished: Project, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = votes() + undecided()
    named = {"columns": COLUMNS | {"annotator": "who"}, "margin": "share"}
    found = collected(project, finished, rows, **named)
    assert (
        "25 comparisons from 125 votes of 5 people, by majority: 24 decided, 1 even; agreement"
        in capsys.readouterr().out
    )
    assert {t[1:] for t in texts(found)} == {tuple(r.values()) for r in majority()}
    every = [r for s in ("train", "test") for r in found.rows(s)]
    assert {(round(r["margin"], 9), r["annotator"]) for r in every} == {(0.6, "majority:5")}

    stats = found.manifest.stats
    assert (stats["comparisons"], stats["votes"], stats["people"], stats["split_votes"]) == (25, 125, 5, 1)
    assert (stats["decided"], stats["ties"], stats["aggregate"]) == (24, 0, "majority")
    single = [r for s in ("train", "test") for r in found.rows(s, "votes")]
    outcomes = [r for s in ("train", "test") for r in found.rows(s, "outcomes")]
    assert len(single) == 125
    assert len({r["id"] for r in single}) == 125
    assert all(r["annotator"].startswith("p_") and r["count"] == 1 for r in single)
    assert sorted({(r["choice"] in ("a", "b"), r["share"], r["votes"]) for r in outcomes}) == [
        (False, 0.4, 5),
        (True, 0.8, 5),
    ]
    known = {r["comparison_id"] for r in every}
    assert known < {r["comparison_id"] for r in outcomes} == {r["comparison_id"] for r in single}

    # The same without names, in another order.
    random.Random(0).shuffle(rows)
    nameless = collected(project, finished, [{k: v for k, v in r.items() if k != "who"} for r in rows], "nameless")
    assert texts(nameless) == texts(found)
    assert nameless.manifest.stats["votes"] == 125
    turned = [{**r, "verdict": {"a": "b", "b": "a"}.get(r["verdict"], r["verdict"])} for r in rows]
    inverted = collected(project, finished, turned, "inverted")
    assert texts(inverted) == {(s, p, rejected, chosen) for s, p, chosen, rejected in texts(found)}
