"""label: the page on which people label the comparisons of an experiment.

Under ``collect.annotator: human`` what it publishes is what ``collect`` waits for. Under any other annotator it is
a new version of the preferences by people, beside the others.
"""

from __future__ import annotations

import argparse
import contextlib
from contextlib import AbstractContextManager
from typing import Any

from pipeline.base.errors import StoreError
from pipeline.base.process import say
from pipeline.base.records import digest
from pipeline.labelling.log.log import Log
from pipeline.labelling.session.project import Human
from pipeline.labelling.session.session import Sitting
from pipeline.stages.people import order, sampled_before, sampling_key, sitting_of
from pipeline.store.store import Draft, Store, Version
from pipeline.workflow.config import load_config
from pipeline.workflow.experiment import Experiment
from pipeline.workflow.graph import artefact
from pipeline.workflow.stage import NOTHING_TO_DO, WORK_TO_DO, Planner, Run


def main(argv: list[str] | None = None) -> int:
    """Serve the page until enough is labelled, or Ctrl-C; publish then, and whenever the operator says so."""
    args = parser().parse_args(argv)
    config = load_config(args.config, args.overrides)
    store = Store(config.data_dir)
    human = Human.of(config, store)
    run = Planner(config, store).plan("collect") if config.asks_people else None
    made = sampled_before(run, sampling_key(run)) if run else named(config, store, args.comparisons)
    if args.check:
        return NOTHING_TO_DO if made is not None or being_sampled(human, run) else WORK_TO_DO
    if made is None and not being_sampled(human, run):
        raise StoreError(
            f"{store.root}/{artefact(config, 'comparisons')}",
            "there is nothing to label yet.",
            f"Run: make collect CONFIG={config.path}",
        )
    with contextlib.closing(open_log(human, run, made, config)) as log:
        sitting = sitting_of(run, human, log) if run else beside(config, store, human, log)
        if made is not None:
            sitting.ask_about(made)
        elif run is not None:
            sitting.find = lambda: sampled_before(run, sampling_key(run))
        if args.publish:
            say("label", sitting.publish())
        elif args.terminal is not None:
            in_terminal(sitting, args.terminal)
            sitting.conclude()
        else:
            with sitting.page():
                if made is not None:
                    order(sitting, run or Planner(config, store).plan("collect"))
                sitting.wait(stay=True)
            sitting.conclude()
        if sitting.published is not None:
            say("label", f"train on it: {training(config, sitting.published)}")
    return NOTHING_TO_DO


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m pipeline.label", description=__doc__)
    made.add_argument("--config", default="configs/demo.yaml", help="experiment (default: %(default)s)")
    made.add_argument("--check", action="store_true", help="only say whether there is something to label: 0 or 3")
    made.add_argument("--comparisons", metavar="REF", help="label these; by default the newest of the experiment")
    made.add_argument("--terminal", metavar="NAME", nargs="?", const="", help="label here, without a page")
    made.add_argument("--publish", action="store_true", help="publish what is labelled, and end")
    made.add_argument("--fresh", action="store_true", help=argparse.SUPPRESS)  # make passes it to every stage
    made.add_argument("overrides", nargs="*", metavar="section.key=value", help="such as label.port=9000")
    return made


def named(config: Experiment, store: Store, ref: str | None) -> Version | None:
    """The comparisons to label; None where the experiment has none yet."""
    name = artefact(config, "comparisons")
    return store.resolve(ref or name) if ref or name in store.names() else None


def being_sampled(human: Human, run: Run | None) -> bool:
    """Whether another process is filling the log with this experiment's items."""
    if run is None or not human.directory.is_dir():
        return False
    with contextlib.closing(Log(human.directory)) as log:
        return log.batches.current == human.batch(sampling_key(run))


def open_log(human: Human, run: Run | None, made: Version | None, config: Experiment) -> Log:
    asked = sampling_key(run) if run else made.id if made else ""
    return human.open(human.batch(asked), {"config": str(config.path), "comparisons": made.ref if made else None})


def beside(config: Experiment, store: Store, human: Human, log: Log) -> Sitting:
    """A sitting over comparisons that somebody else judged too; publishes a version of its own."""

    def open_draft(made: Version, governance: dict[str, Any]) -> AbstractContextManager[Draft]:
        return store.draft(
            artefact(config, "preferences"),
            kind="preferences",
            stage="label",
            key=digest(["label", made.id, human.learning]),
            parents=[(made, "comparisons")],
            config={"name": config.name, "label": human.learning},
            seed=config.seed,
            governance=governance,
            again=True,
        )

    return Sitting(human, log, open_draft, None, f"make label CONFIG={config.path}")


def in_terminal(sitting: Sitting, name: str) -> None:
    """Label here, as ``name`` or as the first of ``label.annotators``."""
    from pipeline.labelling.terminal import session
    from pipeline.labelling.web.server import read_text

    settings = sitting.human.settings
    person = sitting.log.people.add(name or settings.annotators[0])
    guidelines = read_text(settings.guidelines, "label.guidelines") if settings.guidelines else None
    consent = sitting.human.consent()
    session.label(sitting.log, settings, person, consent, guidelines=guidelines, title=settings.title or "")


def training(config: Experiment, published: Version) -> str:
    """The command that trains on what was published."""
    if config.asks_people:
        return f"make reward CONFIG={config.path}"
    given = f"inputs={{preferences: {published.ref}}}"
    return f'make report CONFIG={config.path} ARGS="reward.{given} report.{given}"'
