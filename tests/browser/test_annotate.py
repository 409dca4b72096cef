"""Answering on the page, in a browser: what is pressed must be what the log holds, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.labelling.items import ranking
from tests.browser.desk import (
    EVERYTHING,
    at_rest,
    button,
    cards,
    focused,
    meant,
    pairs,
    press,
    rankings,
    ready,
    singles,
    state,
)

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

# Answering, by key and by mouse


def test_pairwise_keys(page: Page, desk: Any) -> None:
    at = desk(pairs(6))
    at.open(page)
    expected = []
    for number, (key, place) in enumerate(
        [("1", 0), ("2", 1), ("ArrowLeft", 0), ("ArrowRight", 1), ("t", "tie"), ("b", "both_bad")], 1
    ):
        ready(page, number)
        expected.append(cards(page)[place] if isinstance(place, int) else place)
        press(page, key)
    at_rest(page, "All done")
    assert [meant(at.log, vote) for vote in at.log.answers.votes()] == expected
    assert all(vote.ms >= 300 for vote in at.log.answers.votes())


def test_pairwise_mouse(page: Page, desk: Any) -> None:
    at = desk(pairs(4))
    at.open(page)
    expected = []
    names = {"A is better": 0, "B is better": 1, "Tie": "tie", "Both bad": "both_bad"}
    for number, (name, place) in enumerate(names.items(), 1):
        ready(page, number)
        expected.append(cards(page)[place] if isinstance(place, int) else place)
        button(page, name).click()
    at_rest(page, "All done")
    assert [meant(at.log, vote) for vote in at.log.answers.votes()] == expected


@pytest.mark.parametrize(
    "mode, presses, choices",
    [
        ("thumbs", ["1", "2", "ArrowUp", "ArrowDown", "Like", "Dislike"], ["like", "dislike"] * 3),
        ("rating", ["1", "2", "4", "1 very bad", "5 very good"], ["1", "2", "4", "1", "5"]),
    ],
)
def test_one_completion(
    page: Page, desk: Any, shot: Any, mode: str, presses: list[str], choices: list[str]
) -> None:
    at = desk(singles(mode, len(presses)))
    at.open(page)
    shot(page, f"annotate-{mode}")
    for number, one in enumerate(presses, 1):
        ready(page, number)
        button(page, one).click() if " " in one or "ike" in one else press(page, one)
    at_rest(page, "All done")
    assert [vote.choice for vote in at.log.answers.votes()] == choices


def ranked(log: Any, vote: Any) -> list[set[str]]:
    texts = log.batches.item(vote.item).completions
    return [{texts[i] for i in rank} for rank in ranking(vote.choice)]


def test_ranking_keys(page: Page, desk: Any, shot: Any) -> None:
    at = desk(rankings(2))
    at.open(page)
    first = cards(page)
    press(page, "3", "Enter")  # not whole yet: Enter sends nothing
    press(page, "1", "2", "Backspace", "=", "4", "2")
    assert page.locator("#order").text_content() == "3 > 1 = 4 > 2"
    shot(page, "annotate-ranking")
    press(page, "Enter")
    ready(page, 2)
    second = cards(page)
    press(page, "4", "3", "2", "1", "Enter")
    at_rest(page, "All done")
    assert [ranked(at.log, vote) for vote in at.log.answers.votes()] == [
        [{first[2]}, {first[0], first[3]}, {first[1]}],
        [{second[3]}, {second[2]}, {second[1]}, {second[0]}],
    ]


def test_ranking_mouse(page: Page, desk: Any) -> None:
    at = desk(rankings(1))
    at.open(page)
    texts = cards(page)
    ranks = page.locator(".rank")
    for place in (1, 0, 0, 2):  # the second press of 0 takes it out again
        ranks.nth(place).click()
    button(page, "Tie with the last").click()
    ranks.nth(0).click()
    button(page, "Take back").click()
    ranks.nth(3).click()
    ranks.nth(0).click()
    assert ranks.all_text_contents()[0].startswith("Completion 1: Rank 4")
    button(page, "Send").click()
    at_rest(page, "All done")
    assert ranked(at.log, at.log.answers.votes()[0]) == [{texts[1]}, {texts[2]}, {texts[3]}, {texts[0]}]


def test_strength(page: Page, desk: Any, shot: Any) -> None:
    at = desk(pairs(4), ask=["strength"])
    at.open(page)
    shot(page, "annotate-strength")
    for number, key in enumerate(["Shift+Digit1", "Digit1", "Shift+ArrowRight", "t"], 1):
        ready(page, number)
        press(page, key)
    at_rest(page, "All done")
    votes = at.log.answers.votes()
    assert [vote.strength for vote in votes] == ["much", "slightly", "much", None]
    places = [vote.order.index("ab".index(vote.choice)) for vote in votes[:3]]
    assert places == [0, 0, 1]


def test_tags_and_note(page: Page, desk: Any, shot: Any) -> None:
    at = desk(pairs(2), ask=EVERYTHING, tags=["correct", "clear", "on topic"])
    at.open(page)
    press(page, "1")  # marked, not sent: there may be more to say
    press(page, "c", "o", "c", "n")
    page.keyboard.type("b2: the ending, I think")
    shot(page, "annotate-everything")
    press(page, "Enter")
    assert focused(page) == "item-heading"
    assert at.log.answers.votes() == []
    press(page, "Enter")
    ready(page, 2)
    assert page.locator("#note").input_value() == ""
    button(page, "clear").click()
    button(page, "Both bad").click()
    button(page, "Send").click()
    at_rest(page, "All done")
    votes = at.log.answers.votes()
    assert [vote.tags for vote in votes] == [("on topic",), ("clear",)]
    assert [vote.note for vote in votes] == ["b2: the ending, I think", ""]
    assert [vote.strength for vote in votes] == ["slightly", None]


def test_edit(page: Page, desk: Any, shot: Any) -> None:
    at = desk(pairs(1), ask=["edit"])
    at.open(page)
    second = cards(page)[1]
    press(page, "e", "2")
    area = page.locator("#edit-text")
    assert area.input_value() == second
    shot(page, "annotate-edit")
    area.fill("   ")
    press(page, "Control+Enter")
    assert "empty" in page.locator("#edit-problem").text_content()
    area.fill("1 Better by far.")
    press(page, "Control+Enter")
    page.locator("#completions .card").nth(1).get_by_text("edited", exact=True).wait_for()
    assert cards(page)[1] == second
    button(page, "Edit").click()
    page.locator("#pick-list button").nth(1).click()
    assert area.input_value() == "1 Better by far."
    press(page, "Escape", "1")
    at_rest(page, "All done")
    (edit,) = at.log.answers.edits()
    item = at.log.batches.item(edit.item)
    assert item.completions[edit.payload["completion"]] == second
    assert edit.payload["text"] == "1 Better by far."
    assert len(at.log.answers.votes()) == 1


def test_skip(page: Page, desk: Any, shot: Any) -> None:
    at = desk(pairs(3))
    at.open(page)
    press(page, "s")
    shot(page, "annotate-skip")
    press(page, "Escape")
    assert focused(page) == "item-heading"
    press(page, "s", "2")
    page.locator("#said").get_by_text("Skipped.").wait_for()
    ready(page, 1)
    button(page, "Skip").click()
    with page.expect_response("**/api/events"):  # what is said is the same as before
        page.get_by_role("button", name="I would rather not").click()
    assert [skip.payload["reason"] for skip in at.log.answers.skips()] == ["not my subject", "I would rather not"]
    assert at.log.answers.votes() == []


def test_flag(page: Page, desk: Any, shot: Any) -> None:
    at = desk(pairs(2))
    at.open(page)
    press(page, "f", "2")
    page.locator("#flag-note").focus()
    page.keyboard.type("1 a phone number")  # digits in a field pick nothing
    shot(page, "annotate-flag")
    press(page, "Enter")
    flag = page.locator("#flag[aria-pressed=true]")
    flag.wait_for()
    page.reload()
    flag.wait_for()
    (event,) = at.log.answers.flags()
    assert (event.payload["reason"], event.payload["note"]) == ("personal data", "1 a phone number")
    flag.click()
    with page.expect_response("**/api/events"):
        page.get_by_role("button", name="Remove the flag").click()
    assert at.log.answers.flags() == []
    page.locator("#flag[aria-pressed=false]").wait_for()


@pytest.mark.parametrize("by", ["key", "button"])
def test_undo(page: Page, desk: Any, shot: Any, by: str) -> None:
    at = desk(pairs(2), ask=["strength"])
    at.open(page)
    assert button(page, "Undo").is_disabled()
    press(page, "Shift+Digit2")
    ready(page, 2)
    press(page, "u") if by == "key" else button(page, "Undo").click()
    page.locator("#item-note").get_by_text("Your earlier answer is marked.").wait_for()
    assert page.locator("#choices [aria-pressed=true]").all_text_contents() == ["B much better⇧2"]
    assert at.log.answers.votes() == []
    shot(page, "annotate-undone")
    ready(page, 1)
    press(page, "t")
    ready(page, 2)
    assert [vote.choice for vote in at.log.answers.votes()] == ["tie"]


def test_undo_two_steps(page: Page, desk: Any) -> None:
    """What was said besides the choice comes back, too; from the last screen as well."""
    at = desk(pairs(1), ask=["tags", "note"])
    at.open(page)
    press(page, "1", "c", "n")
    page.keyboard.type("so it is")
    press(page, "Enter", "Enter")
    page.get_by_role("button", name="Undo the last answer").click()
    ready(page, 1)
    assert page.locator("#note").input_value() == "so it is"
    assert page.locator("#item [aria-pressed=true]").all_text_contents() == ["correctc", "A is better1"]
    press(page, "Enter")
    at_rest(page, "All done")
    (vote,) = at.log.answers.votes()
    assert (vote.tags, vote.note) == (("correct",), "so it is")


def test_undo_ranking_and_skip(page: Page, desk: Any) -> None:
    at = desk(rankings(1))
    at.open(page)
    press(page, "s", "1")
    at_rest(page, "All done")
    press(page, "u")
    page.get_by_text("You skipped it: I cannot tell.").wait_for()
    ready(page, 1)
    press(page, "2", "=", "1", "3", "4", "Enter")
    at_rest(page, "All done")
    press(page, "u")
    ready(page, 1)
    assert page.locator("#order").text_content() == "1 = 2 > 3 > 4"


# One vote per answer


def test_double_click(page: Page, desk: Any) -> None:
    at = desk(pairs(3))
    at.open(page)
    button(page, "A is better").dblclick()
    ready(page, 2)
    page.mouse.down(click_count=2)  # as late as the system still calls it a double click
    page.mouse.up(click_count=2)
    assert state(page) == "ready"  # an answer turns it to "sending" at once
    page.mouse.down()
    page.mouse.up()
    ready(page, 3)
    assert len(at.log.answers.votes()) == 2


def test_key_repeat(page: Page, desk: Any) -> None:
    """A held key repeats as keydown with repeat=true: keyboard.down again sends just that."""
    at = desk(pairs(3))
    at.open(page)
    page.keyboard.down("1")
    ready(page, 2)
    page.keyboard.down("1")
    page.keyboard.down("1")
    page.keyboard.up("1")
    assert state(page) == "ready"
    press(page, "2")
    ready(page, 3)
    assert len(at.log.answers.votes()) == 2


def test_bouncing_key(page: Page, desk: Any) -> None:
    """The second of two quick presses comes before anybody can have read the item that the first one brought."""
    at = desk(pairs(3))
    at.open(page)
    page.evaluate(
        """() => new MutationObserver(() => document.body.dispatchEvent(
            new KeyboardEvent("keydown", {key: "1", code: "Digit1", bubbles: true})
        )).observe(document.querySelector("#item-heading"), {childList: true})"""
    )
    press(page, "1")
    ready(page, 2)
    assert len(at.log.answers.votes()) == 1


def test_typing_is_no_answer(page: Page, desk: Any) -> None:
    at = desk(pairs(2), ask=["note"])
    at.open(page)
    page.locator("#note").focus()
    page.keyboard.type("12tbsufegd?")
    assert page.locator("#note").input_value() == "12tbsufegd?"
    press(page, "Escape", "Control+1", "Alt+1", "Meta+1")
    assert page.locator("#choices [aria-pressed=true]").count() == 0
    assert page.locator("dialog[open]").count() == 0
    assert list(at.log.answers.votes()) == []


def test_keys_can_be_turned_off(page: Page, desk: Any) -> None:
    at = desk(pairs(2))
    at.open(page)
    press(page, "?")
    page.get_by_label("Use these keys").uncheck()
    press(page, "Escape", "1", "?")
    assert page.locator("dialog[open]").count() == 0
    button(page, "A is better").click()
    ready(page, 2)
    assert len(at.log.answers.votes()) == 1


# Coming back


def test_reload_resumes(page: Page, desk: Any) -> None:
    at = desk(pairs(3), ask=["tags", "note"])
    at.open(page)
    press(page, "1", "Enter")
    ready(page, 2)
    text = cards(page)
    press(page, "2", "l", "n")
    page.keyboard.type("half a th")
    page.reload()
    ready(page, 2)
    assert cards(page) == text
    assert page.locator("#note").input_value() == "half a th"
    assert page.locator("#item [aria-pressed=true]").all_text_contents() == ["clearl", "B is better2"]


def test_time_counts_while_visible(page: Page, desk: Any) -> None:
    at = desk(pairs(2))
    at.open(page)
    page.clock.run_for(3000)
    page.evaluate(
        """() => { Object.defineProperty(document, "visibilityState", {value: "hidden", configurable: true});
                   document.dispatchEvent(new Event("visibilitychange")); }"""
    )
    page.clock.run_for(60_000)
    page.evaluate(
        """() => { Object.defineProperty(document, "visibilityState", {value: "visible", configurable: true});
                   document.dispatchEvent(new Event("visibilitychange")); }"""
    )
    page.clock.run_for(2000)
    press(page, "1")
    ready(page, 2)
    # The page's clock runs on beside: some seconds on a busy machine, but not the minute.
    assert 5000 <= at.log.answers.votes()[0].ms < 30_000


def test_two_people_in_tabs(context: BrowserContext, desk: Any) -> None:
    at = desk(pairs(2), people=2, votes=2)
    one, two = context.new_page(), context.new_page()
    at.open(one, "p1")
    at.open(two, "p2")
    press(one, "1")
    ready(one, 2)
    press(two, "t")
    ready(two, 2)
    votes = {vote.annotator: vote for vote in at.log.answers.votes()}
    assert votes[at.id_of("p2")].choice == "tie"
    assert votes[at.id_of("p1")].choice in "ab"


def test_two_people_in_two_browsers(contexts: Callable[..., BrowserContext], desk: Any) -> None:
    at = desk(pairs(2), people=2)
    one, two = contexts().new_page(), contexts().new_page()
    at.open(one, "p1")
    at.open(two, "p2")
    assert cards(one)[0][-3:] != cards(two)[0][-3:]  # one vote is enough, so they get different items
    press(one, "1")
    one.locator("#said").get_by_text("Saved.").wait_for()
    press(two, "b")
    at_rest(two, "All done")
    assert len({vote.annotator for vote in at.log.answers.votes()}) == 2


def test_answered_in_another_tab(context: BrowserContext, desk: Any) -> None:
    """The second answer to one item is refused: its reason is shown, and the next item comes."""
    context.seen.refusals_are_expected = True  # pyright: ignore[reportAttributeAccessIssue]
    at = desk(pairs(3))
    one, two = context.new_page(), context.new_page()
    at.open(one)
    at.open(two)
    press(one, "1")
    ready(one, 2)
    press(two, "2")
    ready(two, 2)
    assert two.locator("#said.seen").is_visible()
    assert "answered" in two.locator("#said").text_content()
    assert len(at.log.answers.votes()) == 1
