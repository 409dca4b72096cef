"""Write the datasets of collect: prompts, comparisons, preferences."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.base.errors import DataError
from pipeline.base.records import COMPARISONS, OUTCOMES, PROMPTS, VOTES, digest
from pipeline.governance.consent import KEY as CONSENT
from pipeline.labelling.row_schemas import SPLITS
from pipeline.labelling.session.publishing import has_unpaired, write_training_rows
from pipeline.stages.approved_inputs import with_approvals
from pipeline.stages.collect.answered_pairs import Row, Rows
from pipeline.stages.collect.prompt_splits import Prompts
from pipeline.store.store import Draft
from pipeline.workflow.stage import Run, say


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
