"""label: serve the page on which people label the comparisons of an experiment.

With collect.annotator: human it publishes the preferences that collect waits for; with any other annotator, one
more version of the preferences.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

from pipeline.base.cli import as_called
from pipeline.base.errors import ConfigError, StoreError
from pipeline.base.process import say
from pipeline.base.records import digest
from pipeline.base.required import REQUIRED
from pipeline.labelling.log.log import Log
from pipeline.labelling.log.move import move_to_postgres
from pipeline.labelling.session.project import LabellingProject
from pipeline.labelling.session.session import LabellingSession
from pipeline.labelling.terminal.session import label as label_in_terminal
from pipeline.labelling.web.server import read_text
from pipeline.stages.collect.open_session import sampled_before, sampling_key, session_of, set_order
from pipeline.store.store import Draft, Store, Version
from pipeline.workflow.config import load_config
from pipeline.workflow.experiment import Experiment
from pipeline.workflow.graph import artefact
from pipeline.workflow.stage import Planner, Run
from pipeline.workflow.stage_command import NOTHING_TO_DO, WORK_TO_DO


def main(argv: list[str] | None = None) -> int:
    """Serve the page until enough is labelled or Ctrl-C, then publish; the operator may publish at any time."""
    args = parser().parse_intermixed_args(argv)
    config = load_config(args.config, args.overrides)
    store = Store(config.data_dir)
    project = LabellingProject.of(config, store)
    if args.move:
        return move(project)
    run = Planner(config, store).run_of("collect") if config.asks_people else None
    comparisons = (
        sampled_before(run, sampling_key(run)) if run else find_comparisons(config, store, args.comparisons)
    )
    if args.check:
        return NOTHING_TO_DO if comparisons is not None or being_sampled(project, run) else WORK_TO_DO
    if comparisons is None and not being_sampled(project, run):
        mend = f"Run: make collect CONFIG={config.path}"
        raise StoreError(f"{store.root}/{artefact(config, 'comparisons')}", "there is nothing to label yet.", mend)
    with contextlib.closing(open_log(project, run, comparisons, config)) as log:
        session = session_of(run, project, log) if run else session_for_relabelling(config, store, project, log)
        if comparisons is not None:
            session.ask_about(comparisons)
        elif run is not None:
            session.find_comparisons = lambda: sampled_before(run, sampling_key(run))
        if args.publish:
            say("label", session.publish())
        elif args.terminal is not None:
            in_terminal(session, args.terminal)
            session.conclude()
        else:
            with session.page():
                if comparisons is not None:
                    set_order(session, run or Planner(config, store).run_of("collect"))
                session.wait(stay=True)
            session.conclude()
        if session.published is not None:
            say("label", f"train on it: {training(config, session.published)}")
    return NOTHING_TO_DO


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=as_called("pipeline.label"),
        description=sys.modules["__main__"].__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", default="configs/demo.yaml", help="experiment (default: %(default)s)")
    parser.add_argument(
        "--check", action="store_true", help="only say whether there is something to label: exit 0 or 3"
    )
    parser.add_argument(
        "--comparisons", metavar="REF", help="label these; by default the newest of the experiment"
    )
    parser.add_argument("--terminal", metavar="NAME", nargs="?", const="", help="label here, without a page")
    parser.add_argument(
        "--move", action="store_true", help="move the answers from the file into label.database, and end"
    )
    parser.add_argument("--publish", action="store_true", help="publish what is labelled, and end")
    parser.add_argument("--fresh", action="store_true", help=argparse.SUPPRESS)  # make passes it to every stage
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="such as label.port=9000")
    return parser


def move(project: LabellingProject) -> int:
    """Move the answers into the PostgreSQL database that the config names."""
    url = project.settings.database
    if url is None:
        what, mend = "names no database to move the answers to.", "Add: label.database=postgresql://user@host/name"
        raise ConfigError("label.database", what, mend)
    events = move_to_postgres(project.directory, url)
    if events is None:
        say("label", f"the answers are in {url} already")
    else:
        say("label", f"moved the log of {events} events from {project.directory} to {url}")
    return NOTHING_TO_DO


def find_comparisons(config: Experiment, store: Store, ref: str | None) -> Version | None:
    """The comparisons to label; None where the experiment has none yet."""
    name = artefact(config, "comparisons")
    return store.resolve(ref or name) if ref or name in store.names() else None


def being_sampled(project: LabellingProject, run: Run | None) -> bool:
    """Whether another process is sampling this experiment's items into the log."""
    if run is None or not project.directory.is_dir():
        return False
    with contextlib.closing(Log(project.directory, project.settings.database)) as log:
        return log.batches.current == project.batch(sampling_key(run))


def open_log(project: LabellingProject, run: Run | None, comparisons: Version | None, config: Experiment) -> Log:
    source = sampling_key(run) if run else comparisons.id if comparisons else ""
    return project.open(
        project.batch(source),
        {"config": str(config.path), "comparisons": comparisons.ref if comparisons else None},
    )


def session_for_relabelling(
    config: Experiment, store: Store, project: LabellingProject, log: Log
) -> LabellingSession:
    """A session over comparisons that another annotator has judged; it publishes its own version."""

    def open_draft(comparisons: Version, governance: dict[str, Any]) -> AbstractContextManager[Draft]:
        return store.draft(
            artefact(config, "preferences"),
            kind="preferences",
            stage="label",
            key=digest(["label", comparisons.id, project.learning]),
            parents=[(comparisons, "comparisons")],
            config={"name": config.name, "label": project.learning},
            seed=config.seed,
            governance={**governance, REQUIRED: asdict(config.governance)},
            republish_if_changed=True,
        )

    return LabellingSession(project, log, open_draft, None, f"make label CONFIG={config.path}")


def in_terminal(session: LabellingSession, name: str) -> None:
    """Label in the terminal, as ``name`` or as the first of ``label.annotators``."""
    settings = session.project.settings
    person = session.log.people.add(name or settings.annotators[0])
    guidelines = read_text(settings.guidelines, "label.guidelines") if settings.guidelines else None
    consent = session.project.consent()
    label_in_terminal(session.log, settings, person, consent, guidelines=guidelines, title=settings.title or "")


def training(config: Experiment, published: Version) -> str:
    """The command that trains on the published preferences."""
    if config.asks_people:
        return f"make reward CONFIG={config.path}"
    inputs = f"inputs={{preferences: {published.ref}}}"
    return f'make report CONFIG={config.path} ARGS="reward.{inputs} report.{inputs}"'
