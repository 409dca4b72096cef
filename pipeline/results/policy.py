"""Results of a policy: the stats of an ``evaluation`` version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipeline.results.best_of_n import BestOfN
from pipeline.results.diversity import Diversity
from pipeline.results.overoptimisation import BestCheckpoint, OverOptimisation, PolicySettings
from pipeline.results.sides import Change, Measure, Side
from pipeline.results.stats import FLAT
from pipeline.statistics.intervals import Estimate, has_value


@dataclass(frozen=True, kw_only=True)
class WinRate(Estimate):
    """Share of prompts on which the policy is preferred, ties half; ``n`` counts prompts with an answer.

    Attributes:
        wins, ties, losses: completions.
    """

    wins: int
    ties: int
    losses: int


@dataclass(frozen=True, kw_only=True)
class LengthControlledWinRate(Estimate):
    """The win rate that would be left if both completions were equally long.

    Attributes:
        slope: of the win on the length difference; None where all lengths are equal.
        reason: why there is no value, else None.
    """

    slope: float | None
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class SequenceKL(Estimate):
    """KL(policy || reference) in nats per completion.

    Attributes:
        standard_error: over prompts; NaN of one.
    """

    standard_error: float


@dataclass(frozen=True, kw_only=True)
class DegenerateRate(Estimate):
    """Share of completions that are broken whatever the task.

    Attributes:
        kinds: how many each rule took.
    """

    kinds: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class PolicyComparison:
    """Base against policy on the same prompts. Every interval treats prompts as the unit.

    Attributes:
        n: prompts.
        gold_score, score, length: None where the scores are unknown; length is in tokens.
        win_rate, length_controlled_win_rate: by the score that decides, likewise.
        kl_k1, kl_k3: nats per completion, and per token.
        entropy: of the next token, in nats; None where nothing was sampled.
        ended: share of completions that ended by themselves.
        unique, repetition, distinct_1, distinct_2, distinct_3: of all completions, in 0 .. 1; None where there is
            no n-gram.
    """

    n: int
    completions_per_prompt: int | None
    level: float
    gold_score: Change | None
    score: Change | None
    length: Change | None
    win_rate: Mapping[Measure, WinRate | None]
    length_controlled_win_rate: Mapping[Measure, LengthControlledWinRate | None]
    kl_k1: SequenceKL | None
    kl_k3: SequenceKL | None
    kl_k1_per_token: Estimate | None
    kl_k3_per_token: Estimate | None
    entropy: Change | None
    ended: Mapping[Side, Estimate]
    degenerate: Mapping[Side, DegenerateRate]
    unique: Mapping[Side, float | None]
    repetition: Mapping[Side, float | None]
    distinct_1: Mapping[Side, float | None]
    distinct_2: Mapping[Side, float | None]
    distinct_3: Mapping[Side, float | None]

    def change(self, measure: Measure) -> Change | None:
        """The gold score, or the proxy."""
        return self.gold_score if measure == "gold_score" else self.score


@dataclass(frozen=True)
class SeedChange:
    """The differences, policy - base, of the completions drawn with one seed, and their KL."""

    seed: int
    kl_k1: float
    score: float | None
    gold_score: float | None


@dataclass(frozen=True)
class JudgeTrust:
    """The reliability of a language model as a judge.

    Attributes:
        pairs, asked: pairs of completions; two equal texts tie without being asked.
        abstentions: pairs without an answer, by reason.
        position_bias: share of decided answers that named the completion shown first, over pairs decided in both
            orders; .5 is none.
        disagreement: share of pairs answered in both orders on which the orders disagree.
    """

    pairs: int
    asked: int
    abstentions: Mapping[str, int]
    position_bias: Estimate
    disagreement: Estimate

    @property
    def doubt(self) -> str | None:
        """Why the verdict says nothing about the policy; None where no reason is known.

        A coin contradicts itself on half of the pairs, a judge that goes by the position on all of them.
        """
        silent = sum(self.abstentions.values())
        if 2 * silent > self.asked:
            return f"no usable answer on {silent} of {self.asked} pairs"
        if has_value(self.disagreement) and self.disagreement.high >= 0.5:
            return (
                f"with the order swapped it contradicts itself on {self.disagreement} of {self.disagreement.n} "
                "pairs, a coin on half"
            )
        return None


@dataclass(frozen=True, kw_only=True)
class JudgeVerdicts:
    """How often a judge that PPO never saw prefers the policy.

    Attributes:
        score: of a scorer.
        trust: of a language model.
    """

    kind: Literal["scorer", "llm"]
    score: Change | None = None
    trust: JudgeTrust | None = field(default=None, metadata=FLAT)
    win_rate: WinRate
    length_controlled_win_rate: LengthControlledWinRate


@dataclass(frozen=True)
class OtherHistory:
    """Both sides where the last turn of a conversation follows the history of another one.

    Attributes:
        gold_score: of these completions, by their own conversations.
        gain: how much higher it is after the own history, paired by prompt; near 0 where no history is used.
    """

    gold_score: Change
    gain: Change


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Completions of the same prompts by something that learns nothing, such as a rule.

    Attributes:
        gold_score: the reference's as ``base``, and the policy's.
        events: share of prompts on which each happened.
    """

    gold_score: Change
    events: Mapping[str, Estimate]


