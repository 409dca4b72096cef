"""One labelling session over one set of comparisons, sampled by ``collect`` or published before (``label``)."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
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
from pipeline.texts.personal_data.count import STATS
from pipeline.texts.personal_data.scrub import scrubbed_text

if TYPE_CHECKING:
    from pipeline.labelling.log.log import Log
    from pipeline.labelling.session.project import LabellingProject
    from pipeline.store.draft import Draft
    from pipeline.store.version import Version

OpenDraft = Callable[["Version", dict[str, Any]], AbstractContextManager["Draft"]]
"""Opens a draft of ``preferences`` for a version of comparisons, with this governance."""


class LabellingSession:
    """Asks people about comparisons, and publishes their answers.

    Args:
        open_draft: opens the draft of the preferences.
        previous: a version whose rows come before the new ones.
        resume_command: what a user runs to continue labelling.
        scrub: put placeholders in the place of personal data in what people wrote.

    Attributes:
        comparisons: the labelled version; None while it is being sampled.
        find_comparisons: looks it up again, where another process samples it.
        published: the newest version of this session.
    """

    def __init__(
        self,
        project: LabellingProject,
        log: Log,
        open_draft: OpenDraft,
        previous: Version | None = None,
        resume_command: str = "make label",
        scrub: bool = False,
    ) -> None:
        self.project, self.log, self.resume_command = project, log, resume_command
        self.comparisons: Version | None = None
        self.find_comparisons: Callable[[], Version | None] = lambda: None
        self.published: Version | None = None
        self._open_draft, self._previous, self._scrub = open_draft, previous, scrub
        self._lock = threading.Lock()
        self._server: Any = None

    @contextlib.contextmanager
    def page(self) -> Iterator[None]:
        """Serve the page while the block runs."""
        with self.project.page(self.log, self.publish) as self._server:
            yield
        self._server = None

    def add(self, items: Iterable[Item]) -> int:
        """Add items in the order of ``label.order``; returns the number of new ones."""
        items = list(items)
        sampled = self.project.settings.order == "sampled"
        return self.log.batches.add_items(items, None if sampled else [bucket(i.id, "order") for i in items])

    def ask_about(self, comparisons: Version) -> None:
        """Add the items of this version and complete the batch."""
        rows = ((s, row) for s in SPLITS if comparisons.has_split(s) for row in comparisons.iter_rows(s))
        self.add(items_from(rows, self.project.settings.mode, self.project.settings.rank_up_to))
        self.log.batches.finish()
        self.comparisons = comparisons

    def wait(self, stay: bool = False) -> None:
        """Wait for the stop rule, for the operator to publish (unless ``stay``), or for Ctrl-C."""
        if self._server is None or self.project.enough(self.log):
            return
        say("label", "the page is open; Ctrl-C closes it and keeps every answer")

        def over() -> bool:
            return self.project.enough(self.log) or (self.published is not None and not stay)

        with contextlib.suppress(KeyboardInterrupt):
            self.project.wait(self.log, self._server, over)

    def conclude(self) -> bool:
        """Publish if the stop rule holds, else report progress. Returns whether there is a version."""
        if self.project.enough(self.log):  # also after a version was published: answers may be newer
            say("label", self.publish())
        elif self.published is None:
            ready = self.log.batches.ready(self.project.settings.votes, self.project.settings.enough)
            say("label", f"{ready.sentence()}; nothing published. To continue: {self.resume_command}")
        return self.published is not None

    def publish(self) -> str:
        """Publish the rows of the answers so far; returns the operator's message.

        Raises:
            DataError: completions are still being sampled, or a split would have no training row.
        """
        with self._lock:
            self.comparisons = self.comparisons or self.find_comparisons()
            if self.comparisons is None:
                what = "completions are still being sampled."
                raise DataError(str(self.project.directory), what, "Publish later.")
            replaced = Counter[str]()
            scrub = (lambda text: scrubbed_text(text, replaced)) if self._scrub else None
            labelled = publishable_rows(self.log, self.project.settings, scrub)
            self._require_rows(labelled)
            governance = {"consent": "each person's own; votes.consent is the sha256 of the text agreed to"}
            with self._open_draft(self.comparisons, governance) as draft:
                write_rows(draft, labelled, self._previous)
                draft.stats.update(labelled.counts, annotator="human", label=self.project.learning)
                draft.stats.update({STATS: dict(replaced)} if self._scrub else {})
            self.published = draft.version
            return f"{draft.version.ref}: {_spelled(labelled.counts)}"

    def _require_rows(self, labelled: Labelled) -> None:
        for split in SPLITS:
            if not (labelled.preferences[split] or labelled.unpaired[split]):
                counts = _spelled(labelled.counts)
                what = f"split {split} would have no training row ({counts})."
                raise DataError(str(self.project.directory), what, "Label more, or change collect.test_share.")


def _spelled(counts: Mapping[str, int]) -> str:
    """Counts in words, without those of nothing."""
    return ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in counts.items() if n)
