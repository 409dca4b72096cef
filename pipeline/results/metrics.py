"""The catalogue of metrics: name, unit, format and healthy range of each.

The console, the doctor, the report, the tables and docs/metrics.md read it, so that a metric has one name and one
limit. A member *is* its name, a ``str``: ``row[Logged.KL]`` is ``row["objective/kl"]``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Literal, Self

Place = Literal["ppo", "held-out", "trainer", "evaluation", "diversity", "reward", "screening", "fairness"]
"""Where it is: in a row of PPO's log, in one of its held-out evaluations, in a row of sft's or reward's log; in an
evaluation's stats, in their ``diversity``, or in a reward model's stats; in a screening's screens, or among the
gaps of an attribute."""


@dataclass(frozen=True)
class About:
    """The description of a metric.

    Attributes:
        label: in a sentence or a table, or above a picture.
        unit: empty for a plain number.
        meaning: its line in docs/metrics.md, as Markdown.
        heading: of a narrow column.
        short_unit: there instead of ``unit``; "%" for a share that is written as a percentage.
        digits: after the point.
        interval: how its interval is made; empty where n decides (a mean), and where there is none.
        healthy: in words, for docs/metrics.md.
        low, high: past these the doctor warns, as docs/doctor.md argues.
        trl: how the value of TRL 1.12 under the same name differs.
    """

    place: Place
    label: str
    unit: str
    meaning: str
    heading: str = ""
    short_unit: str = ""
    digits: int = 2
    interval: str = ""
    healthy: str = ""
    low: float = -math.inf
    high: float = math.inf
    trl: str = ""


class Metric(StrEnum):
    """A metric by its name, with what there is to say about it; the base of the two parts of the catalogue."""

    about: About

    def __new__(cls, name: str, about: About) -> Self:
        member = str.__new__(cls, name)
        member._value_, member.about = name, about
        return member

    # A logged row is printed as a dictionary where there is no progress bar.
    __repr__ = str.__repr__

    @property
    def anchor(self) -> str:
        """Its id in docs/metrics.md."""
        return f"{self.about.place}-{re.sub(r'[^a-z0-9]+', '-', self)}"

    @property
    def with_unit(self) -> str:
        """Its label with its unit: ``KL k1 (nats per completion)``."""
        label, unit = self.about.label, self.about.unit
        return label if not unit or unit in label else f"{label} ({unit})"

    @property
    def column(self) -> str:
        """Its heading with its unit: ``KL k1 (nats)``."""
        return f"{self.about.heading} ({self.about.short_unit or self.about.unit})"

    def allows(self, value: float) -> bool:
        """Whether a value is within the doctor's limits, or on one."""
        return self.about.low <= value <= self.about.high

    @classmethod
    def at(cls, place: Place) -> list[Self]:
        """Those of one place, in the catalogue's order."""
        return [metric for metric in cls if metric.about.place == place]


_ppo, _held_out, _trainer = partial(About, "ppo"), partial(About, "held-out"), partial(About, "trainer")
_ALONE = "not logged"
_PADDED = "averages over padding"
_FIRST = "as at first"


