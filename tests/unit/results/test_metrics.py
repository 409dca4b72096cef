"""The catalogue of metrics: what docs/metrics.md says is what the code reads."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

from pipeline.health import RULES
from pipeline.health.findings import Facts
from pipeline.results.measured import Measured
from pipeline.results.metrics import Logged
from tests.generated.metrics_page import healthy, page

ROOT = Path(__file__).parents[3]
EVERY = [*Logged, *Measured]


def test_the_page_has_the_catalogue() -> None:
    """Where it does not: make generated."""
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert page(text) == text
    # Mutation caught: two metrics with one anchor.
    assert sorted(re.findall(r'<a id="([^"]+)">', text)) == sorted({metric.anchor for metric in EVERY})


def test_a_metric_is_its_name() -> None:
    assert {"objective/kl": 2.0}[Logged.KL] == 2.0
    assert json.dumps({Logged.KL: 1}) == '{"objective/kl": 1}'
    # Rows are printed as they are where there is no bar. Mutation caught: an enumeration's own repr.
    assert f"{ {Logged.KL: 1} } {Logged.KL}" == "{'objective/kl': 1} objective/kl"
    assert Logged("eval/check") is Logged.CHECK


def test_every_metric_can_be_read() -> None:
    for metric in EVERY:
        about = metric.about
        assert about.label, metric
        assert about.meaning, metric
        assert about.low < about.high, metric
        assert 0 <= about.digits <= 6, metric


def test_limits_hold_at_their_edge() -> None:
    assert Logged.CLIPPED.allows(0.3)
    assert not Logged.CLIPPED.allows(math.nextafter(0.3, 1))
    assert Logged.RATIO_FIRST.allows(0.98)
    assert not Logged.RATIO_FIRST.allows(0.979)
    assert Logged.SCORES.allows(-1e9)
    assert healthy(Logged.CLIPPED) == "0.01 to 0.2; limit 0.3; [clipped-often](doctor.md#clipped-often)"


def test_rules_read_metrics_of_the_catalogue() -> None:
    needs = {name for rule in RULES for need in rule.needs for name in need.split("|")}
    assert needs - set(Logged) == needs & set(vars(Facts()))


def test_no_metric_is_named_beside_the_catalogue() -> None:
    """``objective/kl`` stands in one file."""
    names = "|".join(re.escape(name) for name in Logged if "/" in name)
    spelt = re.compile(rf"[\"'](?:{names})[\"']")
    files = [p for p in (ROOT / "pipeline").rglob("*.py") if spelt.search(p.read_text(encoding="utf-8"))]
    assert [str(p.relative_to(ROOT)) for p in files] == ["pipeline/results/metrics.py"]
