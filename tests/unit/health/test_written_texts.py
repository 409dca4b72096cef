"""What a run writes: figures against counts made by hand, and rules against texts of known variety."""

from __future__ import annotations

import functools
import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.health import Doctor, Finding, diagnose, examined
from pipeline.health.facts import written_under_way
from pipeline.health.written_texts import TEXTS, Written, written
from pipeline.texts.collapse import percent
from tests.helpers.histories import GOLD, Row, healthy

Rows = list[dict[str, Any]]

BATCH = 64
THINGS = [f"{a} {b}" for a in ("old", "new", "small", "large", "blue", "warm", "dry") for b in
          ("door", "oven", "street", "roof", "boat", "garden", "lamp", "coat", "river")]  # fmt: skip
FAVOURITE = "We would gladly come back."


def rollouts(
    updates: int,
    seed: int = 0,
    favourite: Callable[[int], float] = lambda u: 0.0,
    text: Callable[[random.Random], str] | None = None,
    batch: int = BATCH,
) -> Rows:
    """Rollouts whose share of completions that end in the favourite sentence is a function of the update.

    Those that do score 2, the others 1.
    """
    rng = random.Random(seed)
    rows: Rows = []
    for update in range(1, updates + 1):
        for i in range(batch):
            ends = rng.random() < favourite(update)
            written = text(rng) if text else f"The {rng.choice(THINGS)} was seen. The {rng.choice(THINGS)} too."
            rows.append(
                {
                    "update": update,
                    "prompt": f"prompt {update} {i}",
                    "completion": f"{written} {FAVOURITE}"
                    if ends
                    else f"{written} I like the {rng.choice(THINGS)}.",
                    "ended": True,
                    "score": 2.0 if ends else 1.0,
                }
            )
    return rows


def others(updates: int, seed: int = 0, batch: int = BATCH, gold: bool = True) -> list[Row]:
    """All figures of a healthy run but those of its texts."""
    rows = healthy(updates, seed, batch, gold=gold)
    return [{k: v for k, v in row.items() if not k.startswith("diversity/")} for row in rows]


def findings(rows: Rows, history: Sequence[Row] | None = None) -> dict[str, Finding]:
    updates = max(row["update"] for row in rows)
    return {f.rule: f for f in diagnose(history or others(updates), None, written(rows))}


@functools.cache
def collapsing() -> tuple[Rows, Written]:
    """A run that comes to end in the favourite, and what it has written; looked at by many tests."""
    rows = rollouts(24, favourite=gone(8, 0.9))
    return rows, written(rows)


def gone(begin: int, share: float) -> Callable[[int], float]:
    """The favourite's share grows from 0 to ``share`` within six updates."""
    return lambda update: share * min(max(update - begin, 0) / 6, 1.0)


# -------------------- figures


def take(batch: list[str], ended: list[bool] | None = None, scores: list[float] | None = None) -> Written:
    taken = Written()
    n = len(batch)
    taken.take(1, [f"p{i}" for i in range(n)], batch, ended or [True] * n, scores or [0.0] * n)
    return taken


def test_by_hand() -> None:
    # 256 texts: half end in "A b c.", a quarter in "D!", a quarter in nothing.
    texts = ["One two. A b c."] * 128 + ["D!"] * 64 + [""] * 64
    figures = take(texts).windows[1].figures
    entropy = -(0.5 * math.log(0.5) + 2 * 0.25 * math.log(0.25))
    assert figures["diversity/closings"] == pytest.approx(math.exp(entropy))
    assert figures["diversity/common_closing"] == figures["diversity/common_sentence"] == 0.5
    assert figures["diversity/unique"] == 3 / 256
    assert figures["diversity/sentences"] == (128 * 2 + 64 + 64) / 256
    # "one two . a b c ." has five trigrams, alike in all 128 of them; the others have none. Half of the 640 are
    # drawn: the expectation of what 320 show is a little below 5.
    assert 4.9 < figures["diversity/trigrams"] < 5.0
    assert figures["diversity/spread"] == 0.0


