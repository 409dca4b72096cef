"""Read a run's facts from its versions: settings, measurements of the reward model, counts of rows.

A fact is None where its version does not exist.
"""

from __future__ import annotations

import json
import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.base.errors import DataError
from pipeline.base.files import disk_errors
from pipeline.base.key_numbers import Column, KeyNumbers
from pipeline.base.records import short_hash
from pipeline.health.diagnosis import Doctor, examined
from pipeline.health.findings import Facts, Noise, Overlap
from pipeline.health.written_texts import READ, Written, written
from pipeline.results.policy import Evaluation
from pipeline.results.readers import ReaderFigures, ReadersFigures
from pipeline.results.reward import PairwiseMetrics, RewardMetrics, reward_metrics
from pipeline.results.rounds import LoopFigures, RoundFigures
from pipeline.results.stats import from_json
from pipeline.statistics.intervals import wilson
from pipeline.store.evaluations import newest_evaluation, newest_loop, newest_readers
from pipeline.store.manifest import Manifest
from pipeline.store.ppo_history import read_ppo_history
from pipeline.store.store import Store, Version

if TYPE_CHECKING:
    from numpy.typing import NDArray

Row = dict[str, Any]

# Items with two votes, below which nothing is said about label noise.
FEWEST_TWICE = 20
_SIDES = ("a", "b", "like", "dislike")


@dataclass(frozen=True)
class RunVersions:
    """A policy and the versions that it was made from; None where one does not exist."""

    policy: Version | None = None
    reward: Version | None = None
    preferences: Version | None = None
    prompts: Version | None = None
    rollouts: Version | None = None
    evaluation: Version | None = None
    loop: Version | None = None
    readers: Version | None = None


def examine_version(store: Store, version: Version) -> Doctor:
    """Examine the run of which ``version`` is the policy, an input or a product.

    Raises:
        DataError, StoreError: rows are missing or corrupt.
    """
    versions = run_versions(store, version)
    if versions.policy is not None:
        policy = versions.policy
        versions = replace(
            versions,
            evaluation=newest_evaluation(store, policy),
            loop=newest_loop(store, policy),
            readers=newest_readers(store, policy),
        )
    history = [] if versions.policy is None else read_ppo_history(versions.policy.path / "metrics.jsonl")
    texts = None if versions.rollouts is None else written_in(versions.rollouts)
    return examined(history, facts_of(versions), texts)


def written_in(rollouts: Version) -> Written:
    """The completions of a finished run, from its ``rollouts``."""
    return written(rollouts.iter_rows("train", columns=list(READ)))


def written_under_way(path: Path) -> Written:
    """The completions of a running stage, from its rollouts.jsonl; an unfinished last line is skipped."""
    if not path.is_file():
        return Written()
    with disk_errors(str(path)), path.open(encoding="utf-8") as file:
        return written(json.loads(line) for line in file if line.endswith("\n"))


def run_versions(store: Store, version: Version) -> RunVersions:
    """The nearest version of each kind, ``version`` itself first."""
    nearest: dict[str, Version] = {}
    present = {n.ref: n for n in store.lineage(version).ancestors() if n.state == "present"}
    for node in present.values():
        if node.manifest is not None and (kind := _kind(node.manifest)) is not None and kind not in nearest:
            nearest[kind] = store.resolve(node.ref)
    # In a loop, what the prompts were collected beside is as near: the last round's preferences.
    for parent in nearest["reward"].manifest.parents if "reward" in nearest else ():
        if parent.role == "preferences" and parent.ref in present:
            nearest["preferences"] = store.resolve(parent.ref)
    if (own := _kind(version.manifest)) is not None:
        nearest[own] = version
    return RunVersions(**nearest, rollouts=_rollouts(store, nearest.get("policy")))


def _rollouts(store: Store, policy: Version | None) -> Version | None:
    """The rollouts of this policy's own run."""
    parents = [] if policy is None else policy.manifest.parents
    refs = [parent.ref for parent in parents if parent.role == "rollouts"]
    present = {n.ref for n in store.lineage(policy).ancestors() if n.state == "present"} if policy and refs else ()
    return next((store.resolve(ref) for ref in refs if ref in present), None)


