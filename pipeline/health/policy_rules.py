"""Rules on the policy: ratio, KL, entropy, repetition, length and endings.

The limits of metrics are in the catalogue (:mod:`pipeline.results.metrics`), other thresholds here. docs/doctor.md
argues each.
"""

from __future__ import annotations

import math
from statistics import median

from pipeline.health.figures import SURE, WINDOW, Figures, Move
from pipeline.health.findings import Facts, Rule, Seen
from pipeline.health.gold_rules import vindicated
from pipeline.results.metrics import Logged

KL_TIMES_TARGET = 2.0
ENTROPY_SHARE = 0.2
REPEATED_MORE = 0.1
LENGTH_TIMES, LENGTH_TOKENS = 1.5, 3.0
ENDED_LESS, ENDED_ONCE, ENDED_NONE = 0.2, 0.1, 0.02
# At KL 1e-3 a mean score has moved by at most sqrt(2 KL) = 0.045 standard deviations.
STILL_FOR, STILL_KL = 16, 1e-3


def not_finite(figures: Figures, facts: Facts) -> Seen | None:
    broken = [name for name, v in figures.row.items() if isinstance(v, float) and not math.isfinite(v)]
    return Seen(f"Not a finite number: {', '.join(broken)}.", figures.update) if broken else None


def ratio(figures: Figures, facts: Facts) -> Seen | None:
    first = figures.now(Logged.RATIO_FIRST, 1)
    if first is None or Logged.RATIO_FIRST.allows(first):
        return None
    what = f"The ratio to the policy that sampled is {first:.3f} before the first step, not 1."
    return Seen(what, figures.since(Logged.RATIO_FIRST, 1))


def negative_k3(figures: Figures, facts: Facts) -> Seen | None:
    k3 = figures.now(Logged.KL_K3, 1)
    if k3 is None or Logged.KL_K3.allows(k3):
        return None
    return Seen(f"KL to the reference by the k3 estimate is {k3:.3g} nats.", figures.since(Logged.KL_K3, 1))


def negative_kl(figures: Figures, facts: Facts) -> Seen | None:
    """A small KL is half the variance of the log-ratio, which gives the standard error of the k1 estimate."""
    k1, k3 = figures.now(Logged.KL), figures.now(Logged.KL_K3)
    if k1 is None or k3 is None or not figures.batch:
        return None
    by_k3 = math.sqrt(2 * max(k3, 0.0) / figures.batch)
    error = 1.25 * max(by_k3, figures.scatter(Logged.KL)) / math.sqrt(WINDOW)
    if k1 >= min(-SURE * error, Logged.KL_K3.about.low):
        return None
    return Seen(
        f"KL to the reference is {k1:.3g} nats per completion by the k1 estimate; chance explains "
        f"{-SURE * error:.2g}. By k3 it is {k3:.3g}.",
        figures.since(Logged.KL),
    )


def kl_runs_away(figures: Figures, facts: Facts) -> Seen | None:
    per_token, total = figures.now(Logged.KL_PER_TOKEN, 3), figures.now(Logged.KL, 3)
    if per_token is None or total is None:
        return None
    # Both limits: short completions have more KL per token, long ones more in total.
    if not Logged.KL_PER_TOKEN.allows(per_token) and not Logged.KL.allows(total):
        what = f"KL to the reference is {total:.3g} nats per completion, {per_token:.2g} per token."
        return Seen(what, figures.since(Logged.KL, 3))
    kl = figures.last(Logged.KL, 2 * WINDOW)
    if facts.kl_target is None or not kl:
        return None
    before, now = median(kl[:WINDOW]), median(kl[WINDOW:])
    if now < before or before < KL_TIMES_TARGET * facts.kl_target:
        return None
    what = (
        f"KL to the reference is {now:.3g} nats per completion and still rises; kl_target is {facts.kl_target:g}."
    )
    return Seen(what, figures.since(Logged.KL, 2 * WINDOW))


def entropy_collapse(figures: Figures, facts: Facts) -> Seen | None:
    move = figures.moved(Logged.ENTROPY)
    if move is None or vindicated(figures, facts):
        return None
    if move.now >= min(Logged.ENTROPY.about.low, ENTROPY_SHARE * move.before):
        return None
    what = f"The entropy of the next token fell from {move.before:.3g} to {move.now:.2g} nats."
    return Seen(what, figures.since(Logged.ENTROPY))


