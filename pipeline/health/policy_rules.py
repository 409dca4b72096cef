"""Is the arithmetic right, and is the policy still itself? Rules over ratio, KL, entropy, length and endings.

A rule sees the rows up to now and says whether it holds now. docs/doctor.md argues every threshold.
"""

from __future__ import annotations

import math
from statistics import median

from pipeline.health.figures import SURE, WINDOW, History, Move
from pipeline.health.findings import Facts, Rule, Seen
from pipeline.health.gold_rules import vindicated

# Before the first step: rounding is 1e-6 in fp32 and 0.01 in bf16; dropout or another temperature is more.
RATIO_OFF = 0.02
# k3 is a sum of exp(x) - 1 - x, which rounding alone can push below 0.
K3_ROUNDING = 1e-6
# Both: short completions spend more per token, long ones more in all. openai/lm-human-preferences aims at 6 nats
# in 24 tokens and at 18 in 75: a quarter of a nat per token.
KL_PER_TOKEN, KL_IN_ALL = 0.5, 10.0
KL_TIMES_TARGET = 2.0
# 0.1 nats per token: as sure as if it chose between 1.1 tokens.
ENTROPY_LEFT, ENTROPY_SHARE = 0.1, 0.2
# Share of 4-grams that were there before: hardly any in people's texts, 0.4 and more in loops.
REPEATED, REPEATED_MORE = 0.2, 0.1
LENGTH_TIMES, LENGTH_TOKENS = 1.5, 3.0
ENDED_LESS, ENDED_ONCE, ENDED_NONE = 0.2, 0.1, 0.02
# 0.01 to 0.2 is usual; of more, most of what the later epochs compute is thrown away.
CLIPPED = 0.3
# A mean score moves by at most its standard deviation times sqrt(2 KL): here by 0.045 of it.
STILL_FOR, STILL_KL = 16, 1e-3


def not_finite(h: History, facts: Facts) -> Seen | None:
    broken = [name for name, v in h.row.items() if isinstance(v, float) and not math.isfinite(v)]
    return Seen(f"Not a finite number: {', '.join(broken)}.", h.update) if broken else None


def ratio(h: History, facts: Facts) -> Seen | None:
    name = "val/ratio_first"
    first = h.now(name, 1)
    if first is None or abs(first - 1) <= RATIO_OFF:
        return None
    return Seen(
        f"The ratio to the policy that sampled is {first:.3f} before the first step, not 1.", h.since(name, 1)
    )


def negative_k3(h: History, facts: Facts) -> Seen | None:
    k3 = h.now("objective/kl_k3", 1)
    if k3 is None or k3 >= -K3_ROUNDING:
        return None
    return Seen(f"KL to the reference by the k3 estimate is {k3:.3g} nats.", h.since("objective/kl_k3", 1))


def negative_kl(h: History, facts: Facts) -> Seen | None:
    """A small KL is half the variance of the log-ratio: that says how far below 0 chance takes the k1 estimate."""
    k1, k3 = h.now("objective/kl"), h.now("objective/kl_k3")
    if k1 is None or k3 is None or not h.batch:
        return None
    by_k3 = math.sqrt(2 * max(k3, 0.0) / h.batch)
    error = 1.25 * max(by_k3, h.scatter("objective/kl")) / math.sqrt(WINDOW)
    if k1 >= -max(SURE * error, K3_ROUNDING):
        return None
    return Seen(
        f"KL to the reference is {k1:.3g} nats per completion by the k1 estimate; chance explains "
        f"{-SURE * error:.2g}. By k3 it is {k3:.3g}.",
        h.since("objective/kl"),
    )


def kl_runs_away(h: History, facts: Facts) -> Seen | None:
    per_token, total = h.now("objective/kl_per_token", 3), h.now("objective/kl", 3)
    if per_token is None or total is None:
        return None
    if per_token > KL_PER_TOKEN and total > KL_IN_ALL:
        what = f"KL to the reference is {total:.3g} nats per completion, {per_token:.2g} per token."
        return Seen(what, h.since("objective/kl", 3))
    kl = h.last("objective/kl", 2 * WINDOW)
    if facts.kl_target is None or not kl:
        return None
    before, now = median(kl[:WINDOW]), median(kl[WINDOW:])
    if now < before or before < KL_TIMES_TARGET * facts.kl_target:
        return None
    what = (
        f"KL to the reference is {now:.3g} nats per completion and still rises; kl_target is {facts.kl_target:g}."
    )
    return Seen(what, h.since("objective/kl", 2 * WINDOW))


