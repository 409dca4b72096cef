"""The rules on readers: each on its illness, made by hand, and silent on healthy ones."""

from __future__ import annotations

from dataclasses import replace

from pipeline.health import Facts, Finding, diagnose
from pipeline.results.readers import ReaderFigures
from pipeline.statistics.intervals import Estimate

ADA = ReaderFigures(
    reader="r1", policy="news-r1-policy@v000001", votes=200, held_out=20, liked=0.4,
    gold_over_shared=Estimate(0.4, 0.3, 0.5, 200), same_as="r2", same_texts=0.03,
)  # fmt: skip
BEN = replace(ADA, reader="r2", policy="news-r2-policy@v000001", same_as="r1")
NO_GAIN = Estimate(0.05, -0.02, 0.12, 200)


def findings(*readers: ReaderFigures) -> dict[str, Finding]:
    return {finding.rule: finding for finding in diagnose([], Facts(readers=readers))}


def test_healthy_readers_have_no_findings() -> None:
    assert findings(ADA, BEN) == findings(ADA) == findings() == {}
    # Without a gold score their reward model decides.
    by_proxy = replace(ADA, gold_over_shared=None, proxy_over_shared=Estimate(1.0, 0.8, 1.2, 200))
    assert findings(by_proxy) == {}


# Mutation caught: each pair named twice.
def test_adapters_that_write_the_same_are_named_once() -> None:
    found = findings(replace(ADA, same_texts=1.0), replace(BEN, same_texts=1.0))
    assert found["readers-alike"].what == "r1 and r2 write 100 % the same completions."
    assert found["readers-alike"].severity == "serious"


def test_a_reader_who_is_not_served_is_named_and_all_of_them_are_serious() -> None:
    found = findings(ADA, replace(BEN, gold_over_shared=NO_GAIN))
    assert list(found) == ["reader-not-served"]
    assert found["reader-not-served"].what.startswith("r2 +0.05 [−0.02, 0.12] with 200 votes")
    found = findings(*(replace(reader, gold_over_shared=NO_GAIN) for reader in (ADA, BEN)))
    assert list(found) == ["readers-in-vain"]
    # The reward model's own opinion does not help where the truth is known.
    gamed = replace(ADA, gold_over_shared=NO_GAIN, proxy_over_shared=Estimate(2.0, 1.8, 2.2, 200))
    assert list(findings(gamed)) == ["readers-in-vain"]
