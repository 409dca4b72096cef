"""``label.public_url``: which addresses it may be, and what a browser and a proxy make of them."""

from __future__ import annotations

import pytest

from pipeline.base.errors import ConfigError
from pipeline.labelling.public_url import PublicAddress
from pipeline.labelling.settings import LabelSection
from pipeline.workflow.key_checks.unknown_and_mistyped import parse_options


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://annotate.example.org", "https://annotate.example.org"),
        ("https://Annotate.Example.org/", "https://annotate.example.org"),
        ("https://annotate.example.org:443", "https://annotate.example.org"),
        ("https://annotate.example.org:8443", "https://annotate.example.org:8443"),
        ("http://localhost:80", "http://localhost"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
        ("https://192.0.2.1", "https://192.0.2.1"),
    ],
)
def test_an_address_as_a_browser_spells_it(url: str, origin: str) -> None:
    assert PublicAddress.parse(url).origin == origin


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "annotate.example.org",
            "//annotate.example.org",
            "ftp://annotate.example.org",
            "https://",
            "https:///x",
        ),
        *(
            "https://me@annotate.example.org",
            "https://annotate.example.org:http",
            "https://annotate.example.org:99999",
        ),
        *(
            "https://annotate.example.org/labels",
            "https://annotate.example.org?x=1",
            "https://annotate.example.org#x",
        ),
        *("https://annotate example.org", "https://*.example.org", "https://-x.org", "https://[::1"),
    ],
)
def test_what_is_none_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(ConfigError, match="public_url") as error:
        parse_options(LabelSection, {"public_url": url}, "x.yaml", "label.")
    assert "\n" not in str(error.value)


def test_a_path_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="other pages of that name could read this one"):
        LabelSection(public_url="https://example.org/annotate")


def test_the_host_that_a_proxy_passes_on() -> None:
    plain, ported = map(PublicAddress.parse, ("https://a.example.org", "https://a.example.org:8443"))
    assert [plain.is_asked(h) for h in ("a.example.org", "A.EXAMPLE.org", "a.example.org:443")] == [True] * 3
    assert [plain.is_asked(h) for h in ("a.example.org:8443", "b.a.example.org", "example.org", "")] == [False] * 4
    assert [ported.is_asked(h) for h in ("a.example.org", "a.example.org:8443")] == [True] * 2
    assert not ported.is_asked("a.example.org:443")
    assert PublicAddress.parse("https://[2001:db8::1]").is_asked("[2001:DB8::1]:443")