def repetition(figures: Figures, facts: Facts) -> Seen | None:
    move = figures.moved(Logged.REPETITION)
    if move is None or not move.rose or move.now < max(Logged.REPETITION.about.high, move.before + REPEATED_MORE):
        return None
    return Seen(
        f"{move.now:.0%} of a completion's 4-grams are there already earlier in it; {move.before:.0%} were at "
        "first.",
        figures.since(Logged.REPETITION),
    )


def length_drift(figures: Figures, facts: Facts) -> Seen | None:
    move = figures.moved(Logged.LENGTH)
    if move is None or not (move.rose or move.fell) or vindicated(figures, facts):
        return None
    longer, shorter = max(move.now, move.before), min(move.now, move.before)
    if longer < LENGTH_TIMES * shorter or longer - shorter < LENGTH_TOKENS:
        return None
    return Seen(
        f"Completions went from {move.before:.1f} to {move.now:.1f} tokens, and no gold score or check rose with "
        "it.",
        figures.since(Logged.LENGTH),
    )


def eos_falling(figures: Figures, facts: Facts) -> Seen | None:
    move = _ends_less(figures, facts)
    if move is None or move.before - move.now < ENDED_LESS:
        return None
    what = f"{move.now:.0%} of the completions end by themselves; {move.before:.0%} did at first."
    return Seen(what, figures.since(Logged.ENDED))


def all_cut(figures: Figures, facts: Facts) -> Seen | None:
    move = _ends_less(figures, facts)
    if move is None or move.before < ENDED_ONCE or move.now > ENDED_NONE:
        return None
    now, before = 1 - move.now, 1 - move.before
    what = f"{now:.0%} of the completions are cut at the longest length; {before:.0%} were at first."
    return Seen(what, figures.since(Logged.ENDED))


def _ends_less(figures: Figures, facts: Facts) -> Move | None:
    """The fall in completions that end, where significant, also by the binomial error."""
    move = figures.moved(Logged.ENDED)
    if not facts.stops or move is None or not figures.batch:
        return None
    share = (move.before + move.now) / 2
    coin = 1.25 * math.sqrt(2 * abs(share * (1 - share)) / (WINDOW * figures.batch))
    return move if move.before - move.now > SURE * max(move.error, coin) else None


def never_ends(figures: Figures, facts: Facts) -> Seen | None:
    first, now = figures.column(Logged.ENDED).values[:WINDOW], figures.last(Logged.ENDED)
    if not facts.stops or not now or max(*first, *now) > ENDED_NONE:
        return None
    return Seen("From the first update on, all completions are cut at the longest length.", 1)


def clipped_often(figures: Figures, facts: Facts) -> Seen | None:
    clipped = figures.now(Logged.CLIPPED)
    if clipped is None or Logged.CLIPPED.allows(clipped):
        return None
    return Seen(f"The ratio of {clipped:.0%} of the tokens is clipped.", figures.since(Logged.CLIPPED))


def stands_still(figures: Figures, facts: Facts) -> Seen | None:
    kl, rates = figures.last(Logged.KL_K3, STILL_FOR), figures.last(Logged.LR, STILL_FOR)
    warming_up = bool(rates) and rates[-1] > rates[0]
    if not kl or max(map(abs, kl)) >= STILL_KL or warming_up or figures.update < facts.value_warmup + STILL_FOR:
        return None
    rate = f" at a learning rate of {rates[0]:.2g}" if rates else ""
    what = f"After {figures.update} updates{rate} the policy is {max(map(abs, kl)):.1g} nats from the reference."
    return Seen(what, figures.since(Logged.KL_K3, STILL_FOR))