def entropy_collapse(h: History, facts: Facts) -> Seen | None:
    move = h.moved("policy/entropy_avg")
    if move is None or move.now >= min(ENTROPY_LEFT, ENTROPY_SHARE * move.before) or vindicated(h):
        return None
    return Seen(
        f"The entropy of the next token fell from {move.before:.3g} to {move.now:.2g} nats.",
        h.since("policy/entropy_avg"),
    )


def repetition(h: History, facts: Facts) -> Seen | None:
    move = h.moved("text/repetition")
    if move is None or not move.rose or move.now < max(REPEATED, move.before + REPEATED_MORE):
        return None
    return Seen(
        f"{move.now:.0%} of a completion's 4-grams are there already earlier in it; {move.before:.0%} were at "
        "first.",
        h.since("text/repetition"),
    )


def length_drift(h: History, facts: Facts) -> Seen | None:
    move = h.moved("length/mean")
    if move is None or not (move.rose or move.fell) or vindicated(h):
        return None
    longer, shorter = max(move.now, move.before), min(move.now, move.before)
    if longer < LENGTH_TIMES * shorter or longer - shorter < LENGTH_TOKENS:
        return None
    return Seen(
        f"Completions went from {move.before:.1f} to {move.now:.1f} tokens, and no gold score or check rose with "
        "it.",
        h.since("length/mean"),
    )


def eos_falling(h: History, facts: Facts) -> Seen | None:
    move = _ends_less(h, facts)
    if move is None or move.before - move.now < ENDED_LESS:
        return None
    return Seen(
        f"{move.now:.0%} of the completions end by themselves; {move.before:.0%} did at first.",
        h.since("eos_rate"),
    )


def all_cut(h: History, facts: Facts) -> Seen | None:
    move = _ends_less(h, facts)
    if move is None or move.before < ENDED_ONCE or move.now > ENDED_NONE:
        return None
    return Seen(
        f"{1 - move.now:.0%} of the completions are cut at the longest length; {1 - move.before:.0%} were at "
        "first.",
        h.since("eos_rate"),
    )


def _ends_less(h: History, facts: Facts) -> Move | None:
    """The fall of a share, where it is more than chance. Near 1 it hardly scatters, so its error is a coin's."""
    move = h.moved("eos_rate")
    if not facts.stops or move is None or not h.batch:
        return None
    share = (move.before + move.now) / 2
    coin = 1.25 * math.sqrt(2 * abs(share * (1 - share)) / (WINDOW * h.batch))
    return move if move.before - move.now > SURE * max(move.error, coin) else None


def never_ends(h: History, facts: Facts) -> Seen | None:
    first, now = h.column("eos_rate").values[:WINDOW], h.last("eos_rate")
    if not facts.stops or not now or max(*first, *now) > ENDED_NONE:
        return None
    return Seen("From the first update on, all completions are cut at the longest length.", 1)


def clipped_often(h: History, facts: Facts) -> Seen | None:
    clipped = h.now("policy/clipfrac_avg")
    if clipped is None or clipped <= CLIPPED:
        return None
    return Seen(f"The ratio of {clipped:.0%} of the tokens is clipped.", h.since("policy/clipfrac_avg"))


def stands_still(h: History, facts: Facts) -> Seen | None:
    kl, rates = h.last("objective/kl_k3", STILL_FOR), h.last("lr", STILL_FOR)
    warming_up = bool(rates) and rates[-1] > rates[0]
    if not kl or max(map(abs, kl)) >= STILL_KL or warming_up or h.update < facts.value_warmup + STILL_FOR:
        return None
    rate = f" at a learning rate of {rates[0]:.2g}" if rates else ""
    return Seen(
        f"After {h.update} updates{rate} the policy is {max(map(abs, kl)):.1g} nats from the reference.",
        h.since("objective/kl_k3", STILL_FOR),
    )


