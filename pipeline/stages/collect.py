"""collect: write prompts, comparisons of two completions, and an annotator's choices between them."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from typing import cast

import numpy as np
from accelerate import PartialState

from pipeline.annotators import Context, Opponent, Readers, Source, load_annotator
from pipeline.base.errors import ConfigError, DataError
from pipeline.base.records import (
    COMPARISONS,
    OUTCOMES,
    PROMPTS,
    VOTES,
    Annotation,
    digest,
    selection_bucket,
    split_of,
)
from pipeline.base.stored_texts import in_order
from pipeline.evaluation.reward.labels import label_agreement
from pipeline.formats.detect import Notices
from pipeline.governance.consent import KEY as CONSENT
from pipeline.governance.consent import NOT_NEEDED, UNKNOWN
from pipeline.labelling.session.publishing import has_unpaired, write_training_rows
from pipeline.labelling.session.session import LabellingSession
from pipeline.modeling.comparisons import Sampling
from pipeline.modeling.precision import base_dtype
from pipeline.modeling.types import Device
from pipeline.results.stats import to_json
from pipeline.served.collecting import discard_journal, sampler_of, served_sampling, write_completions
from pipeline.served.sampling import ServedSampling
from pipeline.stages.answered_pairs import Answered, Judged, Row, Rows
from pipeline.stages.ask_people import open_session, sampled_before, sampling_key, set_order, write_comparisons
from pipeline.stages.data.scrub import ScrubbedSource, scrubbed_groups
from pipeline.stages.readers.opinions import publish_opinions
from pipeline.stages.rounds.approved_inputs import with_approvals
from pipeline.stages.voted_pairs import Voted
from pipeline.store.store import Draft
from pipeline.tasks import VIEWS, Split, Task, load_task, with_template_of, written_texts
from pipeline.tasks._pool import distinct_texts
from pipeline.tasks._vader import VADER_NAME
from pipeline.texts.personal_data.count import STATS, in_words
from pipeline.workflow.graph import collects_preferences, reward_sources
from pipeline.workflow.sections.collect import CollectSection
from pipeline.workflow.stage import Run, main_process, say

SPLITS: tuple[Split, ...] = ("train", "test")
Prompts = dict[str, Sequence[str]]
"""The prompts of each split."""
FEWEST_TO_SELECT = 4
"""Training prompts, below which none is kept for selection."""


def collect(run: Run) -> None:
    """Write ``prompts``, ``comparisons`` and ``preferences``; the first alone where no reward model is trained."""
    config = run.config
    options = config.collect
    task = load_task(config.task, config.task_args, str(config.path), run.base_name)
    prompts = prompts_by_split(task, options, config.seed)
    if not collects_preferences(config):
        sources = ", ".join(s.value for s in reward_sources(config))
        say("collect", f"prompts only, nobody is asked to choose: ppo.reward is {sources}")
        publish_prompts(run, prompts)
        return
    if config.asks_people:
        if main_process():  # there is one page and one log
            ask_people(run, options, task, prompts)
        return
    if options.sampler is not None and not main_process():  # nothing is asked for twice
        return
    written, readers = partial(written_texts, task), getattr(task, "readers", {})
    context = Context(task.gold_scores, config.seed, str(config.path), VIEWS, written, readers)
    if shares_its_errors(options, task):
        say(
            "collect",
            f"NO JUDGE: the labels come from the gold score itself, and that is {task.gold_name}: where it errs, "
            "no figure will show it. Name a judge that the annotator is not: ppo.check, evaluate.judges.",
        )
    annotator = load_annotator(options.annotator, with_template_of(run.base_name, options.annotator_args), context)
    if isinstance(annotator, Source):
        annotator = ScrubbedSource(annotator) if options.scrub else annotator
        voted = Voted(annotator, lambda prompt, completions: side(prompt, completions, options), run.workdir)
        report = annotator.report()
        for line in report.get("notices", ()):
            say("collect", f"{report['dataset']}: {line}")
        if options.scrub:
            say("collect", f"{in_words(report[STATS])} replaced by placeholders")
        consent = getattr(annotator, "consent", f"{UNKNOWN}: {annotator.name} does not say what people agreed to")
        publish(run, prompts, voted, {"annotator": annotator.name, **report}, consent)
        return
    if options.scrub:
        what = f"collect.scrub = True has no effect with {annotator.name}, which brings no texts."
        raise ConfigError(str(config.path), what, "Scrub what was made: data scrub REF.")
    opponent = annotator if isinstance(annotator, Opponent) else None
    sampling, splits = draw(run, options, task, prompts, opponent=opponent)
    drawn = list(sampling)
    say("collect", f"{len(drawn)} comparisons go to {annotator.name}")
    if isinstance(annotator, Readers):
        publish_prompts(run, prompts)
        publish_opinions(run, annotator, [(splits[i], c) for i, c in drawn], sampling.report())
        return
    answers = annotator.annotate_all([c for _, c in drawn])
    judged = [Judged(c, a, splits[i]) for (i, c), a in zip(drawn, answers, strict=True)]
    report = {"annotator": annotator.name, **sampling.report(), **against_gold(task, judged)}
    consent = f"{NOT_NEEDED}: no person annotated here"
    answered = Answered(judged, getattr(annotator, "votes_singly", False))
    publish(run, prompts, answered, report, consent, lambda draft: write_completions(draft, sampling, splits))
    discard_journal(run)


def prompts_by_split(task: Task, options: CollectSection, seed: int) -> Prompts:
    """Those of the splits ``train``, ``select`` (where PPO is checked and its best policy chosen) and ``test``."""
    splits = train_and_select(distinct_texts(task.prompts("train", None, seed)), options.select_share)
    return {**splits, "test": distinct_texts(task.prompts("test", None, seed))}


def train_and_select(distinct: Sequence[str], share: float) -> Prompts:
    """Split distinct prompts in two by their hashes, at least one in each; fewer than 4 are all trained on."""
    if not share or len(distinct) < FEWEST_TO_SELECT:
        return {"train": distinct, "select": []}
    buckets = np.fromiter(map(selection_bucket, distinct), np.float64, len(distinct))
    kept = buckets < share
    first, last = int(buckets.argmin()), len(buckets) - 1 - int(buckets[::-1].argmax())
    kept[first], kept[last] = True, False
    return {
        "train": in_order(distinct, np.flatnonzero(~kept).astype(np.uint32)),
        "select": in_order(distinct, np.flatnonzero(kept).astype(np.uint32)),
    }


def shares_its_errors(options: CollectSection, task: Task) -> bool:
    """Whether the labels come from a gold score that is VADER's opinion, not the truth."""
    if options.annotator != "oracle" or task.gold_name != VADER_NAME:
        return False
    return options.annotator_args.get("view", "gold") in ("gold", "vader")


