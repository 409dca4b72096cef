"""Check digits against hand-made cases, what is found of the evaluation's sentences, and placeholders."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from pipeline.texts.personal_data.checksums import (
    entropy,
    is_card,
    is_cpf,
    is_dni,
    is_iban,
    is_nir,
    is_public_address,
    luhn,
)
from pipeline.texts.personal_data.find import TYPES, find
from pipeline.texts.personal_data.scrub import scrubbed, scrubbed_pair
from tests.generated import personal_data_page
from tests.helpers.personal_strings import HELD, NOT_HELD


def found(text: str) -> list[tuple[str, str]]:
    return [(one.type, text[one.start : one.end]) for one in find(text)]


# Mutation caught, each: the check left out, so that any digits of the shape count.
@pytest.mark.parametrize(
    ("check", "right"),
    [
        (luhn, "79927398713"),  # the standard's own example
        (is_card, "4111111111111111"),
        (is_iban, "GB82WEST12345698765432"),
        (is_cpf, "11144477735"),
        (is_dni, "12345678Z"),
        (is_nir, "255081416802538"),
    ],
)
def test_one_wrong_digit_is_noticed(check, right: str):
    assert check(right)
    for place, digit in enumerate(right):
        if digit.isdigit():
            wrong = right[:place] + str((int(digit) + 1) % 10) + right[place + 1 :]
            assert not check(wrong), wrong


def test_entropy_by_hand():
    assert entropy("aaaa") == 0
    assert entropy("abab") == 1
    assert entropy("abcd") == 2


@pytest.mark.parametrize(
    ("address", "public"),
    [
        *(("8.8.8.8", True), ("256.1.1.1", False), ("10.1.2.3", False), ("203.0.113.9", False)),
        *(("2606:4700::1", True), ("fe80::1", False), ("::ffff:10.0.0.1", False), ("::ffff:8.8.8.8", True)),
        *(("::2", False), ("200::", False), ("12:30:45", False)),
    ],
)
def test_addresses_of_hosts(address: str, public: bool):
    assert is_public_address(address) is public


@pytest.mark.parametrize("kind", TYPES)
def test_what_is_held_is_found_whole_and_alone(kind: str):
    missed = [
        (s, found(s)) for s, v in ((s.replace("{}", v), v) for s, v in HELD[kind]) if found(s) != [(kind, v)]
    ]
    assert missed == []


@pytest.mark.parametrize("kind", NOT_HELD)
def test_what_only_looks_so_is_let_be(kind: str):
    assert [(s, found(s)) for s in NOT_HELD[kind] if found(s)] == []


FOUND_IN_PUBLIC_TEXTS = [
    *("open session of Firefox 2.0.0.1, three tabs", "numbers:\n+960397912423686\n", "Decimal('+35236450.6')"),
    *("ee82191a-0b04-4ca7-a03b-f44d241f78f7", "rv:1.9.5.20) Gecko", "zip 01539-130"),
    *("zip(sparse[::2], sparse[1::2])", "IPv6Network('200::/7')", "from 'sd' -> 'sd_IN@devanagari.UTF-8'"),
]


FOUND_LATER = [
    *("(808)337-7835x337", "001-372-598-0635", "08-34 93 09", "(01632)960774", "reach me: 0449757710"),
]


@pytest.mark.parametrize("text", FOUND_LATER)
def test_telephone_numbers_as_a_generator_spells_them(text: str):
    assert found(text) == [("phone", text.removeprefix("reach me: "))]


@pytest.mark.parametrize("text", FOUND_IN_PUBLIC_TEXTS)
def test_what_public_texts_hold_that_only_looks_so(text: str):
    assert found(text) == []


def test_a_private_key_goes_whole():
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIB\nabc=\n-----END RSA PRIVATE KEY-----"
    assert found(f"see\n{key}\n") == [("api_key", key)]


def test_no_text_takes_long():
    # Mutation caught: an expression that goes back over a long run again and again.
    for piece in ("a.", "1 ", "a@", "1.", "::", "(1", "a-b_", "+1-", "DE89 ", "eyJ", "key=", " AT ", "0a"):
        find(piece * 20_000)


# Placeholders


def test_the_same_data_has_the_same_placeholder_within_a_row():
    texts = ["ask a@example.com or b@example.com", "A@example.com, +1 202-555-0147; (+12025550147)", None, "none"]
    counts = Counter()
    assert scrubbed(texts, counts) == [
        "ask <EMAIL_1> or <EMAIL_2>",
        "<EMAIL_1>, <PHONE_1>; (<PHONE_1>)",
        None,
        "none",
    ]
    assert counts == {"email": 3, "phone": 2}


def test_scrubbed_texts_stay_and_new_data_gets_a_new_number():
    once = scrubbed(["a@example.com", "b@example.com"])
    assert scrubbed(once) == once
    assert scrubbed(["<EMAIL_3> is not b@example.com"]) == ["<EMAIL_3> is not <EMAIL_4>"]


def test_the_number_does_not_tell_which_was_chosen():
    # Mutation caught: the chosen one numbered first.
    first, second = "mail x@example.com", "mail y@example.com"
    assert scrubbed_pair("p", [first, second]) == ("p", ["mail <EMAIL_1>", "mail <EMAIL_2>"])
    assert scrubbed_pair("p", [second, first]) == ("p", ["mail <EMAIL_2>", "mail <EMAIL_1>"])


def test_nothing_that_was_found_is_left():
    draw = random.Random(0)
    held = [(kind, s.replace("{}", v), v) for kind, pairs in HELD.items() for s, v in pairs]
    for _ in range(200):
        chosen = draw.sample(held, 3)
        (text,) = scrubbed(["\n".join(s for _, s, _ in chosen)])
        assert text is not None
        assert all(v not in text for _, _, v in chosen), text


def test_the_tables_of_the_document_are_what_the_code_gives():
    text = personal_data_page.TARGET.read_text(encoding="utf-8")
    assert personal_data_page.with_tables(text) == text
    assert text.count("| all types | 76 of 76") == 1
