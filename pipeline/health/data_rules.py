"""Rules over what a run was made from: its reward model, its labels, its splits. Counting them is lineage.py's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.health.figures import Figures
from pipeline.health.findings import Facts, Overlap, Rule, Seen
from pipeline.health.gold_rules import vindicated

# A test figure of 0.80 is off by at most 0.01 from such rows.
LEAKED = 0.01
DUPLICATED = 0.05
# People agree with each other on 0.73 to 0.77 of pairs (Ouyang et al. 2022), which two who err on 0.15 would do.
WRONG_LABELS = 0.3
# Below 2,000 comparisons Gao et al. (2022) found hardly more than chance; the 95 % interval of 100 is 0.2 wide.
FEW, WIDE = 2000, 0.2


def at_chance(figures: Figures, facts: Facts) -> Seen | None:
    found = _accuracy(facts)
    if found is None or found["low"] > 0.5:
        return None
    return Seen(f"{_right(found)}: that may be chance.")


def below_baseline(figures: Figures, facts: Facts) -> Seen | None:
    found = _accuracy(facts)
    if found is None or facts.reward is None or found["low"] <= 0.5 or facts.reward.get("clears_baselines", True):
        return None
    if vindicated(figures):  # however it was measured, following it led somewhere good
        return None
    known = [
        (interval["value"], b["name"])
        for b in facts.reward.get("baselines", [])
        if (interval := b.get("accuracy") or b.get("auc")) and interval["value"] is not None
    ]
    best, name = max(known, default=(0.5, "a coin"))
    return Seen(f"{_right(found)}, and {name} {best:.2f}.")


def _accuracy(facts: Facts) -> Mapping[str, Any] | None:
    """Its interval on held-out pairs, or the AUC of one trained on single completions; None without any."""
    found = None if facts.reward is None else facts.reward.get("accuracy") or facts.reward.get("auc")
    return found if found and found["n"] and found["value"] is not None else None


def _right(found: Mapping[str, Any]) -> str:
    return (
        f"On {found['n']} held-out rows the reward model is right in {found['value']:.2f} "
        f"[{found['low']:.2f}, {found['high']:.2f}]"
    )


def leaked(figures: Figures, facts: Facts) -> Seen | None:
    return _overlaps(facts.leaks or (), LEAKED, "are among those trained on")


def duplicated(figures: Figures, facts: Facts) -> Seen | None:
    return _overlaps(facts.duplicates or (), DUPLICATED, "are there more than once")


def _overlaps(found: Sequence[Overlap], share: float, what: str) -> Seen | None:
    over = [o for o in found if o.count > share * o.total]
    return Seen("; ".join(f"{o.count:,} of {o.total:,} {o.rows} {what}" for o in over) + ".") if over else None


def label_noise(figures: Figures, facts: Facts) -> Seen | None:
    noise = facts.noise
    if noise is None or noise.low <= WRONG_LABELS:
        return None
    return Seen(
        f"About {noise.share:.0%} of the labels are wrong, at least {noise.low:.0%} (n = {noise.n:,}, by "
        f"{noise.source})."
    )


def few_comparisons(figures: Figures, facts: Facts) -> Seen | None:
    found = _accuracy(facts)
    if found is not None and found["high"] - found["low"] > WIDE:
        return Seen(f"{_right(found)}: too few to say more.")
    if facts.training_rows is None or facts.training_rows >= FEW:
        return None
    if facts.reward is None or facts.reward.get("clears_baselines", True):
        return None
    return Seen(f"The reward model learnt from {facts.training_rows:,} labels and does not clear its baselines.")


RULES = (
    Rule(
        "reward-at-chance",
        "serious",
        ("reward",),
        at_chance,
        "PPO follows the reward model wherever it leads. One that is no better than a coin leads nowhere.",
        "More labels or cleaner ones, more steps or another learning rate in reward; then PPO anew.",
    ),
    Rule(
        "reward-below-baseline",
        "watch",
        ("reward",),
        below_baseline,
        "What a count of words or the length knows as well is what PPO will find first.",
        "More labels, and on completions that differ in what matters; see the reward model's page in the report.",
    ),
    Rule(
        "leaked-rows",
        "serious",
        ("leaks",),
        leaked,
        "Figures on held-out rows are then partly of rows that were learnt by heart, and too good.",
        "Remove case and blank variants before splitting; bring prompts that nothing was trained on to the test.",
    ),
    Rule(
        "duplicate-rows",
        "watch",
        ("duplicates",),
        duplicated,
        "They count twice, and intervals that take rows for independent are too narrow.",
        "Remove them from the source.",
    ),
    Rule(
        "label-noise",
        "watch",
        ("noise",),
        label_noise,
        "The reward model cannot be told from one that errs as often, and needs many more labels.",
        "Ask several people per item (label.votes), look at who disagrees with the others, mend the guidelines, "
        "and let ties be ties.",
    ),
    Rule(
        "few-comparisons",
        "watch",
        ("reward|training_rows",),
        few_comparisons,
        "Whether the reward model has learnt anything cannot be told.",
        "Collect more: 2,000 comparisons and 200 held-out ones are a beginning.",
    ),
)
