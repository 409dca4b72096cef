"""``collect`` with people: comparisons are sampled or read, shown as they come, and published when labelled.

Any number of days may lie between sampling and the last vote: what people said is in the log, and the same command
goes on with it. Sampling again is never needed for a changed stop rule or aggregation.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from pipeline.base.process import say
from pipeline.base.records import COMPARISONS, Comparison, digest
from pipeline.formats.detect import Notices
from pipeline.labelling.items import Item
from pipeline.labelling.log.log import Log
from pipeline.labelling.session.project import Human
from pipeline.labelling.session.session import SPLITS, Sitting
from pipeline.store.store import Draft, Version
from pipeline.workflow.graph import artefact, hub_datasets
from pipeline.workflow.stage import Run
from pipeline.workflow.work_key import fingerprint, learning_part, local_files, output_format

Row = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """What the stage passes in.

    Attributes:
        sampled: starts sampling; gives (split, comparison) one by one, and the counts when it is over.
        side: the split of somebody's own completions, None for neither.
    """

    sampled: Callable[[], tuple[Iterator[tuple[str, Comparison]], Callable[[], Row]]]
    side: Callable[[str, Sequence[str]], str | None]
    write_prompts: Callable[[], None]
    serve: bool


def ask(run: Run, asked: Asked) -> None:
    """Write ``prompts`` and ``comparisons`` as soon as they are there, ``preferences`` when it is enough."""
    config = run.config
    human = Human.of(config, run.store)
    sampling = sampling_key(run)
    log = human.open(human.batch(sampling), {"config": str(config.path)})
    with contextlib.closing(log):
        sitting = sitting_of(run, human, log)
        with sitting.page() if asked.serve else contextlib.nullcontext():
            made = sampled_before(run, sampling)
            if made is None or made.manifest.key != run.key:
                asked.write_prompts()
                with run.draft("comparisons") as draft:
                    if made is None:
                        write_comparisons(draft, sampling, asked, sitting)
                    else:  # only what counts as enough, or as decided, has changed since
                        for split in SPLITS:
                            draft.write_rows(split, [], carry=made)
                        draft.stats.update(made.manifest.stats)
                made = draft.version
            sitting.ask_about(made)
            order(sitting, run)
            sitting.wait()
        sitting.conclude()


def sitting_of(run: Run, human: Human, log: Log) -> Sitting:
    """A sitting that publishes as ``collect`` does, under its key, as often as there is more."""

    def open_draft(made: Version, governance: Row) -> AbstractContextManager[Draft]:
        return run.draft("preferences", parents=[(made, "comparisons")], governance=governance, again=True)

    previous = run.version("previous") if "previous" in run.inputs else None
    return Sitting(human, log, open_draft, previous, f"make label CONFIG={run.config.path}")


def order(sitting: Sitting, run: Run) -> None:
    """Under ``label.order: active``, put first what the reward model is least sure of."""
    settings = sitting.human.settings
    if settings.order != "active":
        return
    sources = settings.reward or artefact(run.config, "reward")
    if settings.reward is None and sources not in run.store.names():
        say("label", f"order: active, but there is no {sources} yet: the order is random")
        return
    from pipeline.stages.label_order import priorities

    found = priorities(run, list(sitting.log.batches.items()), sources)
    sitting.log.batches.set_priorities(found)
    say("label", f"{len(found)} items in the order of how unsure {sources} is")


def sampling_key(run: Run) -> str:
    """What decides which comparisons people get, less what is only about their answers."""
    part = learning_part(run.config, "collect")
    part["label"] = {k: v for k, v in part["label"].items() if k in ("dataset", "columns")}
    inputs = {role: fingerprint(found) for role, found in run.inputs.items() if role != "previous"}
    files = local_files(part) + [d["commit"] for d in hub_datasets(part) if d["commit"]]
    return digest([part, inputs, files, output_format("collect")])


def sampled_before(run: Run, sampling: str) -> Version | None:
    """The newest comparisons that were sampled in this way."""
    return next((v for v in run.made_before("comparisons") if v.manifest.stats.get("sampling") == sampling), None)


def write_comparisons(draft: Draft, sampling: str, asked: Asked, sitting: Sitting) -> None:
    """Sample completions, or read the user's own, and show pairs to people as soon as they are there."""
    rows: dict[str, dict[str, Row]] = {split: {} for split in SPLITS}
    report: Row = {"read": 0, "straddling_the_split": 0}
    feed = Feed(sitting)

    def take(split: str, prompt: str, completions: tuple[str, ...]) -> None:
        a, b = (*completions, None)[:2]
        row_id = digest([prompt, *completions])
        if row_id not in rows[split]:
            rows[split][row_id] = {"id": row_id, "prompt": prompt, "completion_a": a, "completion_b": b}
            feed.add(split, prompt, completions)

    notices = Notices()
    own = sitting.human.own_groups(notices)
    if own is None:
        comparisons, counts = asked.sampled()
        for split, c in comparisons:
            take(split, c.prompt, (c.completion_a, c.completion_b))
        report = counts()
    else:
        for prompt, completions in own:
            for some in combinations(completions, 2) if len(completions) > 1 else [completions]:
                split = asked.side(prompt, some)
                report["read"] += 1
                report["straddling_the_split"] += split is None
                if split is not None:
                    take(split, prompt, some)
        for line in notices.lines():
            say("label", f"{sitting.human.settings.dataset}: {line}")
        report |= {"notices": lines} if (lines := notices.lines()) else {}
    for split in SPLITS:
        draft.write_rows(split, rows[split].values(), schema=COMPARISONS)
    draft.stats.update(report, sampling=sampling)


class Feed:
    """Gives pairs to the sitting about once a second: every transaction of the log waits for the disk.

    The other modes need all completions of a prompt, and get their items when all are there.
    """

    def __init__(self, sitting: Sitting) -> None:
        self._sitting = sitting
        self._waiting: list[Item] = []
        self._last = time.monotonic()

    def add(self, split: str, prompt: str, completions: tuple[str, ...]) -> None:
        if self._sitting.human.settings.mode == "pairwise" and len(completions) == 2:
            self._waiting.append(Item(prompt, completions, "pairwise", split))
        if self._waiting and time.monotonic() - self._last > 1:
            self._sitting.add(self._waiting)
            self._waiting, self._last = [], time.monotonic()
