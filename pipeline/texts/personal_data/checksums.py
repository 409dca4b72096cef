"""Check digits: which numbers of the right shape are cards, bank accounts and identity numbers."""

from __future__ import annotations

import ipaddress
import math
from collections import Counter

_LENGTHS = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 "
    "ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 "
    "LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 "
    "QA29 RO24 RS22 SA24 SC31 SE24 SI19 SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 "
)
IBAN_LENGTHS = {word[:2]: int(word[2:]) for word in _LENGTHS.split()}
"""Characters of an IBAN by country (ISO 13616, the registry of SWIFT)."""

_CARDS = (
    ("4", (16, 19)),
    *((str(p), (16,)) for p in range(51, 56)),
    *((str(p), (16,)) for p in range(2221, 2721)),
    *((p, (15,)) for p in ("34", "37", "1800", "2131")),
    *((p, (16, 19)) for p in ("6011", "644", "645", "646", "647", "648", "649", "65", "62", "35")),
    *((p, (14,)) for p in ("300", "301", "302", "303", "304", "305", "36", "38", "39")),
    *((p, (16, 18, 19)) for p in ("5018", "5020", "5038", "5893", "6304", "6759", "6761", "6762", "6763")),
)
"""Prefixes of cards and their lengths (ISO/IEC 7812, of the larger issuers)."""

_UNICAST = ipaddress.ip_network("2000::/3")
"""The addresses of hosts that were given out so far (RFC 4291)."""


def digits_of(text: str) -> str:
    """Only the ASCII digits."""
    return "".join(c for c in text if "0" <= c <= "9")


def luhn(digits: str) -> bool:
    """Whether the last digit is that of Luhn's formula (ISO/IEC 7812-1); all zeros are nothing."""
    total = sum(sum(divmod(2 * int(d), 10)) if i % 2 else int(d) for i, d in enumerate(reversed(digits)))
    return total > 0 and total % 10 == 0


def is_card(digits: str) -> bool:
    """Whether these digits are a payment card's: prefix, length and Luhn's digit."""
    return any(digits.startswith(p) and len(digits) in n for p, n in _CARDS) and luhn(digits)


def is_iban(compact: str) -> bool:
    """Whether this is an IBAN, without blanks and in capitals: country, length, and 1 modulo 97 (ISO 7064)."""
    if IBAN_LENGTHS.get(compact[:2]) != len(compact):
        return False
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


def is_cpf(digits: str) -> bool:
    """Whether the last two of 11 digits are a Brazilian CPF's; eleven equal ones are nobody's."""
    numbers = [int(d) for d in digits]
    checks = [sum(n * (size + 1 - i) for i, n in enumerate(numbers[:size])) * 10 % 11 % 10 for size in (9, 10)]
    return len(set(digits)) > 1 and checks == numbers[9:]


def is_dni(compact: str) -> bool:
    """Whether the letter after 8 digits is that of a Spanish DNI."""
    return compact[-1] == "TRWAGMYFPDXBNJZSQVHLCKE"[int(compact[:-1]) % 23]


def is_nir(digits: str) -> bool:
    """Whether the last two of 15 digits are the key of a French NIR."""
    return 97 - int(digits[:13]) % 97 == int(digits[13:])


def is_public_address(text: str) -> bool:
    """Whether this is an IP address of a host on the internet: not private, of documentation, or of many hosts."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if isinstance(address, ipaddress.IPv6Address):
        return address in _UNICAST and address.is_global
    return address.is_global and not address.is_multicast


def entropy(text: str) -> float:
    """Shannon's entropy of its characters, in bits for each."""
    counts = Counter(text)
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values())
