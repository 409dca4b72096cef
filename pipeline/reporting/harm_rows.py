"""Screening and swapped groups in sentences and tables for somebody who is no engineer."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.reporting.run_tables import Table
from pipeline.results.fairness import MEASURES, Fairness, Gap
from pipeline.results.screening import Screen, Screening, harm_rate_over_base
from pipeline.statistics.intervals import Estimate, has_value
from pipeline.statistics.spelling import interval, number

Parts = tuple[Sequence[str], Sequence[Table], bool]
"""Sentences, tables, and whether it was done."""

MOST_GAPS = 12
"""Gaps that a table shows, those that are furthest from 0 by their limits first."""


def screening_answer(screening: Screening | None) -> Parts:
    """The rates of flagged completions, policy beside base."""
    if screening is None:
        return ["Its texts were not screened (python -m pipeline screen)."], (), False
    name, screen = screening.main
    over = harm_rate_over_base(screening)
    sentences = [
        f"Of the policy's {screening.n * screening.completions_per_prompt:,} texts, {_called(name, screen)} flags "
        f"{percent(screen.flagged.policy)}; of the base's, on the same prompts, {percent(screen.flagged.base)}. "
        f"Difference: {percent(over, signed=True)}: {_verdict(over)}"
    ]
    if screen.kind == "words":
        sentences.append(
            "A list of words misses what is hostile in polite words, and flags some harmless texts: read it as a "
            "rate beside the base's, never as a judgement of one text."
        )
    tables = [_screen_table(name, one) for name, one in screening.screens.items()]
    return sentences, tables, True


def _screen_table(name: str, screen: Screen) -> Table:
    rows = [
        (label, percent(change.base), percent(change.policy), percent(change.difference, signed=True))
        for label, change in {"any": screen.flagged, **screen.by_label}.items()
    ]
    how = "" if screen.threshold is None else f", at a probability of {number(screen.threshold)} or more"
    cut = f" Cut as too long: {screen.truncated}." if screen.truncated else ""
    note = f"Share of texts{how}; {screen.flagged.policy.n:,} prompts.{cut}"
    return Table(
        f"Flagged by {_called(name, screen)}", ("flagged for", "base", "policy", "difference"), rows, note
    )


def _called(name: str, screen: Screen) -> str:
    return "a list of words" if screen.kind == "words" else f"the classifier {name}"


def _verdict(over: Estimate) -> str:
    if not over.has_limits:
        return "no flag on either side, or one on every text."
    if over.low > 0:
        return "the policy is flagged more often."
    return "the policy is flagged less often." if over.high < 0 else "no difference that is surely there."


def fairness_answer(fairness: Fairness | None) -> Parts:
    """The gaps between groups, with what their number alone would give."""
    if fairness is None:
        return ["It was not tried with swapped names and groups (python -m pipeline fairness)."], (), False
    useless = [name for name, swapped in fairness.attributes.items() if swapped.means_nothing]
    gaps = list(fairness.gaps())
    if not gaps:
        what = "This model cannot read the words that were swapped, so nothing can be said."
        return [what], (), False
    sure = [gap for gap in gaps if gap[3].sure]
    alone = sum(gap[3].excludes_zero for gap in gaps)
    sentences = [
        f"The same prompts and answers, with only a name, a pronoun or a group swapped: {len(gaps)} gaps between "
        f"groups were looked at. {alone} exclude 0 at 95 %, where chance alone gives about "
        f"{number(0.05 * len(gaps), 1)}; {len(sure)} remain once their number is allowed for."
    ]
    if sure:
        sentences.append("Surely there: " + "; ".join(in_words(*gap) for gap in sure[:MOST_GAPS]) + ".")
        sentences.append("A gap that is surely there may still be too small to matter: read its size.")
    if useless:
        sentences.append(
            f"Of no meaning here, as the model does not know most of the swapped words: {', '.join(useless)}."
        )
    sentences.append("No gap found is no proof that there is none: these are a few templates, and not your users.")
    shown = sorted(gaps, key=lambda gap: -_distance(gap[3]))[:MOST_GAPS]
    rows = [_gap_row(*gap) for gap in shown]
    level = number(100 - 5 / max(fairness.comparisons, 1), 2)
    note = (
        "A group's mean less that of the other groups; intervals over templates, 95 %. "
        f'"Sure": also at {level} %, as {fairness.comparisons} gaps were looked at (Bonferroni).'
    )
    more = f"The {len(shown)} clearest of {len(gaps)} gaps" if len(gaps) > len(shown) else "All gaps"
    head = ("swapped", "group", "measure", "templates", "gap", "sure")
    return sentences, [Table(more, head, rows, note)], True


def _gap_row(attribute: str, measure: str, group: str, gap: Gap) -> tuple[str, ...]:
    sure = "yes" if gap.sure else "no"
    return attribute, group, MEASURES.get(measure, measure), str(gap.n), interval(gap, signed=True), sure


def in_words(attribute: str, measure: str, group: str, gap: Gap) -> str:
    """One gap as part of a sentence."""
    return f"{attribute}, {group}: {MEASURES.get(measure, measure)} {interval(gap, signed=True)}"


def percent(estimate: Estimate, signed: bool = False) -> str:
    """A share with its limits in per cent."""
    scaled = Estimate(100 * estimate.value, 100 * estimate.low, 100 * estimate.high, estimate.n)
    value, bracket, limits = interval(scaled, 1, signed).partition(" [")
    return f"{value} %{bracket}{limits}" if has_value(estimate) else value


def _distance(gap: Gap) -> float:
    """How far a gap is from 0, in halves of its interval."""
    half = (gap.high - gap.low) / 2
    return abs(gap.value) / half if gap.has_limits and half > 0 else 0.0
