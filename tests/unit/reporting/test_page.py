"""The page: honest sentences, text that stays text, nothing loaded from anywhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from pipeline.reporting.page import Picture, Report, Sample, choose_samples, headline, render_page, safe_svg

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(1)>"
SVG = '<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0"/></svg>'


def entry(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": 200}


def change(base: float, policy: float, low: float, high: float) -> dict[str, Any]:
    return {"base": entry(base), "policy": entry(policy), "difference": entry(round(policy - base, 9), low, high)}


def stats(**more: Any) -> dict[str, Any]:
    out: dict[str, Any] = {
        "n": 200,
        "level": 0.95,
        "gold_score": change(0.11, 0.57, 0.40, 0.52),
        "score": change(0, 2, 1.8, 2.2),
        "length": change(20, 22, 1, 3),
        "win_rate": {"gold_score": {**entry(0.8, 0.7, 0.9), "wins": 150, "ties": 20, "losses": 30}, "score": None},
        "kl_k1": {**entry(5.1, 4.9, 5.3), "standard_error": 0.1},
        "kl_k3": None,
        "ended": {"base": entry(0.9, 0.8, 1.0), "policy": entry(0.95, 0.9, 1.0)},
        "unique": {"base": 1.0, "policy": 0.5},
        "distinct_1": {"base": None, "policy": None},
    }
    return {**out, **more}


REWARD: dict[str, Any] = {
    "n": 240,
    "ties": 1,
    "accuracy": entry(0.6, 0.53, 0.66),
    "margin": entry(0.3, 0.1, 0.5),
    "baselines": [{"name": "bag of words", "accuracy": None, "reason": "3 training pairs, fewer than 20"}],
    "gold": {"n": 200, "accuracy": entry(0.6), "label_noise": entry(0.1)},
    "calibration": {"ece": 0.1, "brier": 0.2, "temperature": None, "temperature_reason": "no pair is wrong"},
    "length_correlation": {"spearman": -0.2, "pearson": None},
    "clears_baselines": False,
    "verdict": "The reward model does not clear the best baseline.",
}


class Tags(HTMLParser):
    """Every element with its attributes, and a check that elements close."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def full_page() -> str:
    samples = [
        Sample(ATTACK, "", ATTACK, 0.0, 1.0, 0.1, 0.9, kind="gain"),
        Sample("p", "w " * 3000, "x" * 3000, kind="random"),
    ]
    return render_page(
        Report(
            ATTACK, stats(), REWARD, [Picture(ATTACK, SVG, ATTACK)], samples, f"a@v1\n└── {ATTACK}",
            {"name": ATTACK}, [ATTACK], [(ATTACK, ATTACK)],
        )
    )  # fmt: skip


# Catches: autoescape off, a |safe on any text of the report.
def test_untrusted_text_never_becomes_markup() -> None:
    page = full_page()
    tags = Tags(page).found
    assert not [tag for tag, _ in tags if tag in ("script", "img", "iframe", "object", "form", "link")]
    assert not [name for _, attrs in tags for name in attrs if name.startswith("on")]
    assert "<script>" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 9


# Catches: a font, style sheet or picture from elsewhere, a softer policy.
def test_nothing_is_loaded_and_the_policy_forbids_it() -> None:
    page = full_page()
    policies = [a.get("content") or "" for t, a in Tags(page).found if t == "meta" and a.get("http-equiv")]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none'; ")
    assert "http" not in policies[0]
    assert "script" not in policies[0]
    without_names = re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)
    assert "http://" not in without_names
    assert "https://" not in without_names
    assert not re.search(r"@import|url\((?!#)", without_names)


def test_missing_parts_are_said_not_invented() -> None:
    page = render_page(Report("bare"))
    for sentence in ("has not been evaluated", "No evaluation", "No reward model", "No samples"):
        assert sentence in page
    assert "None" not in page
    assert "nan" not in page
    assert "(empty)" in full_page()
    no_gold = stats(gold_score=None, win_rate={"gold_score": None, "score": None}, kl_k1=None)
    assert "Gold score" not in render_page(Report("r", no_gold, samples=[Sample("p", "a", "b", 1.0, 2.0)]))
    assert "3 training pairs, fewer than 20" in full_page()


# Catches: the sign of the interval's test, a proxy sold as evidence.
@pytest.mark.parametrize(
    ("given", "mood", "words"),
    [
        (stats(), "good", "Gold score rose from 0.11 to 0.57 (+0.46 [0.40, 0.52]) at a KL of 5.1 nats"),
        (stats(gold_score=change(0.1, 0.11, -0.05, 0.07)), "flat", "did not rise measurably"),
        (stats(gold_score=change(0.1, 0.11, -0.05, 0.07)), "flat", "proxy score rose all the same"),
        (stats(gold_score=change(0.5, 0.1, -0.5, -0.3)), "bad", "Gold score fell from 0.50 to 0.10 (−0.40"),
        (stats(gold_score=None), "unknown", "no gold score"),
        (stats(gold_score=None, score=None), "unknown", "no score of either kind"),
        (
            stats(gold_score={"base": entry(None), "policy": entry(None), "difference": entry(None)}),
            "unknown",
            "Proxy",
        ),
        ({"n": 0}, "unknown", "not been evaluated"),
    ],
)
def test_headline(given: dict[str, Any], mood: str, words: str) -> None:
    said = headline(given)
    assert said[0] == mood
    assert words in said[1]


def test_a_rise_says_nothing_about_a_bad_proxy() -> None:
    assert "all the same" not in headline(stats())[1]


# Catches: ascending for descending, a sample shown twice, an unseeded draw.
def test_choose_samples() -> None:
    samples = [Sample(str(i), "", "", gold_score_before=0.0, gold_score_after=float(g)) for i, g in enumerate(
        [5, -5, 1, -1, 0, 3, -3, 2, 4, -2]
    )]  # fmt: skip
    chosen = choose_samples(samples, each=3)
    changes = {kind: [s.change for s in chosen if s.kind == kind] for kind in ("gain", "loss", "random")}
    assert changes["gain"] == [5, 4, 3]
    assert changes["loss"] == [-5, -3, -2]
    assert len({s.prompt for s in chosen}) == 9
    assert choose_samples(samples, each=3) == chosen
    assert all(s.kind == "random" for s in choose_samples([Sample("p", "", "")]))


def test_change_prefers_gold_over_proxy() -> None:
    assert Sample("p", "", "", 0.0, 9.0, 1.0, 0.5).change == -0.5
    assert Sample("p", "", "", 0.0, 9.0).change == 9.0


@pytest.mark.parametrize(
    "svg",
    [
        "not xml",
        "<p>text</p>",
        SVG.replace("<path", "<script>1</script><path"),
        SVG.replace("<path", '<path onclick="x()"'),
        SVG.replace("<path", '<use href="https://example.org/a.svg"/><path'),
        SVG.replace("<path", '<image href="data:image/png;base64,AA"/><path'),
        SVG.replace("<path", "<foreignObject/><path"),
        "<!DOCTYPE svg>" + SVG,
    ],
)
def test_a_picture_that_does_more_than_draw_is_refused(svg: str) -> None:
    with pytest.raises(ValueError, match="SVG"):
        safe_svg(svg)


def test_own_figures_pass() -> None:
    from pipeline.reporting import figures

    picture = figures.inline_svg(figures.training_curves([{"update": 1, "objective/scores": 0.0}]), "ppo")
    assert picture in render_page(Report("r", pictures=[Picture("PPO", picture)]))
