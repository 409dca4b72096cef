"""What is about somebody is taken out of a text, and the rest of it stays."""

from __future__ import annotations

import json

from pipeline.erasure.redact import redacted_text, redacted_value

WHO = "p_0123456789"
OTHER = "p_9876543210"


def test_rows_of_figures_go_with_their_numbers() -> None:
    value = {
        "slices": {"annotator": {"rows": [{"name": WHO, "accuracy": {"value": 0.25}}, {"name": OTHER, "n": 3}]}},
        "by": {WHO: {"votes": 3}, OTHER: {"votes": 4}},
        "cells": [[WHO, "0.25"], [OTHER, "0.75"]],
        "people": [WHO, OTHER],
        "verdict": f"weakest for {WHO}: look at it",
        "mean": 0.5,
        "none": None,
    }
    left = redacted_value(value, [WHO])
    assert left == {
        "slices": {"annotator": {"rows": [{"name": OTHER, "n": 3}]}},
        "by": {OTHER: {"votes": 4}},
        "cells": [[OTHER, "0.75"]],
        "people": [OTHER],
        "verdict": "weakest for (erased): look at it",
        "mean": 0.5,
        "none": None,
    }
    assert redacted_value(left, [WHO]) == left


def test_texts_by_their_kind() -> None:
    html = f"<table><tr><th>who</th></tr>\n<tr class='x'><td>{WHO}<td>.25</tr><tr><td>{OTHER}</tr></table><p>{WHO}"
    assert redacted_text(html, ".html", [WHO]) == (
        f"<table><tr><th>who</th></tr>\n<tr><td>{OTHER}</tr></table><p>(erased)"
    )
    lines = f"| a | b |\r\n| {WHO} | .25 |\r\n| {OTHER} | .75 |\r\n"
    assert redacted_text(lines, ".md", [WHO]) == f"| a | b |\r\n| {OTHER} | .75 |\r\n"
    assert redacted_text(f'{{"a": 1}}\n{{"who": "{WHO}"}}\n', ".jsonl", [WHO]) == '{"a": 1}\n'
    assert json.loads(redacted_text(json.dumps({"a": [{"who": WHO, "n": 1}], "b": 2}), ".json", [WHO])) == {
        "a": [],
        "b": 2,
    }
    assert redacted_text(f"{{broken {WHO}", ".json", [WHO]) == "{broken (erased)"
    assert redacted_text(f"<svg><text>{WHO}</text></svg>", ".svg", [WHO]) == "<svg><text>(erased)</text></svg>"


def test_what_names_nobody_stays_to_the_byte() -> None:
    assert redacted_text('{ "a":1 }', ".json", [WHO]) == '{ "a":1 }'
    assert redacted_text("", ".html", [WHO]) == ""
