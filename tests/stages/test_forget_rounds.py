"""Forgetting a person after an experiment has gone round twice, through the stages that people run."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pipeline import __main__ as command
from pipeline.core.shards import read_batches
from pipeline.labelling.items import Item, order_of
from pipeline.labelling.log import Log, NewEvent
from tests.stages.conftest import Project

LEAVER, SECOND, THIRD = "Leaver Name", "Second Name", "Third Name"
NOTE = "a note in the words of the one who leaves"
EDIT = "an answer in the words of the one who leaves"


class Sessions:
    """Two rounds of collecting from three people and training on what they said.

    Attributes:
        ids: of the people, by name; of the log that ``collect`` opened.
    """

    def __init__(self, root: Path) -> None:
        self.project = Project(root)
        self.round = 0
        self.ids: dict[str, str] = {}

    @property
    def data(self) -> Path:
        return self.project.root / "data"

    def write(self, **collect: Any) -> None:
        self.project.write(
            collect={
                "annotator": "human", "comparisons": 30, "test_share": 0.4, "serve": False, **collect,
            },
            label={"annotators": [LEAVER, SECOND, THIRD], "ask": ["note", "edit"]},
            ppo={"total_episodes": 16},
            evaluate={"prompts": 10},
        )  # fmt: skip

    def collect(self) -> None:
        """Sample comparisons, answer all of them, and publish."""
        self.round += 1
        assert self.project.run("collect") == 0
        with closing(Log(self.data / "mini-labels")) as log:
            self.ids = {name: log.add_person(name).id for name in (LEAVER, SECOND, THIRD)}
            for who in self.ids.values():
                agreed = {"version": "1", "sha256": "0" * 64}
                log.append(NewEvent(f"consent-{self.round}-{who}", "consent", who, None, agreed))
            for n, item in enumerate(list(log.items())):
                self.answer(log, n, item)
        assert self.project.run("collect") == 0

    def answer(self, log: Log, n: int, item: Item) -> None:
        def say(who: str, kind: Any, **payload: Any) -> None:
            key = hashlib.sha256(repr((who, kind, item.id)).encode()).hexdigest()
            log.append(NewEvent(key, kind, who, item.id, payload, 2000))

        names = list(self.ids)
        who = self.ids[names[n % 3]]
        note = NOTE if n % 3 == 0 else ""
        if n == 3:
            say(who, "skip", reason="not my subject", note=NOTE)
            who = self.ids[SECOND]
            note = ""
        say(who, "vote", choice="ab"[n % 2], order=list(order_of(item.id, who, log.salt, 2)), note=note)
        if n % 9 == 6:
            say(who, "edit", completion=1, text=EDIT)
            say(who, "flag", on=True, reason="other", note=NOTE)

    def forget(self, *args: str) -> int:
        return command.main(["data", "forget", *args, "--root", str(self.data)])


def contents(root: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file's name and bytes, Parquet decoded; of a database every page, free ones too."""
    for path in sorted(root.rglob("*")):
        content = str(path.relative_to(root)).encode()
        if path.is_file():
            content += path.read_bytes()
            if path.suffix == ".parquet":
                rows = [r for b in read_batches([path], "test") for r in b.to_pylist()]
                content += json.dumps(rows, ensure_ascii=False).encode()
        yield path, content


def holding(root: Path, text: str) -> list[str]:
    return [str(path.relative_to(root)) for path, content in contents(root) if text.encode() in content]


def test_after_two_rounds_nothing_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sessions = Sessions(tmp_path)
    project = sessions.project
    sessions.write()
    assert project.run("sft") == 0
    sessions.collect()
    for stage in ("reward", "ppo", "evaluate", "report"):
        assert project.run(stage) == 0
    first = project.latest("preferences")
    sessions.write(inputs={"policy": project.latest("policy").ref, "previous": first.ref})
    sessions.collect()
    assert project.run("reward") == 0
    second = project.latest("preferences")
    assert [p.ref for p in second.manifest.parents if p.role == "previous"] == [first.ref]
    leaver = sessions.ids[LEAVER]
    texts = (leaver, LEAVER, NOTE, EDIT)
    before = {text: holding(sessions.data, text) for text in texts}
    # So that the search is known to look where it should.
    for name in ("mini-reward/versions/v000001/manifest.json", "mini-report/versions/v000001/report.html"):
        assert name in before[leaver], before
    print(before)
    assert all(before.values())
    capsys.readouterr()
    assert sessions.forget(LEAVER, "--yes") == 0
    assert {text: holding(sessions.data, text) for text in texts} == dict.fromkeys(texts, [])
