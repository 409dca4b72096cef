"""Runs side by side: numbers under their own run, differences that are paired, sentences that claim no more."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.evaluation.policy.across_runs import PairedRuns, SharedPrompts
from pipeline.health import Finding
from pipeline.reporting.compare import Compared, headline, numbers, paired, render, same_proxy
from pipeline.reporting.runs import PolicyRun
from pipeline.store.manifest import Manifest
from pipeline.store.store import Version
from tests.helpers.pictures import arrange_no_axes
from tests.unit.reporting.given import REWARD, change, estimate, newer_json, stats_json

ATTACK = "<script>alert(1)</script>"


def compared(
    label: str,
    directory: Path,
    given: dict[str, Any],
    reward: str = "r",
    findings: Any = (),
    paired: SharedPrompts | None = None,
) -> Compared:
    directory.mkdir(exist_ok=True)
    rows = [{"update": u, "objective/scores": u / 9, "objective/kl": u / 3} for u in range(1, 4)]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    policy = Manifest(f"{label}-policy", 1, "p", "adapter", "ppo", "", stats={"kept": 3})
    evaluation = Manifest(f"{label}-evaluation", 1, "e", "evaluation", "evaluate", "", stats=given)
    run = PolicyRun(
        Version(directory, policy),
        Version(directory, evaluation),
        {"ppo": {"kl_coef": label}},
        {"reward": ("demo-reward@v1", reward)},
        REWARD,
    )
    return Compared(label, run, findings, paired)


def against(difference: tuple[float, float, float], n: int = 50) -> SharedPrompts:
    value, low, high = difference
    pair = PairedRuns(estimate(0.5, n=n), estimate(0.5 + value, n=n), estimate(value, low, high, n))
    return SharedPrompts(n, {"gold_score": pair, "kl_k1": pair, "length": pair})


@pytest.fixture
def two(tmp_path: Path) -> list[Compared]:
    second = newer_json(gold_score=change(0.11, 0.7, 0.5, 0.68), n=100)
    return [
        compared("a", tmp_path / "a", stats_json()),
        compared("b", tmp_path / "b", second, paired=against((0.13, 0.05, 0.2))),
    ]


# Catches: columns swapped, an n of one run said of both.
def test_numbers_stand_under_their_run(two: list[Compared]) -> None:
    table = numbers(two)
    assert table.head == ("metric", "a", "b", "n, interval")
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["Gold score, policy − base"][:2] == ("+0.46 [0.40, 0.52]", "+0.59 [0.50, 0.68]")
    assert rows["Degenerate (share)"] == ("–", "0.25 [0.20, 0.30]", "n = – / 200, Wilson")
    assert rows["Win rate by gold score"][2] == "n = 200, Wilson"
    assert rows["Reward model's accuracy"][0] == "0.60 [0.53, 0.66]"
    assert rows["Published update"][:2] == ("3", "3")
    assert rows["Doctor's findings"][:2] == ("none", "none")


def test_paired_differences_have_their_own_table(two: list[Compared]) -> None:
    (table,) = paired(two)
    assert table.title == "b less a"
    assert table.rows[0] == ("Gold score", "0.50", "0.63", "+0.13 [0.05, 0.20]")
    assert "n = 50 prompts" in table.note
    assert "Their proxies differ" in table.note
    assert (
        paired([two[0], compared("c", Path(two[0].run.policy.path), stats_json(), paired=SharedPrompts(0, {}))])
        == []
    )


# Catches: "higher" said of an interval that holds 0.
@pytest.mark.parametrize(
    ("difference", "said"),
    [
        ((0.13, 0.05, 0.2), "b's gold score is higher than a's: +0.13 [0.05, 0.20], paired on 50 prompts."),
        ((0.13, -0.05, 0.3), "b's gold score does not differ measurably from a's: +0.13 [−0.05, 0.30]"),
        ((-0.13, -0.2, -0.05), "b's gold score is lower than a's: −0.13 [−0.20, −0.05]"),
    ],
)
def test_the_headline_claims_what_the_interval_holds(
    two: list[Compared], tmp_path: Path, difference: tuple[float, float, float], said: str
) -> None:
    second = compared("b", tmp_path / "b", stats_json(), paired=against(difference))
    assert headline([two[0], second]).startswith(said)


def test_the_headline_says_why_it_says_nothing(two: list[Compared], tmp_path: Path) -> None:
    apart = compared("b", tmp_path / "b", stats_json(), paired=SharedPrompts(0, {}))
    assert "no prompt in common" in headline([two[0], apart])
    unknown = compared("b", tmp_path / "b", stats_json(), paired=SharedPrompts(9, {}))
    assert "no score that both have" in headline([two[0], unknown])
    serious = Finding("kl-runs-away", "serious", "", 1, "", "", "")
    ill = compared("b", tmp_path / "b", stats_json(), findings=[serious], paired=against((0.1, 0.05, 0.2)))
    assert "The doctor's findings on b are serious: kl-runs-away." in headline([two[0], ill])


# Catches: proxy scores of two reward models on one axis.
@pytest.mark.thorough
def test_proxies_are_compared_only_if_they_are_one(
    two: list[Compared], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrange_no_axes(monkeypatch)
    other = compared("b", tmp_path / "b", newer_json(), reward="another", paired=against((0.1, 0.05, 0.2)))
    assert same_proxy(two)
    assert not same_proxy([two[0], other])
    pages = [render(two), render([two[0], other])]
    assert ["Gain in proxy score against KL" in page for page in pages] == [True, False]


def test_the_page_holds_text_as_text_and_its_pictures(
    two: list[Compared], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrange_no_axes(monkeypatch)
    runs = [two[0], compared(ATTACK, tmp_path / "b", newer_json(), paired=against((0.1, 0.05, 0.2)))]
    page = render(runs, tmp_path / "pictures")
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 5
    assert "default-src 'none'" in page
    assert not re.search(r'(?:src|href)="(?!#)', page)
    assert "ppo.kl_coef" in page
    names = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert names >= {f"compare-{name}.{end}" for name in ("training", "results") for end in ("svg", "png")}