RULES = (
    Rule(
        "not-finite",
        "serious",
        (Logged.UPDATE,),
        not_finite,
        "One NaN spreads to every weight with the next step.",
        "Lower ppo.learning_rate, keep ppo.max_grad_norm, train in fp32 (ppo.bf16: false), and look at the scores "
        "of that batch.",
    ),
    Rule(
        "ratio-not-1",
        "serious",
        (Logged.RATIO_FIRST,),
        ratio,
        "Before the first step the policy is the one that sampled. Where it gives other log-probabilities, every "
        "gradient is wrong.",
        "Set ppo.rescore: true. Look for dropout that is on, a temperature on one side only, padding that is "
        "seen.",
    ),
    Rule(
        "negative-k3",
        "serious",
        (Logged.KL_K3,),
        negative_k3,
        "This estimate cannot be negative, whatever is sampled: log-probabilities or mask are wrong.",
        "Check that both log-probabilities are of the same tokens, and that padding is left out.",
    ),
    Rule(
        "negative-kl",
        "serious",
        (Logged.KL, Logged.KL_K3, Logged.EPISODE),
        negative_kl,
        "A KL is never negative, its estimate only by chance. Below 0 for long, completions do not come from the "
        "policy whose log-probabilities are taken, and the penalty has become a reward for that.",
        "Sample without top_k, top_p, minimum length or repetition penalty, and at the temperature of the "
        "log-probabilities.",
    ),
    Rule(
        "kl-runs-away",
        "serious",
        (Logged.KL, Logged.KL_PER_TOKEN),
        kl_runs_away,
        "So far from the reference, the reward model scores texts unlike any it has seen, and language goes.",
        "Lower ppo.learning_rate first; then raise ppo.kl_coef, or set ppo.kl_target. ppo.kl_budget ends such a "
        "run at the last policy within.",
    ),
    Rule(
        "entropy-collapse",
        "serious",
        (Logged.ENTROPY,),
        entropy_collapse,
        "The policy writes nearly the same whatever is drawn: nothing new is tried, so nothing more is learnt.",
        "Read the rollouts. Lower ppo.learning_rate, raise ppo.kl_coef, or set ppo.entropy_coef: 0.01.",
    ),
    Rule(
        "repetition",
        "serious",
        (Logged.REPETITION,),
        repetition,
        "Loops are what a policy finds where the reward adds up over tokens or likes one phrase.",
        "Read the rollouts. Raise ppo.kl_coef, and label comparisons sampled from this policy "
        "(collect.inputs.policy), so that the reward model learns to reject loops.",
    ),
    Rule(
        "length-drift",
        "watch",
        (Logged.LENGTH,),
        length_drift,
        "Reward models like length for its own sake, and then longer is all that is learnt; or shorter.",
        "Compare scores at equal length (the report has the picture). Add a reward against it in ppo.reward, set "
        "ppo.missing_eos_penalty, or raise ppo.kl_coef.",
    ),
    Rule(
        "eos-falling",
        "watch",
        (Logged.ENDED, Logged.EPISODE),
        eos_falling,
        "The policy unlearns to end. A completion that is cut is scored in the middle of a sentence.",
        "Set ppo.missing_eos_penalty to about the spread of the scores, or raise ppo.response_length.",
    ),
    Rule(
        "all-cut",
        "serious",
        (Logged.ENDED, Logged.EPISODE),
        all_cut,
        "Every score is now that of a text cut in the middle; the reward model has not learnt what those are "
        "worth.",
        "Start again with ppo.missing_eos_penalty at about the spread of the scores, or a longer "
        "ppo.response_length.",
    ),
    Rule(
        "never-ends",
        "watch",
        (Logged.ENDED,),
        never_ends,
        "Either the base never learnt to end, or the longest length is too short for it.",
        "Train sft on texts that end with the end token, or raise ppo.response_length. Where completions are to "
        "be cut, say so: ppo.stop_token: null.",
    ),
    Rule(
        "clipped-often",
        "watch",
        (Logged.CLIPPED,),
        clipped_often,
        "Steps are too large for the batch they were computed on; what is clipped teaches nothing.",
        "Lower ppo.learning_rate, take fewer ppo.num_ppo_epochs or larger batches, or set ppo.target_kl: 0.02.",
    ),
    Rule(
        "policy-stands-still",
        "watch",
        (Logged.KL_K3,),
        stands_still,
        "Nothing is being learnt: so near, no mean score has moved by more than a twentieth of its spread.",
        "Raise ppo.learning_rate (LoRA takes 1e-4 to 1e-3; TRL's default of 3e-6 is for whole models), or lower "
        "ppo.kl_coef.",
    ),
)
