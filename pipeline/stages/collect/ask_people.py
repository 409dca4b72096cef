"""Let people choose: write comparisons while they are drawn and shown, and preferences once enough is labelled."""

from __future__ import annotations

import contextlib
from collections import Counter
from itertools import combinations

from pipeline.formats.detect import Notices
from pipeline.labelling.row_schemas import SPLITS
from pipeline.labelling.session.session import LabellingSession
from pipeline.served.collecting import discard_journal, write_completions
from pipeline.stages.collect.answered_pairs import Row
from pipeline.stages.collect.draw_pairs import draw
from pipeline.stages.collect.open_session import (
    open_session,
    sampled_before,
    sampling_key,
    set_order,
    write_comparisons,
)
from pipeline.stages.collect.prompt_splits import Prompts, side
from pipeline.stages.collect.publish import publish_prompts
from pipeline.stages.data.scrub import scrubbed_groups
from pipeline.store.store import Draft
from pipeline.tasks import Task
from pipeline.texts.personal_data.count import STATS
from pipeline.workflow.sections.collect import CollectSection
from pipeline.workflow.stage import Run, say


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
