"""Find personal data in a text: patterns for its shape, and checks of what they match.

What is not found: names of people, postal addresses, dates of birth, and whatever has no form of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from pipeline.texts.personal_data.checksums import (
    IBAN_LENGTHS,
    digits_of,
    entropy,
    is_card,
    is_cpf,
    is_dni,
    is_iban,
    is_nir,
    is_public_address,
    luhn,
)
from pipeline.texts.personal_data.phones import Span, phones

Type = Literal["api_key", "email", "iban", "card", "national_id", "ip_address", "phone"]
TYPES: tuple[Type, ...] = get_args(Type)
"""The most certain first: of two that overlap the earlier one counts."""

_LEAST_ENTROPY = 3.0
"""Bits for each character of a value that is called a key or a password; below, it is a word or a pattern."""


@dataclass(frozen=True)
class Found:
    """Personal data in a text, from ``start`` to before ``end``."""

    type: Type
    start: int
    end: int


def find(text: str) -> list[Found]:
    """The personal data in a text, by their places; no two overlap."""
    found: list[Found] = []
    if _WORTH_A_LOOK.search(text) is None:
        return found
    for type, finder in _FINDERS.items():
        for start, end in finder(text):
            if all(end <= other.start or other.end <= start for other in found):
                found.append(Found(type, start, end))
    return sorted(found, key=lambda one: one.start)


_WORTH_A_LOOK = re.compile(r"[0-9@]|[\[(]at[\])]| AT |PRIVATE KEY|[_-][A-Za-z]{20}")


def _matches(pattern: re.Pattern[str], text: str, holds: Callable[[re.Match[str]], bool]) -> Iterator[Span]:
    """The places of the group ``it``, or of the whole match, where ``holds``."""
    group = "it" if "it" in pattern.groupindex else 0
    return (match.span(group) for match in pattern.finditer(text) if holds(match))


# Keys

_KEYS = re.compile(
    r"""(?<![A-Za-z0-9])(?:
      sk-(?:proj-|svcacct-|admin-|ant-)?[A-Za-z0-9_-]{20,}
    | gh[pousr]_[A-Za-z0-9]{36,} | github_pat_[A-Za-z0-9_]{40,} | glpat-[A-Za-z0-9_-]{20,}
    | (?:AKIA|ASIA)[A-Z0-9]{16}
    | xox[abposr]-[A-Za-z0-9-]{10,}
    | AIza[A-Za-z0-9_-]{35}
    | [sr]k_(?:live|test)_[A-Za-z0-9]{16,}
    | hf_[A-Za-z0-9]{30,}
    | npm_[A-Za-z0-9]{36} | pypi-[A-Za-z0-9_-]{50,}
    | SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}
    | dop_v1_[0-9a-f]{64}
    | [0-9]{8,10}:AA[A-Za-z0-9_-]{33}
    | eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{16,}
    )(?![A-Za-z0-9])
    | -----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY-----(?:.*?-----END[ ][A-Z ]*PRIVATE[ ]KEY-----)?""",
    re.VERBOSE | re.DOTALL,
)
_ASSIGNED = re.compile(
    r"""(?:api[_-]?key|access[_-]key|secret|token|passw(?:or)?d)[A-Za-z_-]{0,20}["']?\s{0,3}[:=]\s{0,3}["']?
    (?P<it>[A-Za-z0-9+/_!%=.~-]{16,})""",
    re.VERBOSE | re.IGNORECASE,
)


def _keys(text: str) -> Iterator[Span]:
    yield from _matches(_KEYS, text, lambda m: True)
    yield from _matches(_ASSIGNED, text, lambda m: _is_random(m["it"]))


def _is_random(value: str) -> bool:
    mixed = any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
    return mixed and entropy(value) >= _LEAST_ENTROPY


# E-mail addresses

_LETTERS = "A-Za-z0-9\u00c0-\u024f"
_EMAIL = re.compile(
    rf"""(?<![{_LETTERS}.%+_-])[{_LETTERS}_%+](?:[{_LETTERS}.%+_'-]{{0,62}}[{_LETTERS}_%+-])?
    (?:@|\s?[\[(](?:at|AT)[\])]\s?|[ ]AT[ ])
    (?:[{_LETTERS}](?:[{_LETTERS}-]{{0,61}}[{_LETTERS}])?(?:\.|\s?[\[(](?:dot|DOT)[\])]\s?|[ ]DOT[ ])){{1,8}}
    [A-Za-z]{{2,24}}(?![{_LETTERS}@]|-[{_LETTERS}]|:[\w.~-]+/)""",
    re.VERBOSE,
)


def _emails(text: str) -> Iterator[Span]:
    return _matches(_EMAIL, text, lambda m: True)


# Bank accounts and cards

_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?:[ -]?[A-Za-z0-9]){11,30}")
_FOURS = re.compile(r"\w+|\w{4}(?P<s>[ -])\w{4}(?:(?P=s)\w{4})*(?:(?P=s)\w{1,3})?")
_GOES_ON = re.compile(r"-?[A-Za-z0-9]")
_CARD = re.compile(r"(?<![\w.,/-])[0-9](?:[ .-]?[0-9]){11,18}(?![\w-]|[.,][0-9])")
_GROUPS = re.compile(r"[0-9]+|[0-9]{4}(?P<a>[ .-])[0-9]{4}(?P=a)[0-9]{4}(?P=a)[0-9]{4}(?:(?P=a)[0-9]{1,3})?"
                     r"|[0-9]{4}(?P<b>[ .-])[0-9]{6}(?P=b)[0-9]{4,5}")  # fmt: skip
_CALLED_CARD = re.compile(
    r"\b(?:visa|card|maestro|debit|credit)\W{1,3}(?:(?:is|no|number)\W{1,3})?$", re.IGNORECASE
)


def _ibans(text: str) -> Iterator[Span]:
    for match in _IBAN.finditer(text):
        length = IBAN_LENGTHS.get(match[0][:2].upper())
        places = [i for i, c in enumerate(match[0]) if c.isalnum()]
        if length is None or len(places) < length:
            continue
        end = match.start() + places[length - 1] + 1
        compact = "".join(c for c in text[match.start() : end] if c.isalnum()).upper()
        grouped = _FOURS.fullmatch(text[match.start() : end]) and not _GOES_ON.match(text, end)
        if grouped and is_iban(compact):
            yield match.start(), end


def _cards(text: str) -> Iterator[Span]:
    def holds(match: re.Match[str]) -> bool:
        digits = digits_of(match[0])
        if len(digits) <= 13:  # old ones, and debit cards: as many digits as an EAN has
            called = _CALLED_CARD.search(text[: match.start()][-20:])
            return digits[0] in "456" and luhn(digits) and called is not None
        return _GROUPS.fullmatch(match[0]) is not None and is_card(digits)

    return _matches(_CARD, text, holds)


# Identity numbers

_IDENTITIES: tuple[tuple[re.Pattern[str], Callable[[str], bool]], ...] = (
    (re.compile(r"(?<![\w-])(?!000|666|9)[0-9]{3}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}(?![\w-])"), lambda d: True),
    (
        re.compile(
            r"\b(?:SSN|social security(?: number)?)\W{1,3}(?:is )?"
            r"(?P<it>(?!000|666|9)[0-9]{3}[ ]?(?!00)[0-9]{2}[ ]?(?!0000)[0-9]{4})(?![\w-])",
            re.IGNORECASE,
        ),
        lambda d: True,
    ),
    (re.compile(r"(?<![\w.-])[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}(?![\w-])"), lambda d: is_cpf(digits_of(d))),
    (re.compile(r"\bCPF\W{1,3}(?P<it>[0-9]{11})(?!\w)", re.IGNORECASE), is_cpf),
    (re.compile(r"(?<![\w.-])[0-9]{8}-?[A-HJ-NP-TV-Z](?![\w-])"), lambda d: is_dni(d.replace("-", ""))),
    (
        re.compile(
            r"(?<![\w.-])[12][ ]?[0-9]{2}[ ]?(?:0[1-9]|1[0-2]|[2-9][0-9])[ ]?[0-9]{2}[ ]?[0-9]{3}[ ]?[0-9]{3}[ ]?"
            r"[0-9]{2}(?![\w-])"
        ),
        lambda d: is_nir(digits_of(d)),
    ),
)
"""Of the USA, Brazil, Spain and France."""


def _identities(text: str) -> Iterator[Span]:
    for pattern, holds in _IDENTITIES:
        group = "it" if "it" in pattern.groupindex else 0
        yield from (m.span(group) for m in pattern.finditer(text) if holds(m[group]))


# Addresses of machines

_IPV6 = re.compile(
    r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]{0,4})(?![\w:]|\.[0-9])"
)
_IPV4 = re.compile(r"(?<![\w.-])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![\w-]|\.[0-9])")
_NUMBERED = re.compile(
    r"(?:\b(?:v|ver|version|release|rel|firmware|build|update|patch|revision|rev|section|sec|chapter|clause|article"
    r"|paragraph|figure|table|step|rule)s?\.?\s?|[A-Za-z]/|\brv:|§\s?)$",
    re.IGNORECASE,
)
"""Before a number of four parts that is no address."""
_MACHINE = re.compile(
    r"(?:\b(?:ips?|ipv4|addr|address|ping|host|server|dns|from|connect|to|via|peer|login|block|blocked|ban|banned)"
    r"\W{1,3}(?:is )?|://|\[|\()$",
    re.IGNORECASE,
)
"""Before an address whose parts are single digits, as those of most versions are."""


def _addresses(text: str) -> Iterator[Span]:
    yield from _matches(_IPV6, text, lambda m: is_public_address(m[0]))

    def holds(match: re.Match[str]) -> bool:
        before = text[: match.start()][-20:]
        if not is_public_address(match[0]) or match[0].endswith(".0.0") or _NUMBERED.search(before):
            return False
        return len(match[0]) > len("1.2.3.4") or _MACHINE.search(before) is not None

    yield from _matches(_IPV4, text, holds)


_FINDERS: dict[Type, Callable[[str], Iterator[Span]]] = {
    "api_key": _keys,
    "email": _emails,
    "iban": _ibans,
    "card": _cards,
    "national_id": _identities,
    "ip_address": _addresses,
    "phone": phones,
}