def against_gold(task: Task, judged: list[Judged]) -> Row:
    """Print how far the labels agree with the gold score, and return it for the manifest; empty without one."""
    answered = [(j.comparison, j.answer) for j in judged if isinstance(j.answer, Annotation)]
    prompts = [c.prompt for c, _ in answered]
    gold_a = task.gold_scores(prompts, [c.completion_a for c, _ in answered])
    gold_b = task.gold_scores(prompts, [c.completion_b for c, _ in answered])
    if gold_a is None or gold_b is None:
        return {}
    agreement = label_agreement([answer for _, answer in answered], gold_a, gold_b)
    if agreement is None:
        return {}
    by_scores = agreement.scores
    went_by = f"; the scores the annotator went by, on {by_scores.value:.2f}" if by_scores else ""
    share = f"{agreement.labels.value:.2f} of the {agreement.n} pairs whose gold differs{went_by}"
    say("collect", f"labels agree with the gold score ({task.gold_name}) on {share}")
    return {"agreement_with_gold": to_json(agreement)}


def side(prompt: str, completions: Sequence[str], options: CollectSection) -> str | None:
    """The split of completions that were not sampled here.

    Split by completion, texts of different splits are in none: training on them would show the reward model a text
    of the test split.
    """
    if options.split_by == "prompt":
        return split_of(prompt, options.test_share)
    sides = {split_of(c, options.test_share) for c in completions}
    return sides.pop() if len(sides) == 1 else None


