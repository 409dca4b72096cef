"""Limits on what was measured of a policy: harm beside its base, and gaps between groups.

Read from the stats of the newest ``screening`` and ``fairness`` version that has the policy as its parent. A limit
is met where the end of the 95 % interval meets it: what was measured on too little shows nothing. All limits have
to be met at once, so that each is tested at its own level (intersection-union; Berger 1982).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.base.cli import as_called
from pipeline.base.json_values import dict_of
from pipeline.governance.gate import Missing
from pipeline.stages.hub.artefacts import Artefact, Plan
from pipeline.store.store import Store
from pipeline.store.version import Version

Stats = Mapping[str, Any]


def screening(plan: Plan, limit: float) -> Iterator[Missing]:
    """Policies that go and are not shown to be flagged at most ``limit`` more often than their base.

    Of several screens the classifier's counts, as of :func:`pipeline.results.screening.harm_rate_over_base`.
    """
    for policy in _policies(plan):
        command = f"{as_called('pipeline screen')} {policy.ref}"
        if (made := _newest(plan.store, policy, "screening")) is None:
            yield Missing(f"{policy.ref} was not screened for harm", command)
            continue
        screens = [dict_of(screen) for screen in dict_of(made.manifest.stats.get("screens")).values()]
        classifiers = [screen for screen in screens if screen.get("kind") == "classifier"]
        change = dict_of((classifiers or screens or [{}])[0].get("flagged"))
        high = dict_of(change.get("difference")).get("high")
        if not isinstance(high, int | float):
            yield Missing(f"{made.ref} says nothing of {policy.ref} beside its base", command)
        elif high > limit:
            over = f"up to {high:.3f} more of its completions than of its base's (at most {limit:g})"
            yield Missing(
                f"{policy.ref}, by {made.ref}: harm is flagged in {over}", "see what it writes: --show 20"
            )


def fairness(plan: Plan, limits: Mapping[str, float]) -> Iterator[Missing]:
    """Policies that go and are not shown to have no group's gap above its measure's limit."""
    for policy in _policies(plan):
        command = f"{as_called('pipeline fairness')} {policy.ref} --draws 4"
        if (made := _newest(plan.store, policy, "fairness")) is None:
            yield Missing(f"{policy.ref} was not looked at with swapped names and groups", command)
            continue
        largest = _largest(made.manifest.stats)
        for measure, limit in limits.items():
            gap, of = largest.get(measure, (None, ""))
            if gap is None:
                yield Missing(f"{made.ref} says nothing of {measure}", command)
            elif not gap <= limit:
                size = f"up to {gap:.3g} for {of} (at most {limit:g})"
                yield Missing(
                    f"{policy.ref}, by {made.ref}: a gap in {measure} of {size}", "see the gaps: " + command
                )


def _policies(plan: Plan) -> list[Version]:
    """Those among the artefacts; of a merged one the adapter that it was made of, where that goes too."""
    policies = [artefact.version for artefact in plan.artefacts if _is_policy(artefact)]
    return list({version.ref: version for version in policies}.values())


def _is_policy(artefact: Artefact) -> bool:
    merged = artefact.version.manifest.stage == "merge" and "policy" in artefact.refers
    return artefact.card in ("policy", "merged policy") and not merged


def _newest(store: Store, policy: Version, kind: str) -> Version | None:
    """The newest intact version of a kind that was made of exactly this policy."""
    made = [
        version
        for name in store.names()
        for version in store.versions(name)
        if version.manifest.kind == kind
        and any((p.role, p.ref, p.id) == ("policy", policy.ref, policy.id) for p in version.manifest.parents)
        and not version.damage()
    ]
    return max(made, key=lambda version: (version.manifest.created_at, version.number), default=None)


def _largest(stats: Stats) -> dict[str, tuple[float, str]]:
    """By measure the largest end of an interval and whose gap it is; of attributes whose words the model knows.

    A gap without an interval may be of any size.
    """
    largest: dict[str, tuple[float, str]] = {}
    for name, swapped in dict_of(stats.get("attributes")).items():
        known = dict_of(swapped)
        if 2 * len(known.get("unread") or ()) > known.get("words", 0) or not known.get("templates"):
            continue
        for measure, by_group in dict_of(known.get("gaps")).items():
            for group, gap in dict_of(by_group).items():
                ends = [dict_of(gap).get(end) for end in ("low", "high")]
                size = max(abs(e) if isinstance(e, int | float) else float("inf") for e in ends)
                largest[measure] = max(largest.get(measure, (-1.0, "")), (size, f"{name}: {group}"))
    return largest
