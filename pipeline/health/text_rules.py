"""Rules on the completions: their variety, and sentences or phrases that spread.

Entropy per token does not show a collapse: in one run it went from 1.37 to 1.32 nats while 56 effective closing
sentences became 3. docs/doctor.md argues every threshold.
"""

from __future__ import annotations

from pipeline.health.figures import Figures
from pipeline.health.findings import Facts, Rule, Seen
from pipeline.health.gold_rules import judged, over_optimised, vindicated
from pipeline.health.written_texts import Held
from pipeline.results.metrics import Logged
from pipeline.texts.collapse import (
    HALF,
    NGRAMS_LEFT,
    ONE_SENTENCE,
    PATTERN_SHARE,
    PATTERNS_LEFT,
    QUARTER,
    number,
    percent,
)

# A policy that avoids everything bad keeps about half of its base's n-grams; a third is another language.
NGRAMS_GONE = 1 / 3
# Without completions: at least 4.8 standard errors of a share of 256 (4.8 at a share of one half).
ENDS_MORE = 0.15
QUOTED = 80


def sentences_collapse(figures: Figures, facts: Facts) -> Seen | None:
    """Apply the rule of :mod:`pipeline.texts.collapse`; without completions, only its limits."""
    if _may_be_answers(figures):
        return None
    if figures.window is not None:
        if figures.window.collapse is None:
            return None
        name = Logged.CLOSINGS if figures.window.collapse.place == "end" else Logged.OPENINGS
        scores = _scores(figures.window.closing, "that end so") if name == Logged.CLOSINGS else ""
        what = f"Of the latest {figures.window.n} completions: {figures.window.collapse}.{scores}"
        return Seen(what, _below(figures, name, HALF))
    since, ngrams = _below(figures, Logged.CLOSINGS, HALF), _left(figures, Logged.TRIGRAMS)
    share = _grown(figures, Logged.COMMON_CLOSING, QUARTER)
    if since is None or share is None or (ngrams is not None and ngrams > NGRAMS_LEFT):
        return None
    fewer = _fewer(figures, Logged.CLOSINGS, "effective closing sentences")
    return Seen(f"{fewer}; {percent(share)} of the completions end alike.", since)


def ngrams_collapse(figures: Figures, facts: Facts) -> Seen | None:
    since = _below(figures, Logged.TRIGRAMS, NGRAMS_GONE)
    if since is None or _may_be_answers(figures):
        return None
    before, now = figures.first(Logged.TRIGRAMS) or 0.0, figures.now(Logged.TRIGRAMS, 1) or 0.0
    return Seen(f"{number(now)} effective runs of three words, of as many; {number(before)} before.", since)


def patterns_collapse(figures: Figures, facts: Facts) -> Seen | None:
    """Apply the rule of :mod:`pipeline.texts.collapse` to patterns; without completions, only its limits.

    Where the run itself shows nothing, the evaluation may: it compares with the base, from which a run that began
    with an earlier policy has come further.
    """
    since = _below(figures, Logged.PATTERNS, PATTERNS_LEFT)
    if figures.window is not None and (seen := figures.window.one_pattern) is not None:
        return Seen(f"Of the sentences of the latest {figures.window.n} completions: {seen}.", since)
    if facts.one_pattern is not None:
        return Seen(f"In the evaluation, beside the base: {facts.one_pattern}.")
    share = _grown(figures, Logged.COMMON_PATTERN, PATTERN_SHARE)
    answers = (figures.now(Logged.SENTENCES, 1) or ONE_SENTENCE) < ONE_SENTENCE
    if figures.window is not None or since is None or answers or share is None:
        return None
    fewer = _fewer(figures, Logged.PATTERNS, "effective patterns of sentences")
    return Seen(f"{fewer}; {percent(share)} of the sentences are of one.", since)


def phrase_spreads(figures: Figures, facts: Facts) -> Seen | None:
    since = figures.holding_since(Logged.SPREAD, lambda gained: gained >= Logged.SPREAD.about.high)
    if since is None or _may_be_answers(figures):
        return None
    if figures.window is None:
        gained = percent(figures.now(Logged.SPREAD, 1) or 0.0)
        return Seen(f"One sentence or phrase is in {gained} more of the completions than before.", since)
    spread = figures.window.spread
    return Seen(
        f'"{_cut(spread.text)}" is in {percent(spread.share)} of the latest {figures.window.n} completions, in '
        f"{percent(spread.before)} of the first.{_scores(spread, 'with it')}",
        since,
    )