class Logged(Metric):
    """What the trainers log, by its name in metrics.jsonl."""

    # fmt: off

    # -------------------- PPO: an update. docs/doctor.md argues the limits.

    SCORES = "objective/scores", _ppo(
        "Proxy score", "score",
        "mean score of the reward source (the proxy), before scaling, clipping and penalties", "proxy", digits=3,
        healthy="rises", trl="after the penalty")
    SCORES_STD = "objective/scores_std", _ppo(
        "Spread of the proxy score", "score", "standard deviation of the proxy score over the batch", digits=3,
        healthy="well above 0; near 0: all completions alike, or a saturated reward", trl=_ALONE)
    GOLD = "objective/gold_scores", _ppo(
        "Gold score", "score", "mean gold score of the same completions; never trained on", "gold", digits=3,
        healthy="rises with the proxy", trl=_ALONE)
    KL = "objective/kl", _ppo(
        "KL k1", "nats per completion", "KL to the reference, k1 estimate", "KL k1", "nats",
        healthy="0 at first, then a few nats; may dip below 0 by noise, not for long", high=10.0,
        trl="the estimator of `kl_estimator`")
    KL_K3 = "objective/kl_k3", _ppo(
        "KL k3", "nats per completion", "KL to the reference, k3 estimate; never negative", healthy="near k1",
        low=-1e-6, trl=_ALONE)
    KL_PER_TOKEN = "objective/kl_per_token", _ppo(
        "KL k1 per token", "nats per token", "KL to the reference, k1 estimate, over all tokens", "per token",
        "nats", digits=4, healthy="below about 0.5", high=0.5, trl=_ALONE)
    LOG_LIKELIHOOD = "objective/entropy", _ppo(
        "Entropy of a completion", "nats", "minus the summed log-probability of the completions",
        healthy="falls slowly, not to 0", trl="counts padding")
    NON_SCORE = "objective/non_score_reward", _ppo(
        "KL penalty", "score", "minus the KL penalty, mean per completion", digits=3,
        healthy="small beside the score")
    RLHF_REWARD = "objective/rlhf_reward", _ppo(
        "What PPO maximises", "score", "final score minus the KL penalty: what PPO maximises", digits=3,
        healthy="rises")
    APPROX_KL = "policy/approxkl_avg", _ppo(
        "KL to the sampling policy", "nats per token",
        "half the squared log-ratio to the sampling policy, per token and step", digits=4,
        healthy="below about 0.02", trl=_PADDED)
    CLIPPED = "policy/clipfrac_avg", _ppo(
        "Tokens whose ratio was clipped", "share", "tokens whose ratio was clipped", "clipped", "%", 1,
        healthy="0.01 to 0.2", high=0.3, trl=_PADDED)
    ENTROPY = "policy/entropy_avg", _ppo(
        "Entropy of the next token", "nats", "entropy of the next-token distribution", "entropy",
        healthy="falls slowly; near 0 is collapse", low=0.1, trl=_PADDED)
    GRAD_NORM = "policy/grad_norm", _ppo(
        "Gradient norm", "", "gradient norm before clipping at `max_grad_norm`", healthy="no jumps",
        trl="not logged, not clipped")
    STEPS = "policy/steps", _ppo(
        "Optimiser steps", "steps", "optimiser steps of the update", digits=0,
        healthy="epochs x minibatches; fewer when `target_kl` ended it", trl="depends on the data's length")
    POLICY_LOSS = "loss/policy_avg", _ppo(
        "Policy loss", "", "the policy's loss, per token", digits=4, trl="mean of micro-batch means")
    VALUE_LOSS = "loss/value_avg", _ppo(
        "Value loss", "", "the value model's loss, per token", digits=4, healthy="falls",
        trl="mean of micro-batch means")
    EXPLAINED = "val/explained_variance", _ppo(
        "Value model: variance explained", "share", "1 - Var(returns - values) / Var(returns)", "expl. var",
        healthy="above 0 after some updates; below 0 the value model harms", low=0.02, trl=_ALONE)
    VALUES_CLIPPED = "val/clipfrac_avg", _ppo(
        "Value predictions clipped", "share", "value predictions that were clipped",
        healthy="below about 0.3", high=0.3, trl=_PADDED)
    RETURNS_MEAN = "val/returns_mean", _ppo(
        "Mean return", "score", "mean of the returns", digits=3, healthy="follows the score", trl=_ALONE)
    RETURNS_VAR = "val/returns_var", _ppo("Variance of the returns", "", "variance of the returns", digits=3,
        trl=_ALONE)
    ADVANTAGES_VAR = "val/advantages_var", _ppo(
        "Variance of the advantages", "", "variance of the advantages before whitening", digits=3,
        healthy="above 0; near 0 there is nothing to learn from", low=1e-6, trl=_ALONE)
    RATIO = "val/ratio", _ppo("Mean ratio", "", "mean of the ratio to the sampling policy", healthy="1")
    RATIO_VAR = "val/ratio_var", _ppo(
        "Variance of the ratio", "", "variance of the ratio", digits=3,
        healthy="near 0, and exactly 0 at learning rate 0",
        trl="variance of batch means over padding, 0.267 at rate 0")
    RATIO_FIRST = "val/ratio_first", _ppo(
        "First ratio", "", "mean ratio in the first minibatch; the run stops if it is not 1", digits=3,
        healthy="1", low=0.98, high=1.02, trl=_ALONE)
    ENDED_COUNT = "val/num_eos_tokens", _ppo(
        "Completions that ended", "completions", "completions that ended by themselves", digits=0,
        healthy="stays high", trl="counts tokens, 0 where padding is the end token")
    ENDED = "eos_rate", _ppo(
        "Ended by itself", "share", "completions that ended by themselves", "EOS", "%", 0,
        healthy="stays high; falling to 0 means only cut completions", trl=_ALONE)
    LENGTH = "length/mean", _ppo(
        "Length of completions", "tokens", "tokens per completion", "length", digits=1, healthy="no drift",
        trl=_ALONE)
    LONGEST = "length/max", _ppo("Longest completion", "tokens", "tokens of the longest one", digits=0, trl=_ALONE)
    REPETITION = "text/repetition", _ppo(
        "Repeated 4-grams", "share",
        "of a completion's 4-grams, those that are there already earlier in it (seq-rep-4)",
        healthy="as at first; above 0.2 are loops", high=0.2, trl=_ALONE)
    CLOSINGS = "diversity/closings", _ppo(
        "Effective closing sentences", "effective number",
        "exp of the entropy of the last sentences, over the latest updates that hold 256 completions (as all of "
        "`diversity/`, from the first such update on)", "closings", "eff. no.", 1,
        healthy="as at first; half of it may be a collapse. 256 of a base with 85 show 55", trl=_ALONE)
    OPENINGS = "diversity/openings", _ppo(
        "Effective first sentences", "effective number", "the same of first sentences", digits=1, healthy=_FIRST,
        trl=_ALONE)
    TRIGRAMS = "diversity/trigrams", _ppo(
        "Effective runs of three words", "effective number",
        "the same of runs of three words, in a sample of half as many as there were at first", digits=0,
        healthy="above half of the first", trl=_ALONE)
    COMMON_CLOSING = "diversity/common_closing", _ppo(
        "Most common closing sentence", "share", "completions that end in the most common closing sentence",
        healthy="no steady rise", trl=_ALONE)
    COMMON_SENTENCE = "diversity/common_sentence", _ppo(
        "Most common sentence", "share", "completions that hold the most common sentence anywhere",
        healthy="no steady rise", trl=_ALONE)
    PATTERNS = "diversity/patterns", _ppo(
        "Effective patterns of sentences", "effective number",
        "the same of the patterns of sentences (the first completions' frequent words, a slot for each run of "
        "others), in a sample of half as many as there were at first", "patterns", digits=1,
        healthy="above half of the first; below .4 it may be a collapse", trl=_ALONE)
    COMMON_PATTERN = "diversity/common_pattern", _ppo(
        "Most common pattern", "share", "sentences that have the most common pattern", healthy="no steady rise",
        trl=_ALONE)
    SPREAD = "diversity/spread", _ppo(
        "What spreads", "share",
        "completions gained since the first 256 by the sentence or run of four words that gained most",
        healthy="below 0.1", high=0.3, trl=_ALONE)
    UNIQUE_TEXTS = "diversity/unique", _ppo(
        "Unique completions", "share", "different texts per completion", healthy=_FIRST, trl=_ALONE)
    SENTENCES = "diversity/sentences", _ppo(
        "Sentences", "", "sentences per completion", digits=1, healthy=_FIRST, trl=_ALONE)
    KL_COEF = "kl_coef", _ppo(
        "KL coefficient", "", "the KL coefficient now (it moves with `kl_target`)", digits=4,
        healthy="does not run away", trl="fixed")
    LR = "lr", _ppo("Learning rate", "", "learning rate of the policy", digits=6)
    UPDATE = "update", _ppo("Updates", "updates", "updates so far", digits=0)
    EPISODE = "episode", _ppo("Episodes", "completions", "completions so far", digits=0)
    EPS = "eps", _ppo(
        "Completions per second", "per second", "completions of the update by its time", digits=1,
        trl="since the start of the run")
    SPEED = "tokens_per_second", _ppo(
        "Sampled tokens per second", "tokens/s", "sampled tokens of the update by its time", "speed", digits=0,
        trl=_ALONE)

    # -------------------- PPO: held-out prompts

    HELD_SCORES = "eval/scores", _held_out("Proxy score, held out", "score", "mean proxy score", "proxy", digits=3)
    CHECK = "eval/check", _held_out(
        "Check", "score", "mean of the judge: the gold score, or `ppo.check`", "check", digits=3,
        healthy="rises with the score")
    CHECK_ERROR = "eval/check_error", _held_out("Error of the check", "score", "its standard error", digits=3)
    CHECK_FALL_ERROR = "eval/check_fall_error", _held_out(
        "Error of the check's fall", "score",
        "standard error of its difference to the best before, paired by prompt", digits=3)
    HELD_KL = "eval/kl", _held_out("KL k1, held out", "nats per completion", "KL k1", "KL k1", "nats")
    HELD_LENGTH = "eval/length", _held_out("Length, held out", "tokens", "tokens per completion", digits=1)
    HELD_CLOSINGS = "eval/closings", _held_out(
        "Effective closing sentences, held out", "effective number", "effective number of closing sentences",
        digits=1)
    CLOSINGS_LEFT = "eval/closings_left", _held_out(
        "Closing sentences left", "share", "its share of the one before the first update", digits=0,
        healthy="above `diversity_floor`")

    # -------------------- sft and reward: Hugging Face's trainer

    STEP = "step", _trainer("Optimiser steps", "steps", "optimiser steps so far, in every row", digits=0)
    EPOCH = "epoch", _trainer("Epochs", "epochs", "passes over the data so far; of PPO, over the prompts")
    LOSS = "loss", _trainer("Loss", "", "mean training loss since the last row", digits=3, healthy="falls")
    LOSS_GRADIENT = "grad_norm", _trainer("Gradient norm", "", "gradient norm before clipping", healthy="no jumps")
    RATE = "learning_rate", _trainer("Learning rate", "", "learning rate", digits=6)
    TOKENS = "num_tokens", _trainer("Tokens", "tokens", "tokens trained on so far", digits=0)
    TOKEN_ENTROPY = "entropy", _trainer(
        "Entropy of the next token", "nats", "sft: entropy of the next token", healthy="falls, not to 0")
    TOKEN_ACCURACY = "mean_token_accuracy", _trainer(
        "Token accuracy", "share", "sft: next tokens that were the most probable one",
        healthy="rises")
    ACCURACY = "accuracy", _trainer(
        "Accuracy", "share",
        "reward: pairs whose chosen completion scores higher; of single completions, labels on "
        "their side of P(like) = 1/2",
        healthy="rises above one half; 1.00 for long is learning by heart")
    MARGIN = "margin", _trainer(
        "Margin", "score", "reward: chosen score less rejected score", digits=3, healthy="rises")
    LOWEST_SCORE = "min_reward", _trainer("Lowest score", "score", "reward: lowest score of a batch", digits=3)
    MEAN_SCORE = "mean_reward", _trainer(
        "Mean score", "score", "reward: mean score", digits=3, healthy="near 0 (`center_rewards_coefficient`)")
    HIGHEST_SCORE = "max_reward", _trainer("Highest score", "score", "reward: highest score of a batch", digits=3)
    TRAIN_LOSS = "train_loss", _trainer("Training loss", "", "mean loss of the run", digits=3)
    RUNTIME = "train_runtime", _trainer("Training time", "seconds", "time of the run", digits=1)
    SAMPLES_PER_SECOND = "train_samples_per_second", _trainer("Rows per second", "per second",
        "rows trained on per second")
    STEPS_PER_SECOND = "train_steps_per_second", _trainer("Steps per second", "per second",
        "optimiser steps per second")
    FLOS = "total_flos", _trainer("Operations", "", "floating-point operations of the run, estimated", digits=0)
    EVAL_LOSS = "eval_loss", _trainer(
        "Held-out loss", "", "sft: loss on held-out texts", digits=3,
        healthy="falls; rises where texts are learnt by heart")
    EVAL_ENTROPY = "eval_entropy", _trainer("Entropy, held out", "nats", "sft: `entropy` on held-out texts")
    EVAL_TOKEN_ACCURACY = "eval_mean_token_accuracy", _trainer(
        "Token accuracy, held out", "share", "sft: `mean_token_accuracy` on held-out texts")
    EVAL_TOKENS = "eval_num_tokens", _trainer("Tokens", "tokens", "sft: tokens trained on so far", digits=0)
    EVAL_RUNTIME = "eval_runtime", _trainer("Evaluation time", "seconds", "time of an evaluation", digits=1)
    EVAL_SAMPLES_PER_SECOND = "eval_samples_per_second", _trainer("Rows per second", "per second",
        "rows evaluated per second")
    EVAL_STEPS_PER_SECOND = "eval_steps_per_second", _trainer("Steps per second", "per second",
        "batches evaluated per second")
