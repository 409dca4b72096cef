"""Is it still varied, and what spreads? Rules over what a run writes.

Entropy per token hardly moves while all texts come to end in one sentence: in the run that these rules come from
it went from 1.37 to 1.32 nats, and of 56 effective closing sentences 3 were left. docs/doctor.md argues every
threshold.
"""

from __future__ import annotations

from pipeline.health.figures import Figures
from pipeline.health.findings import Facts, Rule, Seen
from pipeline.health.gold_rules import judged, over_optimised, vindicated
from pipeline.health.written_texts import Held
from pipeline.results.metrics import Logged
from pipeline.texts.collapse import HALF, NGRAMS_LEFT, QUARTER, number, percent

# A policy that leaves out all that is bad in its base's language keeps about half; a third is another language.
NGRAMS_GONE = 1 / 3
# Where completions cannot be read: four standard errors of the share of 256 that end alike.
ENDS_MORE = 0.15
# Sentences of a completion, below which most are one.
ONE_SENTENCE = 1.5
QUOTED = 80


def sentences_collapse(figures: Figures, facts: Facts) -> Seen | None:
    """By the rule of :mod:`pipeline.texts.collapse` where completions can be read; else by its limits alone."""
    if _may_be_answers(figures):
        return None
    if figures.window is not None:
        if figures.window.collapse is None:
            return None
        name = Logged.CLOSINGS if figures.window.collapse.place == "end" else Logged.OPENINGS
        scores = _scores(figures.window.closing, "that end so") if name == Logged.CLOSINGS else ""
        what = f"Of the latest {figures.window.n} completions: {figures.window.collapse}.{scores}"
        return Seen(what, _below(figures, name, HALF))
    since, share, ngrams = (
        _below(figures, Logged.CLOSINGS, HALF),
        figures.now(Logged.COMMON_CLOSING, 1) or 0.0,
        _left(figures, Logged.TRIGRAMS),
    )
    rise = share - (figures.first(Logged.COMMON_CLOSING) or 0.0)
    if since is None or share < QUARTER or rise < ENDS_MORE or (ngrams is not None and ngrams > NGRAMS_LEFT):
        return None
    before, now = figures.first(Logged.CLOSINGS) or 0.0, figures.now(Logged.CLOSINGS, 1) or 0.0
    return Seen(
        f"{number(now)} effective closing sentences, {number(before)} before; {percent(share)} of the completions "
        "end alike.",
        since,
    )


def ngrams_collapse(figures: Figures, facts: Facts) -> Seen | None:
    since = _below(figures, Logged.TRIGRAMS, NGRAMS_GONE)
    if since is None or _may_be_answers(figures):
        return None
    before, now = figures.first(Logged.TRIGRAMS) or 0.0, figures.now(Logged.TRIGRAMS, 1) or 0.0
    return Seen(f"{number(now)} effective runs of three words, of as many; {number(before)} before.", since)


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
    """Whether few different texts may be what the task asks for: a walk, a label, a number.

    Completions of one sentence are then answers, of which a task may have few right ones. A gold score or check
    that rises says that these are; as long as there is too little of it to tell, nothing is said.
    """
    pieces, gold = figures.first(Logged.SENTENCES), figures.moved(Logged.GOLD)
    if pieces is None or pieces >= ONE_SENTENCE:
        return False
    rises = gold is not None and gold.now - gold.before > gold.error and over_optimised(figures, Facts()) is None
    return rises or vindicated(figures) or judged(figures) is None


def _left(figures: Figures, name: str) -> float | None:
    first, now = figures.first(name), figures.now(name, 1)
    return now / first if first and now is not None else None


def _below(figures: Figures, name: str, share: float) -> int | None:
    """Since when a figure is below a share of its first value."""
    first = figures.first(name)
    return None if first is None else figures.holding_since(name, lambda value: value < share * first)


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
        "Publish the policy of before: ppo.diversity_floor: 0.5 (with ppo.eval_strategy: steps) ends a run there. "
        "Collect comparisons sampled from this policy (collect.inputs.policy), train the reward model on both and "
        "PPO anew from the base; or take the sentence's worth away: pipeline.modeling.novelty in ppo.reward.",
        keeps_up=True,
    ),
    Rule(
        "ngrams-collapse",
        "serious",
        (Logged.TRIGRAMS,),
        ngrams_collapse,
        "Most of what the base could say is no longer said, whatever the prompt.",
        "Read the rollouts. Lower ppo.learning_rate, raise ppo.kl_coef, set ppo.diversity_floor: 0.5, or add "
        "pipeline.modeling.novelty:trigrams to ppo.reward.",
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
