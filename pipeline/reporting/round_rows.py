"""The rounds of a loop as a table, for the page and for the card of ``NAME-loop``."""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from pipeline.reporting.run_tables import Table
from pipeline.reporting.sweep_table import aligned
from pipeline.results.rounds import LoopFigures, RoundFigures
from pipeline.statistics.spelling import interval, number
from pipeline.store.dataset_card import approvals
from pipeline.store.manifest import Manifest

HEAD = (
    "round",
    "gold, policy",
    "gold, over the base",
    "gold, over the last round",
    "gold, over best-of-n of the base",
    "proxy, over the base",
    "labels, as gold has them",
    "reward model on the policy's samples: last",
    "and this round's",
    "KL to the base (nats)",
    "closing sentences",
    "patterns",
    "labels",
)


def round_table(figures: LoopFigures) -> Table:
    """A row for each round; every figure with its interval."""
    note = (
        f"PPO starts from the {spelled(figures.start)}, its KL is measured to the {spelled(figures.reference)}; "
        f"the reward model learns from {pairs(figures.data)}. All on held-out prompts, which no stop goes by. "
        "The policy of the round before writes a round's pairs; before they are learnt from, the last round's "
        "reward model is measured on all of them, and this round's on the held-out ones. "
        "This round's reward model also chooses the best of the base's n completions."
    )
    return Table("Rounds", HEAD, [row(each) for each in figures.rounds], note + verdict(figures))


def row(figures: RoundFigures) -> tuple[str, ...]:
    """One round."""
    return (
        f"{figures.number} ({figures.policy})",
        interval(figures.gold),
        interval(figures.gold_over_base, signed=True),
        interval(figures.gold_over_last, signed=True),
        interval(figures.over_best_of, signed=True) + (f", n = {figures.best_of}" if figures.best_of else ""),
        interval(figures.proxy_over_base, signed=True),
        interval(figures.labels_gold),
        interval(figures.reward_last),
        interval(figures.reward_new),
        interval(figures.kl, 1),
        interval(figures.closings, 1),
        interval(figures.patterns, 1),
        f"{figures.labels:,}",
    )


def verdict(figures: LoopFigures) -> str:
    """What ended the loop, and which round is best on the split that stops go by; begins with a space."""
    best = next((r for r in figures.rounds if r.number == figures.best), None)
    text = f" Ended: {figures.stopped}." if figures.stopped else ""
    if best is not None:
        gold = number(best.selection_gold.value) if best.selection_gold else ""
        text += f" Best on the split select: round {best.number}, {best.policy} (gold {gold})."
    return text


def spelled(choice: str) -> str:
    """``base``, or ``last policy``."""
    return "last policy" if choice == "last" else choice


def pairs(data: str) -> str:
    """Which pairs the reward model learns from."""
    return {"all": "the pairs of all rounds", "last": "the pairs of the last round"}.get(data, f"{data} pairs")


def card(manifest: Manifest, figures: LoopFigures, pictures: Mapping[str, str]) -> str:
    """The README.md of a ``NAME-loop`` version.

    Args:
        pictures: the title of each file beside it.
    """
    table = round_table(figures)
    front = yaml.safe_dump({"license": "unknown", "tags": ["rlhf", "loop"]}, sort_keys=False)
    shown = [f"![{title}]({file})" for file, title in pictures.items()]
    parts = [f"# {manifest.ref}", aligned([table.head, *table.rows]), table.note, *approvals(manifest), *shown]
    return f"---\n{front}---\n\n" + "\n\n".join(parts) + "\n"
