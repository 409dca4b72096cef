"""Open the session in which people label, for ``collect`` and ``label``: order its items, show comparisons in it.

Answers are kept in a log, so that the same command continues days later. A changed stop rule or aggregation needs
no new samples. Imports no torch.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from pipeline.base.json_values import dict_of
from pipeline.base.process import say
from pipeline.base.records import COMPARISONS, digest
from pipeline.labelling.items import Item
from pipeline.labelling.log.log import Log
from pipeline.labelling.row_schemas import SPLITS
from pipeline.labelling.session.project import LabellingProject
from pipeline.labelling.session.session import LabellingSession
from pipeline.stages.approved_inputs import with_approvals
from pipeline.store.store import Draft, Version
from pipeline.workflow.graph import artefact, data_marks
from pipeline.workflow.stage import Run
from pipeline.workflow.work_key import fingerprint, learning_part, local_files, output_format

Row = dict[str, Any]
FEED_SECONDS = 1.0
"""How long sampled pairs wait for each other: every transaction of the log waits for the disk."""


@contextlib.contextmanager
def open_session(run: Run, sampling: str) -> Iterator[LabellingSession]:
    """Open the session of ``collect``. ``sampling``: see :func:`sampling_key`."""
    project = LabellingProject.of(run.config, run.store)
    with contextlib.closing(project.open(project.batch(sampling), {"config": str(run.config.path)})) as log:
        yield session_of(run, project, log)


def session_of(run: Run, project: LabellingProject, log: Log) -> LabellingSession:
    """A session that publishes under the key of ``collect``, again where there are more answers."""

    def open_draft(comparisons: Version, governance: Row) -> AbstractContextManager[Draft]:
        return run.draft(
            "preferences",
            parents=[(comparisons, "comparisons")],
            governance={**governance, **with_approvals(run)},
            republish_if_changed=True,
        )

    previous = run.version("previous") if "previous" in run.inputs else None
    resume = f"make label CONFIG={run.config.path}"
    return LabellingSession(project, log, open_draft, previous, resume, run.config.collect.scrub)


def set_order(session: LabellingSession, run: Run) -> None:
    """With ``label.order: active``, put the items first of which the reward model is least sure."""
    settings = session.project.settings
    if settings.order != "active":
        return
    sources = settings.reward or artefact(run.config, "reward")
    if settings.reward is None and sources not in run.store.names():
        say("label", f"order: active, but there is no {sources} yet: the order is random")
        return
    from pipeline.stages.label_order import priorities

    by_item = priorities(run, list(session.log.batches.items()), sources)
    session.log.batches.set_priorities(by_item)
    say("label", f"{len(by_item)} items in the order of how unsure {sources} is")


def sampling_key(run: Run) -> str:
    """A key of the settings that decide which comparisons people get, without those on how they are asked."""
    part = learning_part(run.config, "collect")
    part["label"] = {k: v for k, v in dict_of(part["label"]).items() if k in ("dataset", "columns")}
    inputs = {role: fingerprint(version) for role, version in run.inputs.items() if role != "previous"}
    files = local_files(part) + data_marks(part)
    return digest([part, inputs, files, output_format("collect")])


def sampled_before(run: Run, sampling: str) -> Version | None:
    """The newest comparisons with this sampling key."""
    return next(
        (v for v in run.earlier_outputs("comparisons") if v.manifest.stats.get("sampling") == sampling), None
    )


def write_comparisons(
    draft: Draft, session: LabellingSession, groups: Iterable[tuple[str | None, str, tuple[str, ...]]]
) -> Row:
    """Write comparisons, and show each to people at once.

    Args:
        groups: (split, prompt, one or two completions); without a split a group is only counted.
    Returns:
        ``read`` and ``straddling_the_split``, for the manifest.
    """
    rows: dict[str, dict[str, Row]] = {split: {} for split in SPLITS}
    read = straddling = 0
    feed = Feed(session)
    for split, prompt, completions in groups:
        read += 1
        if split is None:
            straddling += 1
            continue
        a, b = (*completions, None)[:2]
        row_id = digest([prompt, *completions])
        if row_id not in rows[split]:
            rows[split][row_id] = {"id": row_id, "prompt": prompt, "completion_a": a, "completion_b": b}
            feed.add(split, prompt, completions)
    for split in SPLITS:
        draft.write_rows(split, rows[split].values(), schema=COMPARISONS)
    return {"read": read, "straddling_the_split": straddling}


class Feed:
    """Adds pairs to the session every :data:`FEED_SECONDS`.

    The other modes need all completions of a prompt, and get their items at the end.
    """

    def __init__(self, session: LabellingSession) -> None:
        self._session = session
        self._waiting: list[Item] = []
        self._last = time.monotonic()

    def add(self, split: str, prompt: str, completions: tuple[str, ...]) -> None:
        if self._session.project.settings.mode == "pairwise" and len(completions) == 2:
            self._waiting.append(Item(prompt, completions, "pairwise", split))
        if self._waiting and time.monotonic() - self._last > FEED_SECONDS:
            self._session.add(self._waiting)
            self._waiting, self._last = [], time.monotonic()