def draw_prompts(task: Task, split: Split, n: int, seed: int, apart: set[str], round: int = 1) -> list[str]:
    """``n`` prompts in the task's order, without those in ``apart``; of a later round those that come next."""
    count = end = n * round
    while len(drawn := [p for p in task.prompts(split, count, seed) if p not in apart]) < end:
        count += end - len(drawn)
    return drawn[end - n : end]


def draw(
    run: Run,
    options: CollectSection,
    task: Task,
    prompts: Prompts,
    at_a_time: int | None = None,
    opponent: Opponent | None = None,
) -> tuple[Sampling | ServedSampling, list[str]]:
    """Prepare sampling from the base, the policy that ``inputs`` names, or a server; iterating over it samples.

    Args:
        opponent: brings what the samples are compared with; prompts for which it has nothing are left out.
    Returns:
        The sampling, and the split of each prompt.
    """
    held_out = max(1, round(options.comparisons * options.test_share))
    sizes: dict[Split, int] = {"train": options.comparisons - held_out, "test": held_out}
    kept_apart = set(prompts["select"])
    drawn = [
        (p, split)
        for split, n in sizes.items()
        for p in draw_prompts(task, split, n, run.config.seed, kept_apart, options.round)
    ]
    opponents = None
    if opponent is not None:
        brought = opponent.opponents([p for p, _ in drawn])
        say(
            "collect",
            f"{sum(map(bool, brought))} of {len(brought)} prompts have a text to compare the samples with",
        )
        drawn = [row for row, own in zip(drawn, brought, strict=True) if own]
        opponents = [own for own in brought if own]
    texts = [p for p, _ in drawn]
    seed = sampling_seed(run.config.seed, options.round)
    if (server := sampler_of(run)) is not None:
        if opponents is not None:
            what = f"collect.annotator {options.annotator} brings what samples are compared with; no sampler can."
            raise ConfigError(str(run.config.path), what, "Leave collect.sampler out.")
        sampling = served_sampling(run, server, texts, task.completion_tokens, seed)
        return sampling, [split for _, split in drawn]
    device = cast("Device", PartialState().device)
    sampling = Sampling(
        run.base,
        run.version("policy").path if "policy" in run.inputs else None,
        texts,
        completion_tokens=task.completion_tokens,
        per_prompt=options.completions,
        temperature=options.temperature,
        batch_size=options.batch_size,
        seed=seed,
        device=device,
        dtype=base_dtype(options.bf16, device),
        at_a_time=at_a_time,
        opponents=opponents,
    )
    return sampling, [split for _, split in drawn]


def sampling_seed(seed: int, round: int) -> int:
    """The seed of a round's sampling; the first round's is the experiment's."""
    return seed if round == 1 else int(digest(["round", seed, round])[:8], 16)


def ask_people(run: Run, options: CollectSection, task: Task, prompts: Prompts) -> None:
    """Write ``prompts`` and ``comparisons`` at once, ``preferences`` when enough is labelled."""
    sampling = sampling_key(run)
    with open_session(run, sampling) as session:
        with session.page() if options.serve else contextlib.nullcontext():
            comparisons = sampled_before(run, sampling)
            if comparisons is None or comparisons.manifest.key != run.key:
                publish_prompts(run, prompts)
                with run.draft("comparisons") as draft:
                    if comparisons is None:
                        report = show_comparisons(run, options, task, prompts, draft, session)
                        draft.stats.update(report, sampling=sampling)
                    else:  # only the rules for when it is enough, or for outcomes, have changed
                        for split in SPLITS:
                            draft.write_rows(split, [], carry=comparisons)
                            if comparisons.has_split(split, "completions"):
                                draft.write_rows(split, [], config="completions", carry=comparisons)
                        draft.stats.update(comparisons.manifest.stats)
                comparisons = draft.version
                discard_journal(run)
            session.ask_about(comparisons)
            set_order(session, run)
            session.wait()
        session.conclude()


