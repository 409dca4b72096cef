"""The page: honest sentences, text that stays text, nothing loaded from anywhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from pipeline.health import Finding
from pipeline.reporting.page import Checkup, Part, Picture, Report, best_checkpoint, headline, render_page
from pipeline.reporting.run_tables import Table
from pipeline.reporting.samples import FOLDED, Sample, choose_samples, folded
from pipeline.reporting.svg import safe_svg
from pipeline.reporting.trees import Branch
from pipeline.results.policy import Evaluation
from tests.unit.reporting.given import REWARD, change, entry, newer, newer_json, reward, sliced, stats, varied_json

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(1)>"
SVG = '<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0"/></svg>'
SERIOUS = Finding("kl-runs-away", "serious", ATTACK, 15, ATTACK, ATTACK, "docs/doctor.md#kl-runs-away", 20)


class Tags(HTMLParser):
    """Every element with its attributes, and the elements left open."""

    VOID = ("meta", "br", "col")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()


def full_page() -> str:
    samples = [
        Sample(ATTACK, "", ATTACK, 0.0, 1.0, 0.1, 0.9, kind="gain"),
        Sample("p", "w " * 3000, "x" * 3000, kind="random"),
    ]
    tree = Branch("", ATTACK, ATTACK, [Branch(ATTACK, "b@v1")])
    differences = Table("", (ATTACK, ATTACK), [(ATTACK, ATTACK)], ATTACK)
    measured = reward(sliced() | {"verdict": ATTACK, "notes": [ATTACK]})
    judged = newer_json()["judges"]["classifier"]
    parts: tuple[Part, ...] = ("training", "frontier", "policy", "reward")
    return render_page(
        Report(
            title=ATTACK,
            evaluation=newer(judges={ATTACK: judged}),
            reward=measured,
            pictures=[Picture(ATTACK, SVG, ATTACK, part) for part in parts],
            samples=samples,
            lineage=tree,
            differences=differences,
            config={"name": ATTACK},
            checkup=Checkup([SERIOUS], 40, [ATTACK], ATTACK),
            warnings=[ATTACK],
            facts=[(ATTACK, ATTACK)],
        )
    )


# Catches: autoescape off, a |safe on any text of the report.
def test_untrusted_text_never_becomes_markup() -> None:
    page = full_page()
    tags = Tags(page)
    assert tags.open == []
    assert not [tag for tag, _ in tags.found if tag in ("script", "img", "iframe", "object", "form", "link")]
    assert not [name for _, attrs in tags.found for name in attrs if name.startswith("on")]
    assert "<script>" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 25


# Catches: a conversation as one text, in which a reader cannot see who said what.
def test_a_conversation_is_shown_by_role() -> None:
    turns = [("user", ATTACK), ("assistant", "I see."), ("user", "What is it?")]
    page = render_page(Report("r", samples=[Sample("whole", "a", "b", turns=turns), Sample("single", "a", "b")]))
    assert Tags(page).open == []
    assert re.findall(r"<dt>(\w+)</dt>", page) == ["user", "assistant", "user"]
    assert page.count('<div class="reply">') == 1
    assert "<script>" not in page
    assert "whole" not in page
    assert "single" in page


# Seen failing with: characters as sampled. Browsers leave out the first ones, and turn round what follows the
# last.
def test_what_hides_or_reorders_text_is_shown_as_a_sign() -> None:
    page = render_page(Report("r", samples=[Sample("a prompt", "one\x00\x1b[2Jtwo\x7f", "line\n\u202ethree")]))
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e]", page)
    assert "one␀␛[2Jtwo␡" in page
    assert "line\n&lt;U+202E&gt;three" in page


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
    for part in ("findings", "training", "frontier", "completions", "lineage", "differences", "config"):
        assert f'id="{part}"' not in page
        assert f'href="#{part}"' not in page
    assert "None" not in page
    assert "nan" not in page
    assert "(empty)" in full_page()
    no_gold = stats(gold_score=None, win_rate={"gold_score": None, "score": None}, kl_k1=None)
    assert "Gold score" not in render_page(Report("r", no_gold, samples=[Sample("p", "a", "b", 1.0, 2.0)]))


# Seen failing with: a sentence that stops in the middle, as if the model had ended it there.
def test_a_completion_that_the_limit_cut_says_so() -> None:
    page = render_page(Report("r", None, samples=[Sample("p", "a", "b", 1.0, 2.0, before_cut=True)]))
    before, after = page.partition('data-label="after"')[::2]
    assert ("cut at the length limit" in before, "cut at the length limit" in after) == (True, False)
    assert "3 training pairs, fewer than 20" in render_page(Report("r", None, REWARD))


# Catches: a section whose heading has no link, a link to nothing.
def test_every_section_is_linked_once() -> None:
    tags = Tags(full_page()).found
    links = [(a.get("href") or "").removeprefix("#") for tag, a in tags if tag == "a"]
    sections = [a["id"] for tag, a in tags if tag == "section"]
    assert links == sections
    assert len(sections) == 10


def test_an_evaluation_of_an_older_version_still_renders() -> None:
    page = render_page(Report("r", stats(), REWARD))
    assert "Win rate by gold score" in page
    for newer_part in ("at equal length", "Best-of-n and PPO", "Fitted laws", "Other judges", "By length"):
        assert newer_part not in page
        assert newer_part in render_page(Report("r", newer(), reward(sliced())))


# Catches: a doctor's finding that hides behind a good headline.
def test_serious_findings_temper_the_headline() -> None:
    well = render_page(Report("r", stats(), checkup=Checkup((), 40)))
    assert 'class="verdict good"' in well
    assert "Nothing found in 40 updates." in well
    ill = render_page(Report("r", stats(), checkup=Checkup([SERIOUS], 40)))
    assert 'class="verdict good"' not in ill
    assert "findings are serious: kl-runs-away." in ill
    assert "since update 15, until update 20" in ill
    for kept, said in ((8, True), (40, False)):
        best = newer_json()["best_checkpoint"] | {"update": kept, "kept": kept, "is_kept": True}
        page = render_page(Report("r", stats(best_checkpoint=best), checkup=Checkup([SERIOUS], 40)))
        assert ("Published is the policy of update 8 of 40, the best held out." in page) is said
    assert "docs/doctor.md#kl-runs-away" in ill


# Catches: the sign of the interval's test, a proxy sold as evidence.
@pytest.mark.parametrize(
    ("given", "mood", "words"),
    [
        (stats(), "good", "Gold score rose from 0.11 to 0.57 (+0.46 [0.40, 0.52]) at a KL of 4.0 nats"),
        (stats(gold_score=change(0.1, 0.11, -0.05, 0.07)), "flat", "did not rise measurably"),
        (stats(gold_score=change(0.1, 0.11, -0.05, 0.07)), "flat", "proxy score rose all the same"),
        (stats(gold_score=change(0.1, 0.2, 0.0, 0.2)), "flat", "did not rise measurably"),
        (stats(gold_score=change(0.5, 0.1, -0.5, -0.3)), "bad", "Gold score fell from 0.50 to 0.10 (−0.40"),
        (stats(gold_score=None), "unknown", "no gold score"),
        (stats(gold_score=None, score=None), "unknown", "no score of either kind"),
        (
            stats(gold_score={"base": entry(None), "policy": entry(None), "difference": entry(None)}),
            "unknown",
            "Proxy",
        ),
        (stats(n=0), "unknown", "not been evaluated"),
    ],
)
def test_headline(given: Evaluation, mood: str, words: str) -> None:
    said = headline(given)
    assert said[0] == mood
    assert words in said[1]


def test_a_rise_says_nothing_about_a_bad_proxy() -> None:
    assert "all the same" not in headline(stats())[1]


def test_the_best_checkpoint_is_named_beside_the_published_one() -> None:
    said = "Best held-out check: update 8 (0.70 at KL 4.0); published is update 16 (0.30)."
    assert best_checkpoint(newer()).startswith(said)
    kept = newer_json()["best_checkpoint"] | {"is_kept": True}
    assert best_checkpoint(stats(best_checkpoint=kept)).endswith("which is the one published.")
    assert best_checkpoint(stats()) == ""


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


# Catches: a cut that drops or doubles a character; a fold that hides three words.
@pytest.mark.parametrize("text", ["short", "word " * 200, "x" * 2000, "a\n" * 900, "x" * (FOLDED + 5), ""])
def test_folding_keeps_every_character(text: str) -> None:
    shown, rest = folded(text)
    assert shown + rest == text
    assert (rest == "") == (len(text) <= 1.25 * FOLDED)
    assert len(shown) <= 1.25 * FOLDED


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
        SVG.replace("<path", '<path style="fill: url(https://example.org/a)"'),
        SVG.replace("<path", "<style>@import 'https://example.org/a.css'</style><path"),
        "<!DOCTYPE svg>" + SVG,
    ],
)
def test_a_picture_that_does_more_than_draw_is_refused(svg: str) -> None:
    with pytest.raises(ValueError, match="SVG"):
        safe_svg(svg)


def test_own_figures_pass() -> None:
    from pipeline.reporting.figures import common, training

    curves = training.training_curves([{"update": 1, "objective/scores": 0.0}])
    picture = common.for_page(common.as_svg(curves), "ppo")
    assert picture in render_page(Report("r", pictures=[Picture("PPO", picture)]))


def test_the_page_names_the_sentences_with_both_shares() -> None:
    page = render_page(Report("demo", evaluation=newer(diversity=varied_json())))
    assert page.index("Collapsed:") < page.index("Gold score rose")
    assert '<section id="diversity">' in page
    assert "My friends &lt;loved&gt; it." in page
    assert "0.52 [0.50,\u00a00.54]" in page
    assert "Closing sentences and patterns, PPO beside best-of-n" in page
    assert '<section id="diversity">' not in render_page(Report("demo", evaluation=newer()))


def test_titles_name_best_of_n_where_it_was_measured() -> None:
    [with_it, without] = (
        render_page(Report("demo", evaluation=e, pictures=[Picture("", SVG, part="frontier"), Picture("", SVG)]))
        for e in (newer(), stats())
    )
    assert "<h2>Completions: base, best-of-n, PPO</h2>" in with_it
    assert "<h2>Completions: base, PPO</h2>" in without
    assert "<h2>Frontier: PPO against best-of-n</h2>" in with_it
    assert "<h2>Frontier: gain against distance</h2>" in without
