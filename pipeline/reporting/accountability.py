"""The report's section "Who answers for it": questions of somebody who is no engineer, answered from the versions.

A part that was not done says so. Nobody is named but those who signed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.base.errors import StoreError
from pipeline.base.json_values import dict_of
from pipeline.formats.judged import is_person
from pipeline.governance.approvals import approval_of
from pipeline.governance.audit_log import AuditLog
from pipeline.labelling.agreement import Alpha, agreement
from pipeline.reporting.harm_rows import fairness_answer, screening_answer
from pipeline.reporting.run_tables import Table
from pipeline.results.fairness import Fairness
from pipeline.results.screening import Screening
from pipeline.results.stats import from_json
from pipeline.statistics.intervals import Estimate
from pipeline.statistics.spelling import interval, number
from pipeline.store.evaluations import newest_made_of
from pipeline.store.manifest import ERASED
from pipeline.store.store import Store, Version

LEFT_OUT = {
    "identical_or_repeated": "comparisons of two equal texts, or asked before",
    "ties": "comparisons that were called equal: they say nothing about which is better",
    "both_bad": "comparisons of which both texts were called bad",
    "abstained": "comparisons without an answer",
    "split_votes": "comparisons whose votes were split evenly",
    "unanswered": "comparisons that nobody answered",
    "duplicates": "rows that were there already",
    "repeated": "pairs that were there already",
    "contradictory": "pairs that another answer contradicts",
    "unpaired": "answers that make no pair",
    "over_cap": "pairs of a ranking beyond the most that are taken",
    "middling": "ratings in the middle of the scale",
    "straddling_the_split": "comparisons whose texts belong both to training and to testing",
    "without_consent": "answers of people who did not consent",
    "unknown_item": "answers to a comparison that is not there",
    "personal_data": "comparisons that somebody reported for personal data",
    "gold_votes": "answers to test questions with a known answer",
    "repeats": "second answers that were asked for to see whether people stay with their first",
}
"""Why rows are not among the training rows, by the key of their count in the stats of the preferences."""


PROGRAMS = {
    "oracle": "a program that looks at a known score, with errors of its own,",
    "classifier": "a model that classifies texts",
    "discriminator": "a program that takes a person's text for better than a generated one",
}
"""Annotators that are no people, by name, for somebody who does not know them."""


@dataclass(frozen=True)
class Answer:
    """A question with its answer.

    Attributes:
        done: False where there is nothing to answer with, which the page marks as "not done".
    """

    question: str
    sentences: Sequence[str]
    tables: Sequence[Table] = ()
    done: bool = True


@dataclass(frozen=True)
class Behind:
    """The versions behind a policy, as far as there are any."""

    policy: Version
    evaluation: Version
    reward: Version | None = None
    preferences: Version | None = None
    screening: Version | None = None
    fairness: Version | None = None

    @classmethod
    def of(
        cls,
        store: Store,
        policy: Version,
        evaluation: Version,
        reward: Version | None,
        preferences: Version | None,
    ) -> Behind:
        """With the newest screening of the evaluation, and the newest swaps of the policy."""
        screening = newest_made_of(store, evaluation, "evaluation", "screening")
        return cls(
            policy, evaluation, reward, preferences, screening, newest_made_of(store, policy, "policy", "fairness")
        )


def answers(store: Store, behind: Behind) -> list[Answer]:
    """Who labelled, how far they agree, what was left out, screened and swapped, who signed, what was erased."""
    screening = behind.screening and from_json(Screening, behind.screening.manifest.stats, behind.screening.ref)
    fairness = behind.fairness and from_json(Fairness, behind.fairness.manifest.stats, behind.fairness.ref)
    return [
        who_labelled(behind.preferences),
        how_far_they_agree(behind.preferences),
        what_was_left_out(behind.preferences, behind.reward),
        Answer("Does it write more harmful texts than before?", *screening_answer(screening)),
        Answer("Does it treat people alike?", *fairness_answer(fairness)),
        who_signed(store, behind),
        what_was_erased(store, behind.policy),
    ]


def who_labelled(preferences: Version | None) -> Answer:
    """People, with how many answers each gave; or a program; or a file that came from elsewhere."""
    question = "Who said which answers are better?"
    if preferences is None:
        sentence = "Nobody was asked in this run: its score comes from a program or a model that was there before."
        return Answer(question, [sentence], done=False)
    stats = preferences.manifest.stats
    name, counts = str(stats.get("annotator") or "unknown"), _votes_by_person(preferences)
    sentences: list[str] = []
    if counts:
        each = sorted(counts.values())
        span = f"{each[0]:,}" if each[0] == each[-1] else f"{each[0]:,} to {each[-1]:,}"
        sentences.append(
            f"{_people(len(counts))} gave {sum(each):,} answers, {span} each. This report does not name them."
        )
    elif people := stats.get("people"):
        sentences.append(f"{_people(people)} gave {stats.get('votes', stats.get('rows', 0)):,} answers.")
    if "dataset" in stats:
        sentences.append(
            f"The answers were collected elsewhere and read from {stats['dataset']} ({stats.get('format')}, "
            f"{stats.get('rows', 0):,} rows). Who gave them, and how they were asked, is for its publisher to say."
        )
    elif not counts:
        sentences.append(f"No person: {PROGRAMS.get(name.partition(':')[0], 'a program')} decided ({name}).")
    if (decided := stats.get("decided")) is not None:
        sentences.append(f"{decided:,} comparisons were decided.")
    consent = str(preferences.manifest.governance.get("consent") or "")
    if consent and not consent.startswith("not needed"):
        sentences.append(f"Consent: {consent}.")
    return Answer(question, sentences)


def how_far_they_agree(preferences: Version | None) -> Answer:
    """Agreement of people with each other, or of a program with the gold score."""
    question = "Do those who judged agree?"
    if preferences is None:
        return Answer(question, ["There were no judgements."], done=False)
    stats, sentences = preferences.manifest.stats, list[str]()
    recorded = dict_of(dict_of(stats.get("agreement")).get("alpha"))
    alpha = from_json(Alpha, recorded, preferences.ref) if recorded else _alpha_of_votes(preferences)
    if alpha is not None and alpha.reason is None:
        sentences.append(
            f"On {alpha.items:,} comparisons that more than one person judged, agreement is {interval(alpha)} "
            f"(Krippendorff's alpha: 1 is full agreement, 0 what chance gives): {_in_words(alpha.value)}."
        )
    elif alpha is not None:
        sentences.append(f"It cannot be said: {alpha.reason}.")
    if gold := dict_of(stats.get("agreement_with_gold")):
        labels = from_json(Estimate, gold.get("labels"), preferences.ref)
        sentences.append(
            f"The judgements agree with the task's own yardstick (the gold score) on {_percent(labels)} of "
            f"{labels.n:,} comparisons; a coin would agree on 50 %."
        )
    if not sentences:
        return Answer(question, ["Every comparison was judged once, so nobody can know."], done=False)
    return Answer(question, sentences)


def what_was_left_out(preferences: Version | None, reward: Version | None) -> Answer:
    """Rows that the reward model did not learn from, by reason."""
    question = "What was left out, and why?"
    if preferences is None:
        return Answer(question, ["There were no comparisons to leave out."], done=False)
    stats = preferences.manifest.stats
    rows = [(reason, stats[key]) for key, reason in LEFT_OUT.items() if isinstance(stats.get(key), int)]
    skipped = stats.get("skipped")  # by reason of a file's rows; how often people passed over an item
    if isinstance(skipped, int):
        rows.append(("comparisons that people passed over", skipped))
    rows += [(f"rows that could not be used: {reason}", n) for reason, n in dict_of(skipped).items()]
    dropped = dict_of(reward.manifest.stats.get("dropped_for_length")) if reward else {}
    rows.append(("rows longer than the reward model was set to read", sum(dropped.values())))
    counted = [(reason, f"{n:,}") for reason, n in rows if n]
    if not counted:
        return Answer(question, ["Nothing: every comparison was used, to train or to test."])
    return Answer(question, [], [Table("", ("reason", "how many"), counted)])


def who_signed(store: Store, behind: Behind) -> Answer:
    """The approvals that hold for the versions behind the policy."""
    question = "Who signed it off?"
    versions = {"policy": behind.policy, "reward model": behind.reward, "preferences": behind.preferences}
    rows: list[tuple[str, ...]] = []
    try:
        for what, version in versions.items():
            if version is not None and (approval := approval_of(store, version)) is not None:
                rows.append((f"{what}, {version.ref}", approval.by, approval.time[:10], approval.note or "–"))
        overridden = _overridden(store, [version for version in versions.values() if version is not None])
    except StoreError as err:
        return Answer(question, [f"No signature counts, as something was changed: {err}"], done=False)
    if not rows:
        return Answer(question, ["Nobody has signed it off.", *overridden], done=False)
    sentences = (
        [] if any(row[0].startswith("policy") for row in rows) else ["The policy itself is not signed off."]
    )
    sentences += overridden
    note = "A name is what was typed when signing; it holds for the exact files, as of when this page was made."
    return Answer(question, sentences, [Table("", ("what", "who", "when", "note"), rows, note)])


def _overridden(store: Store, versions: Sequence[Version]) -> list[str]:
    """A sentence for each time that a version was let out without what it has to have."""
    places = {(version.ref, version.id) for version in versions}
    return [
        f"{event.by} let {event.facts['ref']} leave for {event.facts['to']} on {event.time[:10]} against what was "
        f"required ({event.facts['missing']}): {event.facts['note']}."
        for event in AuditLog(store.root).events()
        if event.event == "overridden" and (event.facts.get("ref"), event.facts.get("id")) in places
    ]


def what_was_erased(store: Store, policy: Version) -> Answer:
    """Erasures that touched what the policy was made from."""
    question = "Was anybody's data erased?"
    gone = [n.ref for n in store.ancestors(policy) if n.manifest is not None and ERASED in n.manifest.governance]
    replacements = [
        f"{node.ref} (in the place of {node.manifest.governance['replaces']})"
        for node in store.ancestors(policy)
        if node.manifest is not None and "replaces" in node.manifest.governance
    ]
    try:
        erasures = [event.time[:10] for event in AuditLog(store.root).events() if event.event == "erased"]
    except StoreError:
        erasures = []
    sentences: list[str] = []
    if gone:
        sentences.append(
            f"This policy learnt from data that has been erased since ({', '.join(gone)}). What it learnt stays "
            "in it: train it again."
        )
    if replacements:
        sentences.append(
            f"Answers were erased before this run, which used what was left: {', '.join(replacements)}."
        )
    if erasures:
        sentences.append(f"Erasures in this data directory: {len(erasures)}, the last on {erasures[-1]}.")
    return Answer(question, sentences or ["No erasure was asked for."])


def _votes_by_person(preferences: Version) -> Counter[str]:
    """Published answers of each person, whose pseudonyms are not shown."""
    counts = Counter[str]()
    for row in _votes(preferences):
        if is_person(row.get("annotator")) and row.get("choice") is not None:
            counts[row["annotator"]] += row.get("count") or 1
    return counts


def _votes(preferences: Version) -> Iterator[Mapping[str, Any]]:
    for key in preferences.splits:
        config, _, split = key.rpartition("/")
        if config == "votes":
            yield from preferences.iter_rows(split, "votes")


def _alpha_of_votes(preferences: Version) -> Alpha | None:
    """Krippendorff's alpha of people's first answers; None where no item has two, and of rankings."""
    mode = dict_of(preferences.manifest.stats.get("label")).get("mode")
    if mode not in ("pairwise", "thumbs", "rating"):
        return None
    votes = [
        (row["item_id"], row["choice"])
        for row in _votes(preferences)
        if row["choice"] is not None and row["round"] == 0 and not row["gold"]
    ]
    if len({item for item, _ in votes}) == len(votes):
        return None
    import numpy as np

    items = {item: i for i, item in enumerate(dict.fromkeys(item for item, _ in votes))}
    choices = {choice: i for i, choice in enumerate(sorted({choice for _, choice in votes}))}
    counts = np.zeros((len(items), len(choices)), np.int64)
    for item, choice in votes:
        counts[items[item], choices[choice]] += 1
    return agreement(counts, np.arange(len(items)), ordinal=mode == "rating")[1]


def _people(count: int) -> str:
    return f"{count:,} people" if count > 1 else "One person"


def _in_words(alpha: float) -> str:
    """Krippendorff's own limits (Content Analysis, 2004, section 11.4)."""
    if alpha >= 0.8:
        return "reliable"
    return "enough for tentative conclusions" if alpha >= 0.667 else "too little to rely on single labels"


def _percent(estimate: Estimate) -> str:
    return f"{number(100 * estimate.value, 0)} %"
