"""One labelling session over one set of comparisons: the page, the stop rule, the published rows.

``collect`` samples or reads the comparisons; ``label`` takes published ones.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from pipeline.base.errors import DataError
from pipeline.base.process import say
from pipeline.base.records import bucket
from pipeline.labelling.items import Item, items_from
from pipeline.labelling.log_rows import publishable_rows
from pipeline.labelling.row_schemas import SPLITS
from pipeline.labelling.session.publishing import write_rows
from pipeline.labelling.votes_to_rows import Labelled

if TYPE_CHECKING:
    from pipeline.labelling.log.log import Log
    from pipeline.labelling.session.project import LabellingProject
    from pipeline.store.draft import Draft
    from pipeline.store.version import Version

OpenDraft = Callable[["Version", dict[str, Any]], AbstractContextManager["Draft"]]
"""A new ``preferences`` version, made from that version of comparisons, with this governance."""


class LabellingSession:
    """Asks people about comparisons, and publishes their answers.

    Args:
        open_draft: of the preferences.
        previous: a version whose rows stand before the new ones.
        mend: the command that goes on labelling.

    Attributes:
        comparisons: the version that is labelled; None while it is still being sampled.
        find_comparisons: looks for it again, where another process samples.
        published: the newest version of this session.
    """

    def __init__(
        self,
        project: LabellingProject,
        log: Log,
        open_draft: OpenDraft,
        previous: Version | None = None,
        mend: str = "make label",
    ) -> None:
        self.project, self.log, self.mend = project, log, mend
        self.comparisons: Version | None = None
        self.find_comparisons: Callable[[], Version | None] = lambda: None
        self.published: Version | None = None
        self._open_draft, self._previous = open_draft, previous
        self._lock = threading.Lock()
        self._server: Any = None

    @contextlib.contextmanager
    def page(self) -> Iterator[None]:
        """Serve the page while the block runs."""
        with self.project.page(self.log, self.publish) as self._server:
            yield
        self._server = None

    def add(self, items: Iterable[Item]) -> int:
        """Ask about these too, in the order that ``label.order`` says; returns how many are new."""
        items = list(items)
        sampled = self.project.settings.order == "sampled"
        return self.log.batches.add_items(items, None if sampled else [bucket(i.id, "order") for i in items])

    def ask_about(self, comparisons: Version) -> None:
        """Ask about the items of this version, which are all there are."""
        rows = ((s, row) for s in SPLITS if comparisons.has_split(s) for row in comparisons.iter_rows(s))
        self.add(items_from(rows, self.project.settings.mode, self.project.settings.rank_up_to))
        self.log.batches.finish()
        self.comparisons = comparisons

    def wait(self, stay: bool = False) -> None:
        """Wait until enough is answered, the operator has published (unless ``stay``), or Ctrl-C."""
        if self._server is None or self.project.enough(self.log):
            return
        say("label", "people label now; Ctrl-C ends the page and loses nothing")

        def over() -> bool:
            return self.project.enough(self.log) or (self.published is not None and not stay)

        with contextlib.suppress(KeyboardInterrupt):
            self.project.wait(self.log, self._server, over)

    def conclude(self) -> bool:
        """Publish where the stop rule holds; else say what is missing. Returns whether there is a version."""
        if self.project.enough(self.log):  # also where a version is published: answers may have come since
            say("label", self.publish())
        elif self.published is None:
            ready = self.log.batches.ready(self.project.settings.votes, self.project.settings.enough)
            say("label", f"{ready.sentence()}; nothing published. To go on: {self.mend}")
        return self.published is not None

    def publish(self) -> str:
        """Publish the rows that follow from the answers so far; returns the operator's message.

        Raises:
            DataError: completions are still being sampled, or a split would have no row to learn from.
        """
        with self._lock:
            self.comparisons = self.comparisons or self.find_comparisons()
            if self.comparisons is None:
                raise DataError(
                    str(self.project.directory), "completions are still being sampled.", "Publish later."
                )
            labelled = publishable_rows(self.log, self.project.settings)
            self._require_rows(labelled)
            governance = {"consent": "each person's own; votes.consent is the sha256 of the text agreed to"}
            with self._open_draft(self.comparisons, governance) as draft:
                write_rows(draft, labelled, self._previous)
                draft.stats.update(labelled.counts, annotator="human", label=self.project.learning)
            self.published = draft.version
            counts = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in labelled.counts.items() if n)
            return f"{draft.version.ref}: {counts}"

    def _require_rows(self, labelled: Labelled) -> None:
        for split in SPLITS:
            if not (labelled.preferences[split] or labelled.unpaired[split]):
                counts = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in labelled.counts.items())
                raise DataError(
                    str(self.project.directory),
                    f"split {split} would hold nothing to learn from ({counts}).",
                    "Label more, or change collect.test_share.",
                )
