"""Readers as tables, for the page and for the card of ``NAME-readers``."""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from pipeline.reporting.run_tables import Table
from pipeline.reporting.sweep_table import aligned
from pipeline.results.readers import ReaderFigures, ReadersFigures
from pipeline.statistics.intervals import Estimate
from pipeline.statistics.spelling import interval, number
from pipeline.store.manifest import Manifest

HEAD = (
    "reader",
    "votes",
    "liked",
    "reward model, AUC: shared",
    "and their own",
    "gold: base",
    "shared policy",
    "their own",
    "gold, over the shared policy",
    "proxy, over the shared policy",
    "KL to the base (nats)",
    "closing sentences",
    "seconds",
    "kB",
)


def reader_table(figures: ReadersFigures) -> Table:
    """A row for each reader; every figure with its interval."""
    note = (
        f"The shared policy is {figures.shared}. AUCs are of the reader's own held-out votes; gold scores and "
        "proxies of held-out prompts, on which both policies write with the same randomness. The proxy is the "
        "reader's reward model, which their policy was trained on. Seconds are those of their reward model and "
        f"policy, kB of their policy's adapter. {sentence(figures)}"
    )
    return Table("Readers", HEAD, [row(each) for each in figures.readers], note)


def row(figures: ReaderFigures) -> tuple[str, ...]:
    """One reader."""
    return (
        f"{figures.reader} ({figures.policy})",
        f"{figures.votes:,}",
        f"{100 * figures.liked:.0f} %",
        interval(figures.shared_auc),
        interval(figures.own_auc),
        interval(figures.gold_base),
        interval(figures.gold_shared),
        interval(figures.gold_own),
        interval(figures.gold_over_shared, signed=True),
        interval(figures.proxy_over_shared, signed=True),
        interval(figures.kl, 1),
        interval(figures.closings, 1),
        f"{figures.seconds:.1f}",
        f"{figures.kilobytes:.0f}",
    )


def sample_table(figures: ReadersFigures) -> Table:
    """What both policies write for the same prompts, side by side."""
    rows = [
        (
            each.reader,
            sample.prompt,
            _judged(sample.shared, sample.shared_gold),
            _judged(sample.own, sample.own_gold),
        )
        for each in figures.readers
        for sample in each.samples
    ]
    note = (
        "In brackets the reader's gold score. Neither the best nor the worst: the first prompts of the evaluation."
    )
    return Table("Samples of readers", ("reader", "prompt", "shared policy", "their own"), rows, note)


def sentence(figures: ReadersFigures) -> str:
    """How many readers are better served by their own policy, in a sentence."""
    gains = [each.over_shared for each in figures.readers]
    by = "gold score" if all(each.gold_over_shared for each in figures.readers) else "reward model"
    surely = sum(map(is_gain, gains))
    served = "are surely better served by their own policy than by the shared one"
    text = f"{surely} of {len(gains)} readers {served} ({by})."
    if not figures.without:
        return text
    return f"{text} Others keep the shared one, for too few votes or all alike: {figures.without}."


def is_gain(estimate: Estimate | None) -> bool:
    """Whether an interval is above 0."""
    return estimate is not None and estimate.has_limits and estimate.low > 0


def card(manifest: Manifest, figures: ReadersFigures, pictures: Mapping[str, str]) -> str:
    """The README.md of a ``NAME-readers`` version.

    Args:
        pictures: the title of each file beside it.
    """
    front = yaml.safe_dump({"license": "unknown", "tags": ["rlhf", "readers"]}, sort_keys=False)
    parts = [f"# {manifest.ref}"]
    for table in (reader_table(figures), sample_table(figures)):
        parts += [aligned([table.head, *table.rows]), table.note]
    parts += [f"![{title}]({file})" for file, title in pictures.items()]
    return f"---\n{front}---\n\n" + "\n\n".join(parts) + "\n"


def _judged(text: str, gold: float | None) -> str:
    return text.strip() if gold is None else f"{text.strip()} ({number(gold)})"
