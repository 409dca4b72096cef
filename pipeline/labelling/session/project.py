"""An experiment's labelling project: settings, log and page.

The log outlives a run, which adds items to it, waits for votes, and publishes. The page is configured in the
section ``label``, not in ``annotator_args``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pipeline.base.errors import ConfigError, DataError
from pipeline.base.plugins import task_class
from pipeline.base.process import say
from pipeline.base.records import digest
from pipeline.formats.detect import COLUMNS, Notices
from pipeline.formats.inspection import look_at_head
from pipeline.formats.read_options import JudgedSet
from pipeline.labelling import own_data
from pipeline.labelling.log.log import Log
from pipeline.labelling.settings import LabelSection
from pipeline.labelling.web.context import RENDERERS, Consent
from pipeline.labelling.web.server import Server, read_consent
from pipeline.store.store import Store
from pipeline.workflow.experiment import Experiment
from pipeline.workflow.key_checks.unknown_and_mistyped import parse_options
from pipeline.workflow.work_key import LABEL_LEARNING


class LabellingProject:
    """Opens the log and serves the page.

    Args:
        label: the ``label`` section of the config.
        directory: of the log, ``data/<name>-labels``.
        where: the config's path, for messages.
        renderer: what draws the texts on the page; see :func:`renderer_of`.
    """

    @classmethod
    def of(cls, config: Experiment, store: Store) -> LabellingProject:
        """The project of an experiment."""
        directory = store.home(f"{config.name}-labels")
        return cls(config.chosen.get("label", {}), directory, str(config.path), renderer_of(config))

    def __init__(self, label: Mapping[str, Any], directory: Path, where: str, renderer: str | None = None) -> None:
        self.settings = parse_options(LabelSection, label, where, prefix="label.")
        self.directory, self.where, self.renderer = directory, where, renderer

    @property
    def learning(self) -> dict[str, object]:
        """The settings that determine the published rows."""
        return {k: v for k, v in vars(self.settings).items() if k in LABEL_LEARNING}

    def batch(self, comparisons: str) -> str:
        """The name of the batch of one set of comparisons in this mode."""
        return digest([comparisons, self.settings.mode, self.settings.rank_up_to])

    def own_groups(self, notices: Notices) -> Iterator[tuple[str, tuple[str, ...]]] | None:
        """(prompt, completions) of each row of ``label.dataset``; None where completions are sampled."""
        source = self.settings.dataset
        if source is None:
            return None
        columns = {ours: theirs for ours, theirs in self.settings.columns.items() if ours in COLUMNS}
        with contextlib.suppress(DataError):  # own_groups raises it
            say("label", look_at_head(JudgedSet(source, columns=columns), f"{self.where}: label.dataset"))
        return own_data.own_groups(source, self.settings.columns, self.where, notices=notices)

    def open(self, batch: str, about: Mapping[str, Any]) -> Log:
        """Open the log; make ``batch`` the current one, with the gold items in it."""
        log, s = Log(self.directory, self.settings.database), self.settings
        log.batches.open(batch, dict(about))
        if s.gold is not None:
            log.batches.add_items(own_data.gold_items(s.gold, s.columns, s.mode, self.where))
        return log

    def enough(self, log: Log) -> bool:
        """Whether the stop rule holds: ``label.enough`` items, or all, have ``label.votes`` answers."""
        return log.batches.whole and log.batches.ready(self.settings.votes, self.settings.enough).enough

    @contextlib.contextmanager
    def page(self, log: Log, publish: Callable[[], str] | None) -> Iterator[Server]:
        """Serve the page while the block runs; ``publish`` is the operator's button, and returns its message."""
        for name in self.settings.annotators:
            log.people.add(name)
        project = self.settings.title or self.directory.name.removesuffix("-labels")
        with Server(log, self.settings, project, publish, self.renderer) as server:
            for name, url in server.links():
                say("label", f"{name}: {url}")
            yield server

    def wait(self, log: Log, server: Server, until: Callable[[], bool]) -> None:
        """Show a progress bar of done items until ``until`` holds. Raises KeyboardInterrupt at Ctrl-C."""
        with tqdm(total=log.batches.ready(self.settings.votes, self.settings.enough).needed, unit="item") as bar:
            bar.set_description("labelled")

            def refresh() -> bool:
                ready = log.batches.ready(self.settings.votes, self.settings.enough)
                if (ready.needed, ready.done) != (bar.total, bar.n):
                    bar.total, bar.n = ready.needed, ready.done
                    bar.refresh()
                return until()

            server.wait(refresh)

    def consent(self) -> Consent:
        """The text that people agree to before their first vote."""
        return read_consent(self.settings.consent)


def renderer_of(config: Experiment) -> str | None:
    """What draws the texts of the experiment's task on the page (``renderer`` of the task); None shows texts.

    Raises:
        ConfigError: the page has no such renderer.
    """
    where = str(config.path)
    task = parse_options(task_class(config.task, where), config.task_args, where, prefix="task_args.")
    name: str | None = getattr(task, "renderer", None)
    if name is not None and name not in RENDERERS:
        raise ConfigError(
            where, f'task "{config.task}" names the renderer "{name}".', f"There are: {', '.join(RENDERERS)}."
        )
    return name