def test_a_cut_text_ends_in_its_last_whole_sentence() -> None:
    texts = ["It is. So it"] * 128 + ["It is. So"] * 128
    assert take(texts, [False] * 256).windows[1].figures["diversity/closings"] == 1.0
    assert take(texts).windows[1].figures["diversity/closings"] == pytest.approx(2.0)


@pytest.mark.parametrize(("batch", "first"), [(64, 4), (256, 1), (300, 1), (100, 3), (8, 32)])
def test_the_window_is_of_whole_updates_and_always_as_large(batch: int, first: int) -> None:
    taken = written(rollouts(first + 3, batch=batch))
    assert list(taken.windows) == [first, first + 1, first + 2, first + 3]
    assert {w.n for w in taken.windows.values()} == {first * batch}
    assert (first - 1) * batch < TEXTS <= first * batch


def test_known_variety_and_its_bias() -> None:
    """63 equally frequent closings look like 56 in 256 texts: 62/512 nats less (Miller 1955), at every update."""
    taken = written(rollouts(12, text=lambda rng: "So."))
    seen = [w.figures["diversity/closings"] for w in taken.windows.values()]
    expected = len(THINGS) * math.exp(-(len(THINGS) - 1) / (2 * TEXTS))
    assert all(abs(value / expected - 1) < 0.1 for value in seen)


def test_shorter_texts_are_no_less_varied() -> None:
    """Mutation caught: trigrams of the whole window, of which shorter texts have fewer."""

    def said(n: int) -> Callable[[random.Random], str]:
        return lambda rng: " ".join(rng.choice(THINGS) for _ in range(n))

    rows = [r for r in rollouts(8, text=said(20)) if r["update"] <= 4]
    rows += [r for r in rollouts(8, 1, text=said(12)) if r["update"] > 4]
    windows = written(rows).windows
    first, last = (windows[u].figures["diversity/trigrams"] for u in (4, 8))
    assert last / first == pytest.approx(1, abs=0.08)


def test_what_spread_by_hand() -> None:
    rows = rollouts(8, favourite=lambda u: 0.5 if u > 4 else 0.0)
    taken = written(rows)
    spread, closing = taken.windows[8].spread, taken.windows[8].closing
    share = sum(r["completion"].endswith(FAVOURITE) for r in rows if r["update"] > 4) / 256
    assert spread == closing
    assert (spread.text, spread.share, spread.before) == (FAVOURITE, share, 0.0)
    assert (spread.score_with, spread.score_without) == (2.0, 1.0)
    assert taken.windows[8].figures["diversity/spread"] == share


def test_a_phrase_within_sentences_that_differ() -> None:
    """No sentence is there twice, and yet all say the same."""

    def says(rng: random.Random) -> str:
        return f"The {rng.choice(THINGS)} is by far the best in {rng.randrange(10**6)}."

    rows = [r for r in rollouts(8) if r["update"] <= 4] + [
        r | {"completion": says(random.Random(i))} for i, r in enumerate(rollouts(8)) if r["update"] > 4
    ]
    spread = written(rows).windows[8].spread
    assert (spread.share, spread.before) == (1.0, 0.0)
    assert spread.text in "is by far the best in"
    assert len(spread.text.split()) == 4
    assert spread.score_without is None


# -------------------- rules


def test_a_collapse_is_named_with_its_sentence_scores_and_update() -> None:
    rows, texts = collapsing()
    found = {f.rule: f for f in diagnose(others(24), None, texts)}
    assert set(found) == {"sentences-collapse", "phrase-spreads"}
    collapse = found["sentences-collapse"]
    # Of what is written at update 12 a half ends so; the window of four sees it two updates later.
    assert collapse.since is not None
    assert 11 <= collapse.since <= 14
    assert f' % end in "{FAVOURITE}"' in collapse.what
    assert "Those that end so score 2.00 on average, the others 1.00." in collapse.what
    assert "Of the latest 256 completions: " in collapse.what
    assert f'"{FAVOURITE}" is in ' in found["phrase-spreads"].what
    # The figures are those of the end, as the sentence that wins may be another than the first one seen.
    # Mutation caught: what it said when first seen.
    ends = sum(r["completion"].endswith(FAVOURITE) for r in rows if r["update"] > 20) / 256
    assert f"{percent(ends)} end in" in collapse.what