def _kind(manifest: Manifest) -> str | None:
    if manifest.kind in ("adapter", "model"):
        return {"ppo": "policy", "reward": "reward"}.get(manifest.stage)
    return manifest.kind if manifest.kind in ("preferences", "prompts") else None


def facts_of(versions: RunVersions) -> Facts:
    """The facts that a run's versions hold."""
    facts = Facts()
    if versions.policy is not None:
        facts = Facts.of_settings(_section(versions.policy, "ppo"))
        stats = versions.policy.manifest.stats
        facts = replace(facts, stopped=stats.get("stopped"), kept=stats.get("kept"))
    if versions.reward is not None:
        facts = replace(facts, reward=reward_metrics(versions.reward.manifest.stats, versions.reward.ref))
    if versions.evaluation is not None:
        facts = _with_evaluation(facts, versions.evaluation)
    if versions.loop is not None:
        facts = replace(facts, rounds=_rounds(versions.loop))
    if versions.readers is not None:
        facts = replace(facts, readers=_readers(versions.readers))
    leaks, duplicates = _overlaps(versions)
    rows = None if versions.preferences is None else _training_rows(versions.preferences)
    noise = _noise(facts.reward, versions.preferences)
    return replace(facts, training_rows=rows, noise=noise, leaks=leaks, duplicates=duplicates)


def read_history(path: Path) -> list[Row]:
    """Read the PPO history in a metrics.jsonl.

    Raises:
        DataError: it has no update of PPO, or a line is not JSON.
        StoreError: it cannot be read.
    """
    rows = read_ppo_history(path)
    if not rows:
        raise DataError(str(path), "holds no update of PPO.", "Name the metrics.jsonl of a policy.")
    return rows


def _with_evaluation(facts: Facts, version: Version) -> Facts:
    """The facts with those of the newest evaluation; as they are where it cannot be read."""
    try:
        evaluation = from_json(Evaluation, version.manifest.stats, version.ref)
    except DataError:  # the run's other facts can be
        return facts
    judges = {name: judge.trust for name, judge in evaluation.judges.items() if judge.trust is not None}
    collapse = evaluation.diversity and evaluation.diversity.collapse
    one_pattern = collapse if collapse and collapse.place == "pattern" else None
    gold = evaluation.gold_score
    gained = gold is not None and gold.difference.low > 0
    return replace(facts, judges=judges, one_pattern=one_pattern, gold_gained=gained)


def _rounds(loop: Version) -> Sequence[RoundFigures] | None:
    """The rounds up to the one that the record was written after; None where they cannot be read."""
    try:
        return from_json(LoopFigures, loop.manifest.stats, loop.ref).rounds
    except DataError:
        return None


def _readers(record: Version) -> Sequence[ReaderFigures] | None:
    """The readers of a record; None where they cannot be read."""
    try:
        return from_json(ReadersFigures, record.manifest.stats, record.ref).readers
    except DataError:
        return None


def _section(version: Version, name: str) -> Mapping[str, Any]:
    return version.manifest.config.get(name) or {}


def _training_rows(preferences: Version) -> int:
    splits = preferences.splits
    return splits.get("train", 0) or splits.get("unpaired/train", 0)


# -------------------- rows that occur twice


def _overlaps(versions: RunVersions) -> tuple[list[Overlap] | None, list[Overlap] | None]:
    """Leaks between splits, and duplicates within one; case and blanks of texts are ignored."""
    if versions.prompts is None and versions.preferences is None:
        return None, None
    leaks: list[Overlap] = []
    duplicates: list[Overlap] = []
    asked = {s: _keys(versions.prompts, s, ("prompt",)) for s in ("train", "test")}
    pairs = {s: _keys(versions.preferences, s, ("prompt", "chosen", "rejected")) for s in ("train", "test")}
    for rows, name in ((asked, "prompts"), (pairs, "comparisons")):
        for split, keys in rows.items():
            duplicates.append(Overlap(f"{name} of {split}", len(keys) - len(np.unique(keys)), len(keys)))
    leaks.append(_shared("held-out prompts", asked["test"], asked["train"]))
    preferences = versions.preferences
    if preferences is not None and _section(preferences, "collect").get("split_by") in (None, "prompt"):
        judged = {s: _keys(preferences, s, ("prompt",)) for s in ("train", "test")}
        leaks.append(_shared("held-out comparisons' prompts", judged["test"], judged["train"]))
        leaks.append(_shared("prompts that the policy is tested on", asked["test"], judged["train"]))
    else:
        texts = {s: _texts(preferences, s) for s in ("train", "test")}
        leaks.append(_shared("held-out completions", texts["test"], texts["train"]))
    return [o for o in leaks if o.total], [o for o in duplicates if o.total]


