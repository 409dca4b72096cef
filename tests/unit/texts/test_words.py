"""Words in many scripts, and that nothing changes for texts with blanks."""

from __future__ import annotations

import random
import re
import unicodedata

import pytest

from pipeline.texts.words import (
    bag_of_words,
    character_share,
    how_split,
    ngrams,
    opening,
    repetition,
    units,
    words,
)


# Catches: a change to texts that were split rightly before.
def test_scripts_with_blanks_are_split_as_by_a_plain_expression() -> None:
    plain = re.compile(r"\w+|[^\w\s]")
    rng = random.Random(0)
    letters = "ab cZ_9.,'-!?\n\t (){}éüßñДжα한국"
    texts = ["".join(rng.choice(letters) for _ in range(40)) for _ in range(500)]
    assert all(words(text) == plain.findall(text.lower()) for text in texts)
    assert words("") == []
    assert words("One") == ["one"]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("这个5G手机，nice。", ["这", "个", "5g", "手", "机", "，", "nice", "。"]),
        ("パーティーです", ["パ", "ー", "テ", "ィ", "ー", "で", "す"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("ភាសា", ["ភា", "សា"]),
        ("ລາວ", ["ລ", "າ", "ວ"]),
        ("မြန်မာ", ["မြ", "န်", "မာ"]),
        ("한국어 좋아요", ["한국어", "좋아요"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("ok ❤\ufe0f!", ["ok", "❤\ufe0f", "!"]),
    ],
)
def test_scripts(text: str, expected: list[str]) -> None:
    assert words(text) == expected


# Catches: composed and decomposed letters as different words; an accent as a word of its own.
def test_the_same_text_composed_otherwise_has_the_same_words() -> None:
    text = "café Ångström ที่ が"
    assert words(unicodedata.normalize("NFD", text)) == words(text) == ["café", "ångström", "ที่", "が"]


def test_a_bag_holds_pairs_of_characters_and_of_nothing_else() -> None:
    assert bag_of_words("我喜欢 ok 手机") == ["我", "喜", "欢", "ok", "手", "机", "我喜", "喜欢", "手机"]
    assert bag_of_words("very nice, é") == ["very", "nice", ",", "é"]
    assert ngrams("A b. c", 3) == [("a", "b", "."), ("b", ".", "c")]
    assert ngrams("a b", 3) == []


def test_a_report_says_that_words_are_characters() -> None:
    assert character_share([]) == character_share(["?!"]) == 0
    assert character_share(["我 a b c"]) == 0.25
    assert how_split(["only words"]) is None
    assert how_split(["word " * 200 + "我"]) is None  # one name in a long text
    assert (how_split(["我 a b c"]) or "").startswith("Of the words, 25 %")
    assert (how_split(["我喜欢"]) or "").startswith("Words are single characters")


# Catches: a Chinese text that is one word long, so that it is all prompt, or too short to be used.
def test_units_are_what_stands_between_blanks_or_single_characters() -> None:
    text = "  It's a  5G phone,\nnice!  "
    assert units(text) == text.split()
    assert opening(text, 3) == "It's a  5G"
    assert opening(text, 9) == text.strip()
    assert units("我喜欢。他 ok") == ["我", "喜", "欢。", "他", "ok"]
    assert opening("我喜欢。他 ok", 3) == "我喜欢。"
    assert (opening("", 2), units("")) == ("", [])


# Catches: n-grams of another n, a mean over n-grams instead of sequences.
def test_repetition_by_hand() -> None:
    # "a b c d a b c d" has 5 four-grams, 4 distinct: 1/5 repeated. "a b c d" has one: 0. "a" has none: left out.
    assert repetition(map(words, ["a b c d a b c d", "a b c d", "a"])) == pytest.approx(0.1)
    # 1 2 3 1 2 3 1 2: 4-grams 1231 2312 3123 1231 2312, of which two are there before.
    assert repetition([[1, 2, 3, 1, 2, 3, 1, 2]]) == pytest.approx(2 / 5)
    assert repetition([[7] * 8, [1, 2, 3, 4, 5]]) == pytest.approx((4 / 5 + 0) / 2)
    assert repetition([[7] * 8, [7, 7, 7], []]) == pytest.approx(4 / 5)
    assert repetition([[1, 2]]) is repetition([]) is None