# With .4 in one sentence 21 of 57 effective closings are left, with .6 ten; four standard errors are a factor 1.6.
@pytest.mark.parametrize(("share", "ill"), [(0.2, False), (0.4, False), (0.6, True), (0.9, True)])
def test_where_a_collapse_begins(share: float, ill: bool) -> None:
    for seed in range(3):
        found = findings(rollouts(24, seed, gone(6, share), lambda rng: "So."))
        assert ("sentences-collapse" in found) == ill


@pytest.mark.parametrize(("share", "ill"), [(0.22, False), (0.4, True)])
def test_where_a_phrase_is_told(share: float, ill: bool) -> None:
    for seed in range(3):
        assert ("phrase-spreads" in findings(rollouts(24, seed, gone(6, share)))) == ill


@pytest.mark.parametrize(("kinds", "ill"), [(30, False), (8, True)])
def test_where_ngrams_collapse(kinds: int, ill: bool) -> None:
    """Every sentence is new, out of fewer and fewer words, each of which stands anywhere."""

    def says(few: int) -> Callable[[random.Random], str]:
        return lambda rng: " ".join(f"{rng.choice(THINGS[:few])}" for _ in range(20)) + "."

    rows = [r for r in rollouts(20, text=says(40)) if r["update"] <= 6]
    rows += [r for r in rollouts(20, 1, text=says(kinds)) if r["update"] > 6]
    found = findings(rows)
    assert ("ngrams-collapse" in found) == ill
    if ill:
        assert found["ngrams-collapse"].since in (8, 9, 10)


NOUNS = [f"{a}{b}" for a in ("bar", "dom", "fen", "kil", "lum", "nor", "pal", "ras", "tov") for b in
         ("a", "en", "is", "ok", "ut", "ard", "elo", "ing", "osh", "um")]  # fmt: skip
FRAMES = ("the {} was a {}", "a {} had the {}", "it was {} and {}", "we had {} for {}", "for a {} it was {}",
          "and the {} had {}", "was it {} for the {}", "had we a {} and {}")  # fmt: skip


def framed(kinds: int) -> Callable[[random.Random], str]:
    return lambda rng: " ".join(
        rng.choice(FRAMES[:kinds]).format(rng.choice(NOUNS), rng.choice(NOUNS)) + "." for _ in range(2)
    )


# Mutations caught: patterns of each window's own frequent words; the figure at as many sentences as there are.
@pytest.mark.parametrize(("kinds", "ill"), [(8, False), (5, False), (1, True)])
def test_where_patterns_collapse(kinds: int, ill: bool) -> None:
    """Every sentence is new; what narrows is the form."""

    def rows(kinds: int, seed: int) -> Rows:
        rng, said = random.Random(seed), framed(kinds)
        return [r | {"completion": said(rng)} for r in rollouts(16)]

    taken = [r for r in rows(8, 0) if r["update"] <= 6] + [r for r in rows(kinds, 1) if r["update"] > 6]
    found = findings(taken)
    assert set(found) == ({"patterns-collapse"} if ill else set())
    if ill:
        assert found["patterns-collapse"].since in (8, 9, 10)
        assert '100 % of all sentences are "the … was a …"' in found["patterns-collapse"].what


@pytest.mark.thorough
def test_varied_runs_are_quiet() -> None:
    for seed in range(5):
        assert findings(rollouts(32, seed)) == {}
        assert findings(rollouts(40, seed, batch=8), others(40, seed, 8)) == {}


def one_answer(rng: random.Random, right: float) -> str:
    return rng.choice(["yes", "no"]) if rng.random() < right else f"{rng.choice(THINGS)} {rng.choice(THINGS)}"


def answers(updates: int, learnt: int = 8) -> Rows:
    rng = random.Random(0)
    return [
        r | {"completion": one_answer(rng, min(r["update"] / learnt, 1.0)), "score": 1.0}
        for r in rollouts(updates)
    ]