RULES = (
    Rule(
        "not-finite",
        "serious",
        ("update",),
        not_finite,
        "One NaN spreads to every weight with the next step.",
        "Lower ppo.learning_rate, keep ppo.max_grad_norm, train in fp32 (ppo.bf16: false), and look at the scores "
        "of that batch.",
    ),
    Rule(
        "ratio-not-1",
        "serious",
        ("val/ratio_first",),
        ratio,
        "Before the first step the policy is the one that sampled. Where it gives other log-probabilities, every "
        "gradient is wrong.",
        "Set ppo.rescore: true. Look for dropout that is on, a temperature on one side only, padding that is "
        "seen.",
    ),
    Rule(
        "negative-k3",
        "serious",
        ("objective/kl_k3",),
        negative_k3,
        "This estimate cannot be negative, whatever is sampled: log-probabilities or mask are wrong.",
        "Check that both log-probabilities are of the same tokens, and that padding is left out.",
    ),
    Rule(
        "negative-kl",
        "serious",
        ("objective/kl", "objective/kl_k3", "episode"),
        negative_kl,
        "A KL is never negative, its estimate only by chance. Below 0 for long, completions do not come from the "
        "policy whose log-probabilities are taken, and the penalty has become a reward for that.",
        "Sample without top_k, top_p, minimum length or repetition penalty, and at the temperature of the "
        "log-probabilities.",
    ),
    Rule(
        "kl-runs-away",
        "serious",
        ("objective/kl", "objective/kl_per_token"),
        kl_runs_away,
        "So far from the reference, the reward model scores texts unlike any it has seen, and language goes.",
        "Lower ppo.learning_rate first; then raise ppo.kl_coef, or set ppo.kl_target. ppo.kl_budget ends such a "
        "run at the last policy within.",
    ),
    Rule(
        "entropy-collapse",
        "serious",
        ("policy/entropy_avg",),
        entropy_collapse,
        "The policy writes nearly the same whatever is drawn: nothing new is tried, so nothing more is learnt.",
        "Read the rollouts. Lower ppo.learning_rate, raise ppo.kl_coef, or set ppo.entropy_coef: 0.01.",
    ),
    Rule(
        "repetition",
        "serious",
        ("text/repetition",),
        repetition,
        "Loops are what a policy finds where the reward adds up over tokens or likes one phrase.",
        "Read the rollouts. Raise ppo.kl_coef, and label comparisons sampled from this policy "
        "(collect.inputs.policy), so that the reward model learns to reject loops.",
    ),
    Rule(
        "length-drift",
        "watch",
        ("length/mean",),
        length_drift,
        "Reward models like length for its own sake, and then longer is all that is learnt; or shorter.",
        "Compare scores at equal length (the report has the picture). Add a reward against it in ppo.reward, set "
        "ppo.missing_eos_penalty, or raise ppo.kl_coef.",
    ),
    Rule(
        "eos-falling",
        "watch",
        ("eos_rate", "episode"),
        eos_falling,
        "The policy unlearns to end. A completion that is cut is scored in the middle of a sentence.",
        "Set ppo.missing_eos_penalty to about the spread of the scores, or raise ppo.response_length.",
    ),
    Rule(
        "all-cut",
        "serious",
        ("eos_rate", "episode"),
        all_cut,
        "Every score is now that of a text cut in the middle; the reward model has not learnt what those are "
        "worth.",
        "Start anew with ppo.missing_eos_penalty at about the spread of the scores, or a longer "
        "ppo.response_length.",
    ),
    Rule(
        "never-ends",
        "watch",
        ("eos_rate",),
        never_ends,
        "Either the base never learnt to end, or the longest length is too short for it.",
        "Train sft on texts that end with the end token, or raise ppo.response_length. Where completions are to "
        "be cut, say so: ppo.stop_token: null.",
    ),
    Rule(
        "clipped-often",
        "watch",
        ("policy/clipfrac_avg",),
        clipped_often,
        "Steps are too large for the batch they were computed on; what is clipped teaches nothing.",
        "Lower ppo.learning_rate, take fewer ppo.num_ppo_epochs or larger batches, or set ppo.target_kl: 0.02.",
    ),
    Rule(
        "policy-stands-still",
        "watch",
        ("objective/kl_k3",),
        stands_still,
        "Nothing is being learnt: so near, no mean score has moved by more than a twentieth of its spread.",
        "Raise ppo.learning_rate (LoRA takes 1e-4 to 1e-3; TRL's default of 3e-6 is for whole models), or lower "
        "ppo.kl_coef.",
    ),
)