def _keys(version: Version | None, split: str, columns: tuple[str, ...]) -> NDArray[np.int64]:
    """A hash of each row's texts, as the texts of a million rows need too much memory."""
    if version is None or not version.has_split(split):
        return np.zeros(0, np.int64)
    rows = version.iter_rows(split, columns=list(columns))
    return np.fromiter((hash(tuple(_plain(row[c]) for c in columns)) for row in rows), np.int64)


def _texts(version: Version | None, split: str) -> NDArray[np.int64]:
    return np.concatenate([_keys(version, split, ("prompt", column)) for column in ("chosen", "rejected")])


def _plain(text: str | None) -> str:
    return " ".join((text or "").split()).casefold()


def _shared(rows: str, test: NDArray[np.int64], train: NDArray[np.int64]) -> Overlap:
    return Overlap(rows, int(np.isin(test, train).sum()), len(test))


# -------------------- labels that are wrong


def _noise(reward: RewardMetrics | None, preferences: Version | None) -> Noise | None:
    """Label noise by the gold score where there is one, else by votes that contradict each other."""
    if isinstance(reward, PairwiseMetrics) and reward.gold is not None and (wrong := reward.gold.label_noise).n:
        return Noise(wrong.value, wrong.low, wrong.n, "the gold scores of held-out pairs")
    if preferences is None:
        return None
    return _contradictions(_votes(preferences))


def _votes(preferences: Version) -> Iterator[tuple[str, str, int]]:
    """(item, choice, count) of first votes that chose a side, or liked or disliked."""
    for split in ("train", "test"):
        if preferences.has_split(split, "votes"):
            for row in preferences.iter_rows(split, "votes"):
                item = row.get("item_id") or row.get("comparison_id")
                if item and row.get("choice") in _SIDES and not row.get("round"):
                    yield item, row["choice"], row.get("count") or 1


def _contradictions(votes: Iterable[tuple[str, str, int]]) -> Noise | None:
    """Estimate the share p of wrong votes: two independent votes of equal error rate differ with 2 p (1 - p).

    Each item counts once, by the share of its pairs of votes that differ.
    """
    items, numbers, sides, counts = KeyNumbers(), array("I"), array("B"), Column("q", 1)
    for item, choice, n in votes:
        numbers.append(items.add(short_hash(item))[0])
        sides.append(_SIDES.index(choice))
        counts.append(n)
    totals = np.bincount(np.frombuffer(numbers, np.uint32), counts.numpy(), len(items)) if numbers else np.zeros(0)
    several: dict[int, Counter[str]] = {number: Counter() for number in np.flatnonzero(totals > 1).tolist()}
    for place in np.flatnonzero(totals[np.frombuffer(numbers, np.uint32)] > 1).tolist() if several else ():
        several[numbers[place]][_SIDES[sides[place]]] += counts[place]
    twice = list(several.values())
    if len(twice) < FEWEST_TWICE:
        return None
    differ = sum(_differing(choices) for choices in twice) / len(twice)
    low = _error_rate(wilson(differ * len(twice), len(twice)).low)
    return Noise(_error_rate(differ), low, len(twice), "several votes on one item")


def _differing(counts: Counter[str]) -> float:
    n = counts.total()
    same = sum(k * (k - 1) for k in counts.values())
    return 1 - same / (n * (n - 1))


def _error_rate(differ: float) -> float:
    return (1 - math.sqrt(max(1 - 2 * differ, 0.0))) / 2
