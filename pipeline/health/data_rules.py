"""Rules over a run's inputs: its reward model, its labels, its splits."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.health.figures import Figures
from pipeline.health.findings import Facts, Overlap, Rule, Seen
from pipeline.health.gold_rules import vindicated
from pipeline.results.measured import Measured
from pipeline.results.reward import PointwiseMetrics, best_baseline
from pipeline.statistics.intervals import Estimate, has_value

# With this share a test figure of 0.80 is off by at most 0.01.
LEAKED = 0.01
DUPLICATED = 0.05
# Below 2,000 comparisons Gao et al. (2022) found hardly more than chance; the 95 % interval of 100 is 0.2 wide.
FEW, WIDE = 2000, 0.2


def at_chance(figures: Figures, facts: Facts) -> Seen | None:
    accuracy = _accuracy(facts)
    if facts.aims_at_chance or accuracy is None or accuracy.low > Measured.PAIR_ACCURACY.about.low:
        return None
    cause = None if facts.reward is None else facts.reward.chance
    why = "" if cause is None else f" {cause.sentence}"
    return Seen(f"{_right(facts, accuracy)}: that may be chance.{why}")


def below_baseline(figures: Figures, facts: Facts) -> Seen | None:
    accuracy, reward = _accuracy(facts), facts.reward
    if accuracy is None or reward is None or reward.clears_baselines:
        return None
    # A gold score that rose says more than the held-out rows.
    if accuracy.low <= Measured.PAIR_ACCURACY.about.low or vindicated(figures, facts):
        return None
    best, name = best_baseline(reward.baselines) or (0.5, "a coin")
    return Seen(f"{_right(facts, accuracy)}, and {name} {best:.2f}.")


def _accuracy(facts: Facts) -> Estimate | None:
    """The reward model's accuracy on held-out pairs, or its AUC on single completions; None without any."""
    main = None if facts.reward is None else facts.reward.main
    return main if has_value(main) and main.n else None


def _right(facts: Facts, accuracy: Estimate) -> str:
    right = "has an AUC of" if isinstance(facts.reward, PointwiseMetrics) else "is right in"
    return f"On {accuracy.n} held-out rows the reward model {right} {accuracy}"


def leaked(figures: Figures, facts: Facts) -> Seen | None:
    return _overlaps(facts.leaks or (), LEAKED, "are among those trained on")


def duplicated(figures: Figures, facts: Facts) -> Seen | None:
    return _overlaps(facts.duplicates or (), DUPLICATED, "are there more than once")


def _overlaps(overlaps: Sequence[Overlap], share: float, what: str) -> Seen | None:
    over = [o for o in overlaps if o.count > share * o.total]
    return Seen("; ".join(f"{o.count:,} of {o.total:,} {o.rows} {what}" for o in over) + ".") if over else None


def label_noise(figures: Figures, facts: Facts) -> Seen | None:
    noise = facts.noise
    if noise is None or noise.low <= Measured.LABEL_NOISE.about.high:
        return None
    return Seen(
        f"About {noise.share:.0%} of the labels are wrong, at least {noise.low:.0%} (n = {noise.n:,}, by "
        f"{noise.source})."
    )


def few_comparisons(figures: Figures, facts: Facts) -> Seen | None:
    accuracy = _accuracy(facts)
    if accuracy is not None and accuracy.high - accuracy.low > WIDE:
        return Seen(f"{_right(facts, accuracy)}: too few to say more.")
    if facts.training_rows is None or facts.training_rows >= FEW:
        return None
    if facts.reward is None or facts.reward.clears_baselines:
        return None
    return Seen(f"The reward model learnt from {facts.training_rows:,} labels and does not clear its baselines.")


RULES = (
    Rule(
        "reward-at-chance",
        "serious",
        ("reward",),
        at_chance,
        "PPO follows the reward model wherever it leads. One that is no better than a coin leads nowhere.",
        "More labels or cleaner ones, more steps or another learning rate in reward; then run PPO again.",
    ),
    Rule(
        "reward-below-baseline",
        "watch",
        ("reward",),
        below_baseline,
        "PPO finds first what a count of words or the length predicts as well.",
        "More labels, and on completions that differ in what matters; see the reward model's page in the report.",
    ),
    Rule(
        "leaked-rows",
        "serious",
        ("leaks",),
        leaked,
        "Figures on held-out rows then include rows that were learnt by heart, and are too good.",
        "Remove case and blank variants before splitting; bring prompts that nothing was trained on to the test.",
    ),
    Rule(
        "duplicate-rows",
        "watch",
        ("duplicates",),
        duplicated,
        "They count twice, so intervals, which assume independent rows, are too narrow.",
        "Remove them from the source.",
    ),
    Rule(
        "label-noise",
        "watch",
        ("noise",),
        label_noise,
        "The reward model cannot be told from one that errs as often, and needs many more labels.",
        "Ask several people per item (label.votes), look at who disagrees with the others, improve the "
        "guidelines, and let ties be ties.",
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