@dataclass(frozen=True, kw_only=True)
class Evaluation(PolicyComparison):
    """A comparison, and what stands beside it.

    Attributes:
        precision: ``fp32`` or ``bf16``, in which it was sampled and scored.
        lexicon_words: words of a completion that the gold score's lexicon knows, where that is what it goes by.
        other_history: None where it was not measured.
        seeds: each seed of sampling alone.
        judges: by name.
        policy: which policy it is of.
        starting_policy: no update of its run was kept, see :mod:`pipeline.store.starting_policy`.
        gold_name: what the gold score is.
        events: share of completions on which each happened, by its name, where the task carries them out.
        references: by name, of a task that has some.
    """

    precision: str = "fp32"
    lexicon_words: Change | None = None
    other_history: OtherHistory | None = None
    seeds: Sequence[SeedChange]
    judges: Mapping[str, JudgeVerdicts]
    best_of_n: BestOfN
    diversity: Diversity | None
    policy: PolicySettings | None
    overoptimisation: OverOptimisation
    best_checkpoint: BestCheckpoint | None
    starting_policy: bool | None
    gold_name: str | None
    events: Mapping[str, Mapping[Side, Estimate]] = field(default_factory=dict[str, Mapping[Side, Estimate]])
    references: Mapping[str, Reference] = field(default_factory=dict[str, Reference])

    @property
    def figures(self) -> dict[str, Estimate]:
        """The estimates that runs are compared by, each under its place in the stats; those that are there."""
        figures: dict[str, Estimate | None] = {"kl_k1": self.kl_k1}
        for name, change in (("gold_score", self.gold_score), ("score", self.score), ("length", self.length)):
            if change is not None:
                figures |= {f"{name}.{part}": estimate for part, estimate in vars(change).items()}
        for measure, wins in self.win_rate.items():
            figures[f"win_rate.{measure}"] = wins
        for measure, wins in self.length_controlled_win_rate.items():
            figures[f"length_controlled_win_rate.{measure}"] = wins
        for side in self.ended:
            figures |= {f"ended.{side}": self.ended[side], f"degenerate.{side}": self.degenerate.get(side)}
        if variety := self.diversity:
            for name, number in (
                ("closings", variety.closings),
                ("ngrams", variety.ngrams),
                ("patterns", variety.patterns),
            ):
                if number is not None:
                    parts = {"base": number.base, "policy": number.policy, "ratio": number.ratio}
                    figures |= {f"diversity.{name}.{part}": estimate for part, estimate in parts.items()}
            figures |= {f"diversity.closing.{side}.share": c.share for side, c in variety.closing.items()}
        return {name: estimate for name, estimate in figures.items() if estimate is not None}