def _may_be_answers(figures: Figures) -> bool:
    """Whether completions are one-sentence answers, of which a task may have few right ones: a label, a number.

    They may be where the gold score or check rises, or has too few values yet.
    """
    count, gold = figures.first(Logged.SENTENCES), figures.moved(Logged.GOLD)
    if count is None or count >= ONE_SENTENCE:
        return False
    rises = gold is not None and gold.now - gold.before > gold.error and over_optimised(figures, Facts()) is None
    return rises or vindicated(figures, Facts()) or judged(figures) is None


def _left(figures: Figures, name: str) -> float | None:
    first, now = figures.first(name), figures.now(name, 1)
    return now / first if first and now is not None else None


def _below(figures: Figures, name: str, share: float) -> int | None:
    """The update since which a figure is below a share of its first value."""
    first = figures.first(name)
    return None if first is None else figures.holding_since(name, lambda value: value < share * first)


def _grown(figures: Figures, name: str, least: float) -> float | None:
    """The share of what is most common, where it is at least ``least`` and :data:`ENDS_MORE` above its first."""
    share = figures.now(name, 1) or 0.0
    return None if share < least or share - (figures.first(name) or 0.0) < ENDS_MORE else share


def _fewer(figures: Figures, name: str, things: str) -> str:
    before, now = figures.first(name) or 0.0, figures.now(name, 1) or 0.0
    return f"{number(now)} {things}, {number(before)} before"


def _scores(held: Held, which: str) -> str:
    others = "" if held.score_without is None else f", the others {held.score_without:.2f}"
    return f" Those {which} score {held.score_with:.2f} on average{others}."


def _cut(text: str) -> str:
    return text if len(text) <= QUOTED else text[: QUOTED - 1].rstrip() + "…"


RULES = (
    Rule(
        "sentences-collapse",
        "serious",
        (Logged.CLOSINGS,),
        sentences_collapse,
        "The policy has found a sentence that the reward likes and writes it to every prompt. The score rises, "
        "entropy per token hardly moves, and a reader sees one text again and again.",
        "Publish an earlier policy: ppo.diversity_floor: 0.5 (with ppo.eval_strategy: steps) ends a run there. "
        "Collect comparisons sampled from this policy (collect.inputs.policy), train the reward model on both, "
        "and run PPO again from the base; or devalue repeated sentences: pipeline.modeling.novelty in ppo.reward.",
        keeps_up=True,
    ),
    Rule(
        "ngrams-collapse",
        "serious",
        (Logged.TRIGRAMS,),
        ngrams_collapse,
        "The policy no longer writes most of what the base could say, for any prompt.",
        "Read the rollouts. Lower ppo.learning_rate, raise ppo.kl_coef, set ppo.diversity_floor: 0.5, or add "
        "pipeline.modeling.novelty:trigrams to ppo.reward.",
        keeps_up=True,
    ),
    Rule(
        "patterns-collapse",
        "serious",
        (f"{Logged.PATTERNS}|one_pattern",),
        patterns_collapse,
        "The policy writes sentences that all differ and are all of one form. Counts of sentences and phrases "
        "look varied, a reader sees one text again and again.",
        "Read the rollouts. Raise ppo.kl_coef or end the run earlier (ppo.kl_budget, ppo.total_episodes). What "
        "pays for short texts drives it too: ppo.gamma nearer to 1, a smaller penalty on length.",
        keeps_up=True,
    ),
    Rule(
        "phrase-spreads",
        "watch",
        (Logged.SPREAD,),
        phrase_spreads,
        "What spreads is what the reward pays for. Is it what you want, or what the reward model mistakes for it?",
        "Read completions with it, and score a few texts by hand, with it and without. If it is a mistake, label "
        "comparisons that show it (collect.inputs.policy).",
        keeps_up=True,
    ),
)