def show_comparisons(
    run: Run,
    options: CollectSection,
    task: Task,
    prompts: Prompts,
    draft: Draft,
    session: LabellingSession,
) -> Row:
    """Write the user's own completions or sampled ones, show people each comparison at once, and return counts."""
    notices = Notices()
    own = session.project.own_groups(notices)
    if own is None:
        drawn, splits = draw(run, options, task, prompts, at_a_time=options.batch_size)
        write_comparisons(
            draft, session, ((splits[i], c.prompt, (c.completion_a, c.completion_b)) for i, c in drawn)
        )
        write_completions(draft, drawn, splits)
        return drawn.report()
    replaced = Counter[str]()
    own = scrubbed_groups(own, replaced) if options.scrub else own
    groups = (
        (side(prompt, group, options), prompt, group)
        for prompt, completions in own
        for group in (combinations(completions, 2) if len(completions) > 1 else [completions])
    )
    counts = write_comparisons(draft, session, groups)
    for line in notices.lines():
        say("label", f"{session.project.settings.dataset}: {line}")
    counts |= {STATS: dict(replaced)} if options.scrub else {}
    return counts | ({"notices": lines} if (lines := notices.lines()) else {})


def publish_prompts(run: Run, prompts: Prompts) -> None:
    """Write the prompts of every split."""
    with run.draft("prompts") as draft:
        for split, texts in prompts.items():
            if texts or split in SPLITS:
                draft.write_rows(split, ({"id": digest([t]), "prompt": t} for t in texts), schema=PROMPTS)


def publish(
    run: Run,
    prompts: Prompts,
    rows: Rows,
    report: Row,
    consent: str,
    beside: Callable[[Draft], None] = lambda _: None,
) -> None:
    """Write the three datasets, ``preferences`` last: it marks the stage as done.

    Args:
        consent: what is known of that of the people whose choices these are.
        beside: writes what else belongs to the comparisons.
    """
    _require_rows(run, rows)
    publish_prompts(run, prompts)
    with run.draft("comparisons") as draft:
        for split in SPLITS:
            draft.write_rows(split, rows.comparisons(split), schema=COMPARISONS)
        beside(draft)
        draft.stats.update(report)
    parents = [(draft.version, "comparisons")]
    previous = run.version("previous") if "previous" in run.inputs else None
    governance = {CONSENT: consent, **with_approvals(run)}
    with run.draft("preferences", parents=parents, governance=governance) as draft:
        for split in SPLITS:
            write_training_rows(draft, split, rows.preferences(split), previous)
            unpaired = rows.unpaired(split)
            if unpaired is not None or has_unpaired(previous):
                write_training_rows(draft, split, unpaired or (), previous, "unpaired")
            draft.write_rows(split, rows.votes(split), config="votes", schema=VOTES)
            if (outcomes := rows.outcomes(split)) is not None:
                draft.write_rows(split, outcomes, config="outcomes", schema=OUTCOMES)
        draft.stats.update({**report, **rows.counts})
    say("collect", rows.sentence())


def _require_rows(run: Run, rows: Rows) -> None:
    mend = "Bring more prompts, or change collect.test_share."
    if rows.prompts == 1:
        mend = "All share one prompt: set collect.split_by=completion, or bring more prompts."
    for split in SPLITS:
        if not rows.decided(split):
            what = f"split {split} would hold no preference ({rows.sentence()}; {rows.prompts} distinct prompts)."
            raise DataError(f"{run.config.path}: collect", what, mend)
