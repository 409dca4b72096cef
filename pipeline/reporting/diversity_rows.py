"""Tables of diversity: measures with intervals, the most common sentences, best-of-n beside PPO."""

from __future__ import annotations

from pipeline.reporting.run_tables import Row, Table, basis
from pipeline.results.diversity import CommonSentence, Diversity, EffectiveNumber, ExpectedVariety
from pipeline.statistics.intervals import WILSON, Estimate, has_value
from pipeline.statistics.spelling import UNKNOWN, interval
from pipeline.texts.collapse import number as effective
from pipeline.texts.collapse import percent

EMPTY = "(empty)"
RECURS = 1.5
"""Completions with a sentence, from its share, above which it is there twice."""


def measure_rows(diversity: Diversity | None) -> list[Row]:
    """Effective numbers, shares of the most common sentences, and similarities, of base and policy."""
    if diversity is None:
        return []
    completions, meaning = f"of {diversity.completions} completions", diversity.by_meaning
    rows = [
        _effective(f"Effective closing sentences, {completions}", diversity.closings),
        _effective(f"Effective first sentences, {completions}", diversity.openings),
    ]
    if ngrams := diversity.ngrams:
        rows.append(_effective(f"Effective word triples, of {ngrams.at} on each side", ngrams))
    if patterns := diversity.patterns:
        rows.append(_effective(f"Effective patterns, of {patterns.at} sentences on each side", patterns))
    for label, sentences in (
        ("Most common closing sentence (share)", diversity.closing),
        ("Most common first sentence (share)", diversity.opening),
        ("Most common sentence anywhere (share)", diversity.sentence),
    ):
        base, policy = sentences["base"], sentences["policy"]
        note = f"PPO: {most_common(policy)}; base: {most_common(base)}"
        rows.append((label, interval(base.share), interval(policy.share), note, basis(policy.share, WILSON)))
    if pattern := diversity.pattern:
        base, policy = pattern["base"], pattern["policy"]
        note = f"PPO: {most_common(policy)}; base: {most_common(base)}"
        label = "Most common pattern (share of sentences)"
        rows.append((label, interval(base.share), interval(policy.share), note, basis(policy.share)))
    for label, change in (
        ("Similarity of two completions of one prompt (0..1)", diversity.similar_within),
        ("Similarity of completions of different prompts (0..1)", diversity.similar_across),
        ("Similarity by meaning, one prompt (cosine)", meaning and meaning.embedding_within),
        ("Similarity by meaning, different prompts (cosine)", meaning and meaning.embedding_across),
    ):
        if change is not None:
            cells = interval(change.base), interval(change.policy), interval(change.difference, signed=True)
            rows.append((label, *cells, basis(change.policy)))
    return rows


def note(diversity: Diversity | None) -> str:
    """How to read the measures."""
    if diversity is None:
        return ""
    seen = diversity.closings.coverage
    text = (
        "An effective number is exp(entropy): so many equally frequent sentences would be as varied. It is of as "
        "many completions on both sides, and at most that many: of the closing sentences that each writes, these "
        f"have seen {percent(seen['base'])} (base) and {percent(seen['policy'])} (PPO). Sentences that differ "
        "only in case, quotes or end marks are one. Similarity: shared word pairs (Dice)."
    )
    if diversity.patterns:
        text += (
            " A pattern keeps a sentence's words that are the base's most frequent ones; … is any run of others."
        )
    if diversity.embedding_model:
        text += f" By meaning: {diversity.embedding_model}."
    return f"{text} {diversity.words}" if diversity.words else text


def sentence_table(diversity: Diversity | None) -> Table | None:
    """The closing sentences that are most common on either side, with its shares; None where none recurs."""
    if diversity is None:
        return None
    common = [s for s in diversity.common if max(s.base.value, s.policy.value) * diversity.completions > RECURS]
    if not common:
        return None
    rows = [(quoted(row.text), interval(row.base), interval(row.policy)) for row in common]
    note = (
        f"Share of completions that end in it; n = {diversity.prompts}, {WILSON}. The five most common ones of "
        "each side that are there twice."
    )
    return Table("Most common closing sentences", ("closing sentence", "base", "PPO"), rows, note, compact=True)


def best_of_n_table(diversity: Diversity | None) -> Table | None:
    """Closing sentences of the base, best-of-n and PPO, at one completion of each prompt."""
    beside = diversity and diversity.best_of_n
    if not beside:
        return None
    names = ["base", *(f"best of {row.n}" for row in beside.rows[1:]), "PPO"]
    rows = [
        (
            *(
                name,
                _number(row.closings),
                interval(row.ratio),
                percent(row.closing.share),
                quoted(row.closing.text),
            ),
            *_pattern_cells(row),
        )
        for name, row in zip(names, [*beside.rows, beside.policy], strict=True)
    ]
    head = (
        *("completions", "effective closing sentences", "over the base's", "most common one", "which is"),
        *("effective patterns", "over the base's", "most common one"),
    )
    note = (
        f"What one completion of each of {beside.prompts} prompts is expected to show, {beside.prompts} at "
        "most; of patterns, one of its sentences; intervals: bootstrap over these prompts."
    )
    return Table("Closing sentences and patterns, PPO beside best-of-n", head, rows, note)


def _pattern_cells(row: ExpectedVariety) -> tuple[str, str, str]:
    if row.patterns is None or row.patterns_ratio is None or row.pattern is None:
        return UNKNOWN, UNKNOWN, UNKNOWN
    common = f"{percent(row.pattern.share)} {quoted(row.pattern.text)}"
    return _number(row.patterns), interval(row.patterns_ratio), common


def most_common(sentence: CommonSentence) -> str:
    """The sentence, unless no other is rarer."""
    return quoted(sentence.text) if sentence.count > 1 else "none is there twice"


def quoted(text: str) -> str:
    """A sentence in quotes, cut to 90 characters."""
    if not text:
        return EMPTY
    return f"“{text}”" if len(text) <= 90 else f"“{text[:89].rstrip()}…”"


def _effective(label: str, counted: EffectiveNumber) -> Row:
    sides = _number(counted.base), _number(counted.policy)
    return label, *sides, f"× {interval(counted.ratio)}", basis(counted.policy)


def _number(estimate: Estimate) -> str:
    """``83 [79, 88]``, with a decimal where it is small."""
    if not has_value(estimate):
        return UNKNOWN
    value = estimate.value
    return interval(estimate, 1 if value < 9.95 else 0) if estimate.has_limits else effective(value)
