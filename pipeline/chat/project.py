"""The log of what people say about a policy's answers, and its publication as preferences to train on."""

from __future__ import annotations

from pathlib import Path

from pipeline.base.errors import DataError
from pipeline.base.records import digest
from pipeline.labelling.items import TYPED
from pipeline.labelling.log.log import Log
from pipeline.labelling.log_rows import publishable_rows
from pipeline.labelling.row_schemas import SPLITS
from pipeline.labelling.session.publishing import write_rows
from pipeline.labelling.settings import LabelSection
from pipeline.labelling.votes_to_rows import Labelled, answered_only
from pipeline.store.store import Store, Version
from pipeline.workflow.work_key import LABEL_LEARNING, fingerprint

BATCH = "chat"
GOVERNANCE = {"consent": "each person's own; votes.consent is the sha256 of the text agreed to"}


def log_directory(store: Store, project: str) -> Path:
    """``data/NAME-chat-labels``: apart from ``NAME-labels``, whose items the experiment brings."""
    return store.home(f"{project}-chat-labels")


def open_log(store: Store, project: str) -> Log:
    """Open the chat log of an experiment, or create it."""
    log = Log(log_directory(store, project))
    if log.batches.current != BATCH:
        log.batches.open(BATCH, {TYPED: True})
    return log


def publish(store: Store, project: str, log: Log) -> Version:
    """Publish the votes so far as a version of ``NAME-chat``, by the functions that make rows of all votes.

    Raises:
        DataError: there is no row to train on yet.
        StoreError: the version cannot be written.
    """
    rows = votes_so_far(log)
    if not training_ids(rows):
        raise DataError(str(log.directory), "there is no vote to train on yet.", "Talk, vote, and publish then.")
    return write(store, project, log, rows)


def votes_so_far(log: Log) -> Labelled:
    """The rows of everybody's current votes."""
    return answered_only(publishable_rows(log, LabelSection()))


def training_ids(rows: Labelled) -> set[str]:
    """Ids of the rows that a reward model learns from."""
    return {row["id"] for of in (rows.preferences, rows.unpaired) for split in SPLITS for row in of[split]}


def write(
    store: Store, project: str, log: Log, rows: Labelled, previous: Version | None = None, **stats: int
) -> Version:
    """Write votes as a version of ``NAME-chat``, or after the rows of earlier preferences as a version of these.

    Args:
        previous: preferences whose rows come first.
        stats: further counts for the manifest.
    """
    learning = {k: v for k, v in vars(LabelSection()).items() if k in LABEL_LEARNING}
    after = [] if previous is None else [previous.ref, *fingerprint(previous)]
    with store.draft(
        f"{project}-chat" if previous is None else previous.name,
        kind="preferences",
        stage="chat",
        key=digest(["chat", project, learning, *after]),
        parents=[
            *((version, "policy") for version in policies(store, log)),
            *([] if previous is None else [(previous, "previous")]),
        ],
        config={"name": project, "label": learning},
        governance=GOVERNANCE,
        republish_if_changed=True,
    ) as draft:
        write_rows(draft, rows, previous)
        draft.stats.update({**rows.counts, "annotator": "human", "label": learning, TYPED: True, **stats})
    return draft.version


def policies(store: Store, log: Log) -> list[Version]:
    """The policies whose answers have votes, as far as they are still there, oldest first."""
    current = {vote.seq for vote in log.answers.votes()}
    named: dict[str, str] = {}
    for event in log.events.read():
        if event.seq in current or event.type == "edit":
            answerers = event.payload.get("source", {}).get("answerers", [])
            named |= {a["ref"]: a["id"] for a in answerers if a["role"] == "policy"}
    there = {
        version.ref: version
        for name in {ref.partition("@")[0] for ref in named}
        for version in store.versions(name)
    }
    return [there[ref] for ref in sorted(named) if ref in there and there[ref].id == named[ref]]


def training(version: Version, project: str) -> list[str]:
    """The commands that train on published votes, in lines; no version knows which file its config was."""
    likely = [Path("configs", f"{project}.yaml"), Path(f"{project}.yaml")]
    config = next((str(path) for path in likely if path.is_file()), "THE_CONFIG.yaml")
    lines = [f'make report CONFIG={config} ARGS="collect.inputs={{previous: {version.ref}}}"']
    if all(version.splits.get(split) for split in SPLITS):
        inputs = f"inputs={{preferences: {version.ref}}}"
        lines.append(f'make report CONFIG={config} ARGS="reward.{inputs} report.{inputs}"')
    return lines
