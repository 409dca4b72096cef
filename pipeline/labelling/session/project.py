"""People, on a page that this machine serves: what they are asked, the page while it is open, what is published.

Their votes are in a log that outlives the run (:mod:`pipeline.labelling.log.log`); a run adds items to it, waits
for votes, and publishes. Everything about the page is the ``label`` section's, not ``annotator_args``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.base.errors import DataError
from pipeline.base.process import say
from pipeline.base.records import digest
from pipeline.formats.detect import COLUMNS, Notices
from pipeline.formats.inspection import look_at_head
from pipeline.formats.read_options import JudgedSet
from pipeline.labelling import own_data
from pipeline.labelling.log.log import Log
from pipeline.labelling.log_rows import publishable_rows
from pipeline.labelling.settings import LabelSection
from pipeline.labelling.votes_to_rows import Labelled
from pipeline.labelling.web.context import Consent
from pipeline.store.store import Store
from pipeline.workflow.experiment import Experiment
from pipeline.workflow.typed_keys import parse_options
from pipeline.workflow.work_key import LABEL_LEARNING


class Human:
    """See the module's text.

    Args:
        label: the ``label`` section as given.
        directory: of the log, ``data/<name>-labels``.
        where: the config, for messages.
    """

    name = "human"

    @classmethod
    def of(cls, config: Experiment, store: Store) -> Human:
        """Those of an experiment."""
        return cls(config.chosen.get("label", {}), store.home(f"{config.name}-labels"), str(config.path))

    def __init__(self, label: Mapping[str, Any], directory: Path, where: str) -> None:
        self.settings = parse_options(LabelSection, label, where, prefix="label.")
        self.directory, self.where = directory, where

    @property
    def learning(self) -> dict[str, Any]:
        """The settings that decide what is published."""
        return {k: v for k, v in vars(self.settings).items() if k in LABEL_LEARNING}

    def batch(self, comparisons: str) -> str:
        """The name of the items of one set of comparisons: of what made them, and of how they are asked about."""
        return digest([comparisons, self.settings.mode, self.settings.rank_up_to])

    def own_groups(self, notices: Notices) -> Iterator[tuple[str, tuple[str, ...]]] | None:
        """(prompt, completions) of each row of ``label.dataset``; None where completions are sampled.

        ``notices`` collects what the reader did that should be said.
        """
        source = self.settings.dataset
        if source is None:
            return None
        columns = {ours: theirs for ours, theirs in self.settings.columns.items() if ours in COLUMNS}
        with contextlib.suppress(DataError):  # reading says it in the page's own words
            say("label", look_at_head(JudgedSet(source, columns=columns), f"{self.where}: label.dataset"))
        return own_data.own_groups(source, self.settings.columns, self.where, notices=notices)

    def open(self, batch: str, about: Mapping[str, Any]) -> Log:
        """The log, with ``batch`` as the set of items that is asked about, known answers among them."""
        log = Log(self.directory)
        log.batches.open(batch, dict(about))
        if self.settings.gold is not None:
            log.batches.add_items(
                own_data.gold_items(self.settings.gold, self.settings.columns, self.settings.mode, self.where)
            )
        return log

    def enough(self, log: Log) -> bool:
        """Whether the stop rule holds: ``label.enough`` items, or all, have ``label.votes`` answers."""
        return log.batches.whole and log.batches.ready(self.settings.votes, self.settings.enough).enough

    @contextlib.contextmanager
    def page(self, log: Log, publish: Callable[[], str] | None) -> Iterator[Any]:
        """The page, while the block runs; yields the :class:`pipeline.labelling.web.server.Server`.

        Args:
            publish: what the operator's button does; gives the sentence to show.
        """
        from pipeline.labelling.web.server import Server

        for name in self.settings.annotators:
            log.people.add(name)
        project = self.settings.title or self.directory.name.removesuffix("-labels")
        with Server(log, self.settings, project, publish) as server:
            for name, url in server.links():
                say("label", f"{name}: {url}")
            yield server

    def wait(self, log: Log, server: Any, until: Callable[[], bool]) -> None:
        """Show how many items are done until ``until`` holds; Ctrl-C ends it too, as KeyboardInterrupt."""
        from tqdm import tqdm

        with tqdm(total=log.batches.ready(self.settings.votes, self.settings.enough).needed, unit="item") as bar:
            bar.set_description("labelled")

            def look() -> bool:
                ready = log.batches.ready(self.settings.votes, self.settings.enough)
                if (ready.needed, ready.done) != (bar.total, bar.n):
                    bar.total, bar.n = ready.needed, ready.done
                    bar.refresh()
                return until()

            server.wait(look)

    def consent(self) -> Consent:
        """What people agree to before their first vote."""
        from pipeline.labelling.web.server import read_consent

        return read_consent(self.settings.consent)

    def labelled(self, log: Log) -> Labelled:
        """The rows that the votes of the current batch amount to; see :func:`log_rows.publishable_items`."""
        return publishable_rows(log, self.settings)
