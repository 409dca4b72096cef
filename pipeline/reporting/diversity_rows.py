"""What a page says of diversity, as text: measures with intervals, the sentences by name, best-of-n beside PPO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.reporting.run_tables import Row, Stats, Table, basis
from pipeline.statistics.intervals import WILSON
from pipeline.statistics.spelling import UNKNOWN, dig, interval
from pipeline.texts.collapse import number as effective
from pipeline.texts.collapse import percent

EMPTY = "(empty)"


def measure_rows(stats: Stats | None) -> list[Row]:
    """Effective numbers, the most common sentences' shares and similarities, base beside policy."""
    found = dig(stats, "diversity")
    if not found:
        return []
    rows = [
        *_effective(found, "closings", "Effective closing sentences", f"of {found['completions']} completions"),
        *_effective(found, "openings", "Effective first sentences", f"of {found['completions']} completions"),
        *_effective(found, "ngrams", "Effective word triples", f"of {dig(found, 'ngrams', 'at')} on each side"),
    ]
    for key, label in (
        ("closing", "Most common closing sentence (share)"),
        ("opening", "Most common first sentence (share)"),
        ("sentence", "Most common sentence anywhere (share)"),
    ):
        base, policy = (dig(found, key, side) for side in ("base", "policy"))
        note = f"PPO: {quoted(policy['text'])}; base: {quoted(base['text'])}"
        shares = (interval(base["share"]), interval(policy["share"]))
        rows.append((label, *shares, note, basis(policy["share"], WILSON)))
    for key, label in (
        ("similar_within", "Similarity of two completions of one prompt (0..1)"),
        ("similar_across", "Similarity of completions of different prompts (0..1)"),
        ("embedding_within", "Similarity by meaning, one prompt (cosine)"),
        ("embedding_across", "Similarity by meaning, different prompts (cosine)"),
    ):
        if known := dig(found, key):
            cells = (
                interval(known["base"]),
                interval(known["policy"]),
                interval(known["difference"], signed=True),
            )
            rows.append((label, *cells, basis(known["policy"])))
    return rows


def note(stats: Stats | None) -> str:
    """How the measures are to be read."""
    found = dig(stats, "diversity")
    if not found:
        return ""
    seen = dig(found, "closings", "coverage")
    said = (
        "An effective number is exp(entropy): so many equally frequent sentences would be as varied. It is of as "
        "many completions on both sides, and at most that many: of the closing sentences that each writes, these "
        f"have seen {percent(seen['base'])} (base) and {percent(seen['policy'])} (PPO). Sentences that differ "
        "only in case, quotes or end marks are one. Similarity: shared word pairs (Dice)."
    )
    if found.get("embedding_model"):
        said += f" By meaning: {found['embedding_model']}."
    return f"{said} {found['words']}" if found.get("words") else said


def sentence_table(stats: Stats | None) -> Table | None:
    """The closing sentences that are most common on either side, by name, with their shares on both."""
    rows = dig(stats, "diversity", "common")
    if not rows:
        return None
    cells = [(quoted(row["text"]), *(interval(row[side]) for side in ("base", "policy"))) for row in rows]
    n = dig(stats, "diversity", "prompts")
    note = f"Share of completions that end in it; n = {n}, {WILSON}. The five most common ones of each side."
    return Table("Most common closing sentences", ("closing sentence", "base", "PPO"), cells, note, compact=True)


def best_of_n_table(stats: Stats | None) -> Table | None:
    """Best-of-n's closing sentences beside the base's and PPO's, at one completion of each prompt."""
    found = dig(stats, "diversity", "best_of_n")
    if not found:
        return None
    names = ["base", *(f"best of {row['n']}" for row in found["rows"][1:]), "PPO"]
    rows = [
        (name, _number(row["closings"]), interval(row["ratio"]), percent(row["closing"]["share"]),
         quoted(row["closing"]["text"]))
        for name, row in zip(names, [*found["rows"], found["policy"]], strict=True)
    ]  # fmt: skip
    head = ("completions", "effective closing sentences", "over the base's", "most common one", "which is")
    note = (
        f"What one completion of each of {found['prompts']} prompts is expected to show, {found['prompts']} at "
        "most; intervals: bootstrap over these prompts."
    )
    return Table("Closing sentences, PPO beside best-of-n", head, rows, note)


def quoted(text: str) -> str:
    """A sentence as a table shows it, cut where it is long."""
    if not text:
        return EMPTY
    return f"“{text}”" if len(text) <= 90 else f"“{text[:89].rstrip()}…”"


def _effective(found: Mapping[str, Any], key: str, label: str, of: str) -> list[Row]:
    entry = found.get(key)
    if not entry:
        return []
    ratio = f"× {interval(entry['ratio'])}"
    return [(f"{label}, {of}", _number(entry["base"]), _number(entry["policy"]), ratio, basis(entry["policy"]))]


def _number(entry: Mapping[str, Any] | None) -> str:
    """``83 [79, 88]``, with a decimal where it is small."""
    value = dig(entry, "value")
    if value is None:
        return UNKNOWN
    return effective(value) if dig(entry, "low") is None else interval(entry, 1 if value < 9.95 else 0)
