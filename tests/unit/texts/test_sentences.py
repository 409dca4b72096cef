"""Where sentences end: prose in several scripts, lists, code, chat, and texts without marks."""

from __future__ import annotations

import pytest

from pipeline.texts.sentences import closing, same, sentences


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", []),
        (" \n ", []),
        ("one", ["one"]),
        ("!!", ["!!"]),
        ("h c a", ["h c a"]),
        ("The cup broke. I was glad! Were you?", ["The cup broke.", "I was glad!", "Were you?"]),
        ("Wow!!! Really?! Yes", ["Wow!!!", "Really?!", "Yes"]),
        ("it is fine. it is cheap.", ["it is fine.", "it is cheap."]),
        ('She said "No." Then she went.', ['She said "No."', "Then she went."]),
        ("Dr. May paid 3.5 for it. A. Lee, e.g. them, etc. and so on.", None),
        ("It has tea, milk, etc. Nobody minds.", ["It has tea, milk, etc.", "Nobody minds."]),
        ("Well… I think so. well… maybe... not", ["Well…", "I think so.", "well… maybe... not"]),
        ("See http://a.b/c.d?x=1 now. Ok", ["See http://a.b/c.d?x=1 now.", "Ok"]),
        ("1. Buy milk. 2. Sell it.", ["1. Buy milk.", "2. Sell it."]),
        ("It was in 1990. I was two.", ["It was in 1990.", "I was two."]),
        ("- tea\n- milk\n\n- rice", ["- tea", "- milk", "- rice"]),
        ("def f(x):\n    return x.y()\n", ["def f(x):", "return x.y()"]),
        ("Fine.<br /><br />I liked it.", ["Fine.", "I liked it."]),
        ("我很喜欢。真的！你呢？", ["我很喜欢。", "真的！", "你呢？"]),
        ("他说：“好。”然后走了。", ["他说：“好。”", "然后走了。"]),
        ("これは本です。はい。", ["これは本です。", "はい。"]),
        ("हाँ। अच्छा है।", ["हाँ।", "अच्छा है।"]),
        ("هل هذا جيد؟ نعم.", ["هل هذا جيد؟", "نعم."]),
    ],
)
def test_sentences(text: str, expected: list[str] | None) -> None:
    if expected is None:
        expected = ["Dr. May paid 3.5 for it.", "A. Lee, e.g. them, etc. and so on."]
    assert sentences(text) == expected


# Catches: a stump of a favourite sentence counted as another sentence.
def test_the_closing_sentence_of_a_text_that_was_cut_is_its_last_whole_one() -> None:
    assert closing("I loved it. My friends lo") == "My friends lo"
    assert closing("I loved it. My friends lo", ended=False) == "I loved it."
    assert closing("I loved it. My friends.", ended=False) == "My friends."
    assert closing("My friends lo", ended=False) == "My friends lo"
    assert closing("", ended=False) == ""


def test_the_same_sentence_in_other_dress() -> None:
    alike = ["My friends loved it.", "my friends  loved it!", "“My friends loved it.”", "2) My friends loved it"]
    assert {same(sentence) for sentence in alike} == {"my friends loved it"}
    assert same("My friends hated it.") != same(alike[0])
    assert same("...") == "..."
    assert same("→") == "→"
