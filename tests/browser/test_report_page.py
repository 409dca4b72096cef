"""The report's page in a real browser: on a phone, in the dark, on paper, and by the rules of accessibility."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.health import Finding
from pipeline.reporting.accountability import Answer
from pipeline.reporting.courses import with_courses
from pipeline.reporting.figures import common, frontier, scores
from pipeline.reporting.page import Checkup, Picture, Report, render_page
from pipeline.reporting.run_tables import Table
from pipeline.reporting.samples import Sample, with_pictures
from pipeline.reporting.trees import Branch
from pipeline.texts.score_course import Scores
from tests.browser.conftest import LAPTOP, PHONE
from tests.unit.reporting.given import estimate, newer, reward, sliced, varied_json

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

LOOKS = [
    (LAPTOP, False),
    pytest.param(LAPTOP, True, marks=pytest.mark.slow),
    pytest.param(PHONE, False, marks=pytest.mark.slow),
    (PHONE, True),
]
END = "the very end of a long completion"


@pytest.fixture(scope="module")
def html() -> str:
    """A page with something in every section; its names are long, and so is one completion."""
    panels = {m: frontier.curves(newer(), m) for m in ("gold_score", "score")}
    judged = [scores.Judgement("gold score", estimate(0.8, 0.7, 0.9), estimate(0.6, 0.5, 0.7))]
    drawn = {
        "frontier": frontier.frontier(panels, frontier.turn(newer())),
        "policy": scores.win_rates(judged),
    }
    long = "experiment-with-a-very-long-name-that-somebody-chose-policy@v000012"
    tree = Branch("", long, "adapter by ppo", [Branch("policy", long, "", [Branch("reward", long)])])
    finding = Finding("kl-runs-away", "serious", "What.", 3, "Why.", "Change.", "docs/doctor.md#kl-runs-away")
    return render_page(
        Report(
            title=long,
            evaluation=newer(diversity=varied_json()),
            reward=reward(sliced()),
            pictures=[Picture(n, common.for_page(common.as_svg(f), n), "A caption.", n) for n, f in drawn.items()],  # type: ignore[arg-type]
            samples=[
                Sample("p", "before " * 99, "after " * 300 + END, 0.0, 1.0, 0.1, 0.9, "gain"),
                followed(),
                *pictured(),
            ],
            answers=[
                Answer("Who?", ["Nobody."], done=False),
                Answer(
                    "What?", ["0.0 % [0.0, 1.0] of it."], [Table("", ("what", "who"), [(long, long)], "A note.")]
                ),
            ],
            lineage=tree,
            differences=Table(
                "", ("setting", long, long), [("ppo.reward", "default", f"[{long}, {long}]")], "A note."
            ),
            config={"name": long},
            checkup=Checkup([finding], 40, ["label-noise"]),
            facts=[("policy", long)],
        )
    )


def followed() -> Sample:
    """A sample whose scores after every token rise and fall, weakly and strongly."""
    words = ["so", " good", " but", " so", " bad", " and", " good"]
    course = Scores(0.0, words, [0.1, 1.1, 0.8, 0.8, -0.2, -0.2, 0.2])
    return with_courses(Sample("p", "".join(words), "".join(words), 0.2, 0.2, kind="loss"), course, course)


def pictured() -> list[Sample]:
    """A tune and a drawing, seen and heard."""
    tune = Sample("M:3/4\nL:1/8\nK:G\nD2 | G2 B2 A G |", " F2 A2", " F2 A2 d2 | B2 G2 A F | G4 |]", 0.0, 1.0)
    house = Sample("Draw a red house.", "", "\nbox red 3 0 6 4\ntri brown 3 4 6 3", 0.0, 1.0)
    return [*with_pictures([tune], "abc"), *with_pictures([house], "shapes")]


def opened(context: BrowserContext, html: str) -> Page:
    page = context.new_page()
    page.set_content(html)
    return page


# Catches: a table or a reference that makes the whole page scroll sideways; ink of the light page on a dark one.
@pytest.mark.parametrize(("screen", "dark"), LOOKS)
def test_it_fits_and_is_readable(
    contexts: Callable[..., BrowserContext], html: str, screen: dict[str, Any], dark: bool
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    page = opened(contexts(dark=dark, **screen), html)
    width = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert width[0] <= width[1]
    ink, card = (
        page.locator(selector).first.evaluate("e => getComputedStyle(e).fill")
        for selector in ('.card svg [style*="fill: var(--ink"]', '.card svg [style*="fill: var(--card"]')
    )
    assert (min(_channels(ink)) > max(_channels(card))) == dark
    found = axe.Axe().run(page, options={"resultTypes": ["violations"]})
    assert found.violations_count == 0, found.generate_report()


# Catches: what is folded on a screen left out on paper, where nobody can unfold it.
def test_paper_shows_what_a_screen_folds(contexts: Callable[..., BrowserContext], html: str) -> None:
    page = opened(contexts(dark=True), html)
    end = page.get_by_text(END)
    assert not end.is_visible()
    page.emulate_media(media="print")
    assert end.is_visible()
    assert not page.locator("nav").is_visible()
    assert min(_channels(page.evaluate("getComputedStyle(document.body).backgroundColor"))) == 255


def test_a_long_text_unfolds(contexts: Callable[..., BrowserContext], html: str) -> None:
    page = opened(contexts(), html)
    page.locator("summary.fold").last.click()
    assert page.get_by_text(END).is_visible()


def _channels(colour: str) -> list[int]:
    """Of ``rgb(1, 2, 3)``."""
    return [int(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
