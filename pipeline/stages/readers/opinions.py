"""The datasets of ``collect`` where simulated readers like or dislike completions, as people do on the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.annotators import Readers
from pipeline.base.errors import DataError
from pipeline.base.records import COMPARISONS, Comparison
from pipeline.governance.consent import KEY as CONSENT
from pipeline.governance.consent import NOT_NEEDED
from pipeline.labelling.items import items_from
from pipeline.labelling.log.answers import Vote
from pipeline.labelling.row_schemas import SPLITS
from pipeline.labelling.session.publishing import write_rows
from pipeline.labelling.settings import LabelSection
from pipeline.labelling.votes_to_rows import Labelled, Labelling, labelled
from pipeline.stages.approved_inputs import with_approvals
from pipeline.workflow.stage import Run, say

SIMULATED = "simulated"
"""What stands for the consent of somebody who is none."""
LABEL = {"mode": "thumbs"}
"""The settings of ``label`` that make the same rows of the same votes."""


def opinions_as_rows(readers: Readers, drawn: Sequence[tuple[str, Comparison]]) -> Labelled:
    """What readers think of each completion that was drawn for a split, as the rows that people's votes make."""
    rows = ((split, {"prompt": c.prompt, **_sides(c)}) for split, c in drawn)
    items = list(items_from(rows, "thumbs"))
    opinions = readers.opinions([(item.prompt, item.completions[0]) for item in items])
    votes = [
        Vote(
            seq=number,
            item=items[opinion.number].id,
            annotator=opinion.annotator,
            choice="like" if opinion.liked else "dislike",
            order=(0,),
            strength=None,
            tags=(),
            note="",
            ms=None,
            at="",
            round=0,
            consent=SIMULATED,
        )
        for number, opinion in enumerate(opinions)
    ]
    return labelled(Labelling(items, LabelSection(mode="thumbs"), votes))


def publish_opinions(
    run: Run, readers: Readers, drawn: Sequence[tuple[str, Comparison]], report: Mapping[str, Any]
) -> None:
    """Write ``comparisons`` and ``preferences``, which marks the stage as done.

    Args:
        report: of the sampling, for the manifests.
    Raises:
        DataError: a split has no completion that anybody judged.
    """
    rows = opinions_as_rows(readers, drawn)
    for split in SPLITS:
        if not rows.unpaired[split]:
            mend = "Raise collect.comparisons, or change collect.test_share."
            raise DataError(
                f"{run.config.path}: collect", f"split {split} would hold no like and no dislike.", mend
            )
    about = {"annotator": readers.name, **report}
    with run.draft("comparisons") as draft:
        for split in SPLITS:
            distinct = {c.id: {"id": c.id, "prompt": c.prompt, **_sides(c)} for side, c in drawn if side == split}
            draft.write_rows(split, distinct.values(), schema=COMPARISONS)
        draft.stats.update(about)
    governance = {CONSENT: f"{NOT_NEEDED}: no person annotated here", **with_approvals(run)}
    with run.draft("preferences", parents=[(draft.version, "comparisons")], governance=governance) as draft:
        write_rows(draft, rows, run.version("previous") if "previous" in run.inputs else None)
        draft.stats.update({**about, **rows.counts, "label": LABEL})
    people = len({row["annotator"] for split in SPLITS for row in rows.votes[split]})
    likes = sum(row["label"] for split in SPLITS for row in rows.unpaired[split])
    say("collect", f"{people} readers judged {rows.counts['unpaired']:,} completions and liked {likes:,}")


def _sides(comparison: Comparison) -> dict[str, str]:
    return {"completion_a": comparison.completion_a, "completion_b": comparison.completion_b}