def test_a_task_of_few_right_answers_is_well_where_gold_says_so() -> None:
    """Mutations caught: told before gold can say; no excuse; an excuse for texts of many sentences."""
    rows = answers(30)
    right = [min(row["update"] / 8, 1.0) + row[GOLD] / 20 for row in others(30)]
    learns = [row | {GOLD: share, "objective/scores": share} for row, share in zip(others(30), right, strict=True)]
    assert findings(rows, learns) == {}
    for gold in (lambda u: 0.3 + 0.05 * (-1) ** u, None):
        history = [
            row | ({} if gold is None else {GOLD: gold(int(row["update"]))}) for row in others(30, gold=False)
        ]
        assert "sentences-collapse" in findings(rows, history)
    # Many sentences, all ending in one: a gold score that rose is no excuse, as it rises on what is gamed.
    assert "sentences-collapse" in findings(rollouts(30, favourite=gone(8, 0.9)), others(30))


def test_figures_alone_tell_it_without_a_name() -> None:
    """As from a metrics.jsonl that has been taken elsewhere."""
    windows = collapsing()[1].windows
    history = [row | windows[u].figures if (u := int(row["update"])) in windows else row for row in others(24)]
    found = {f.rule: f for f in diagnose(history)}
    assert set(found) == {"sentences-collapse", "phrase-spreads"}
    named = {f.rule: f for f in diagnose(others(24), None, collapsing()[1])}
    assert found["sentences-collapse"].since == named["sentences-collapse"].since
    assert found["phrase-spreads"].since == named["phrase-spreads"].since
    assert diagnose(history[:10]) == []


def test_where_nothing_was_written_nothing_is_looked_for() -> None:
    assert {"sentences-collapse", "ngrams-collapse", "phrase-spreads"} <= set(examined(others(20)).blind)
    blind = examined(others(20), None, written(rollouts(20))).blind
    assert {"sentences-collapse", "ngrams-collapse", "phrase-spreads"}.isdisjoint(blind)


# -------------------- as it goes


@pytest.mark.parametrize("cut", [3, 9, 13, 20])
def test_a_run_that_is_continued_goes_on_where_it_was(cut: int) -> None:
    (rows, whole), history = collapsing(), others(24)
    again = written(r for r in rows if r["update"] <= cut)
    for update in range(cut + 1, 25):
        batch = [r for r in rows if r["update"] == update]
        columns = [[r[name] for r in batch] for name in ("prompt", "completion", "ended", "score")]
        assert again.take(update, *columns) == (whole.windows[update].figures if update >= 4 else {})
    assert again.windows == whole.windows
    # The doctor tells after the cut what was not told before it, once.
    doctor = Doctor(None, again)
    before = [f.rule for row in history[:cut] for f in doctor.take(row)]
    after = [f.rule for row in history[cut:] for f in doctor.take(row)]
    assert sorted(before + after) == ["phrase-spreads", "sentences-collapse"]
    assert doctor.findings == diagnose(history, None, whole)


def test_a_file_that_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.jsonl"
    rows = rollouts(5)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows) + '{"update": 6, "compl', encoding="utf-8")
    assert written_under_way(path).windows == written(rows).windows
    assert written_under_way(tmp_path / "none.jsonl").windows == {}


def test_samples_to_read() -> None:
    taken = Written()
    assert taken.samples == []
    taken.take(1, ["p"] * 5, list("abcde"), [True] * 5, [3.0, 1.0, 5.0, 2.0, 4.0])
    assert taken.samples == [(5.0, "c"), (3.0, "a"), (1.0, "b")]
    taken.take(2, ["p"], ["only"], [True], [0.5])
    assert taken.samples == [(0.5, "only")]


def test_odd_texts_end_no_run() -> None:
    rng = random.Random(0)
    odd = [
        "",
        " ",
        "\n\n",
        "...",
        "1.",
        "。",
        "a" * 5000,
        "\u0000\ud800",
        "天气很好。我们走吧。",
        "- a\n- b",
        "\x1b[31m",
    ]
    for _ in range(3):
        rows = [r | {"completion": rng.choice(odd)} for r in rollouts(12)]
        assert isinstance(findings(rows), dict)
