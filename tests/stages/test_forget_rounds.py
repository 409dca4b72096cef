"""Forgetting a person after an experiment has gone round twice, through the stages that people run."""

from __future__ import annotations

import hashlib
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pipeline import __main__ as command
from pipeline.base.errors import StoreError
from pipeline.labelling.items import Item, order_of
from pipeline.labelling.log.log import Log
from tests.helpers.traces import holding
from tests.stages.conftest import Project
from tests.unit.labelling.helpers import agree, new_event

LEAVER, SECOND, THIRD = "Leaver Name", "Second Name", "Third Name"
NOTE = "a note in the words of the one who leaves"
EDIT = "an answer in the words of the one who leaves"


class Sessions:
    """Two rounds of collecting from three people and training on what they said.

    Attributes:
        ids: of the people, by name; of the log that ``collect`` opened.
        inputs: versions that ``collect`` reads besides.
        collecting: keys of ``collect``.
    """

    def __init__(self, root: Path) -> None:
        self.project = Project(root)
        self.round = 0
        self.ids: dict[str, str] = {}
        self.inputs: dict[str, str] = {}
        self.collecting: dict[str, Any] = {
            "annotator": "human",
            "annotator_args": {},
            "comparisons": 30,
            "test_share": 0.4,
            "serve": False,
        }

    @property
    def data(self) -> Path:
        return self.project.root / "data"

    def write(self, **collect: Any) -> None:
        """The config, with these keys of ``collect`` from now on."""
        self.collecting |= collect
        self.project.write(
            collect={**self.collecting, "inputs": self.inputs},
            label={"annotators": [LEAVER, SECOND, THIRD], "ask": ["note", "edit"]},
            ppo={"total_episodes": 16},
            evaluate={"prompts": 10},
        )

    def collect(self) -> None:
        """Sample comparisons, answer all of them, and publish."""
        self.round += 1
        assert self.project.run("collect") == 0
        with closing(Log(self.data / "mini-labels")) as log:
            self.ids = {name: log.people.add(name).id for name in (LEAVER, SECOND, THIRD)}
            for who in self.ids.values():
                agree(log, who)
            for n, item in enumerate(list(log.batches.items())):
                self.answer(log, n, item)
        assert self.project.run("collect") == 0

    def answer(self, log: Log, n: int, item: Item) -> None:
        def say(who: str, kind: Any, **payload: Any) -> None:
            key = hashlib.sha256(repr((who, kind, item.id)).encode()).hexdigest()
            log.events.append(new_event(kind, who, item, key=key, **payload))

        names = list(self.ids)
        who = self.ids[names[n % 3]]
        note = NOTE if n % 3 == 0 else ""
        if n == 3:
            say(who, "skip", reason="not my subject", note=NOTE)
            who = self.ids[SECOND]
            note = ""
        say(who, "vote", choice="ab"[n % 2], order=order_of(item.id, who, log.people.salt, 2), note=note)
        if n % 9 == 6:
            say(who, "edit", completion=1, text=EDIT)
            say(who, "flag", on=True, reason="other", note=NOTE)

    def forget(self, *args: str) -> int:
        return command.main(["data", "forget", *args, "--root", str(self.data)])


def search(sessions: Sessions) -> dict[str, list[str]]:
    return {text: holding(sessions.data, text) for text in (sessions.ids[LEAVER], LEAVER, NOTE, EDIT)}


def forgotten_after_two_rounds(sessions: Sessions, also_naming: list[str]) -> None:
    """Forget the one who leaves, look everywhere, and go on with the second round.

    Args:
        also_naming: files with figures by person, so that the search is known to look where it should.
    """
    project, leaver = sessions.project, sessions.ids[LEAVER]
    before = search(sessions)
    assert all(before.values())
    assert set(also_naming) <= set(before[leaver])
    assert sessions.forget(LEAVER, "--yes") == 0
    assert not any(search(sessions).values())
    with closing(Log(sessions.data / "mini-labels")) as log:
        assert sorted(p.name for p in log.people.all()) == [SECOND, THIRD]
    for name in project.store.names():
        assert [problem for v in project.store.versions(name) for problem in v.verify()] == []
    # What others said in the first round is carried into the successor of the second.
    third, fourth = project.store.resolve("mini-preferences@v3"), project.latest("preferences")
    assert [p.ref for p in fourth.manifest.parents if p.role == "previous"] == [third.ref]
    assert fourth.rows()[: len(third.rows())] == third.rows()
    for role in ("prompts", "comparisons"):
        assert [v.number for v in project.store.versions(f"mini-{role}")] == [1, 2]
    assert sessions.forget(leaver, "--yes") == 0
    # Whoever names the erased version is told what took its place, with which the work is done.
    with pytest.raises(StoreError, match=r"was erased.*Name mini-preferences@v000003, which has taken its place"):
        project.run("collect", "--check")
    sessions.inputs["previous"] = third.ref
    sessions.write()
    assert project.run("collect", "--check") == 0


@pytest.mark.thorough
def test_after_two_rounds_nothing_is_left(tmp_path: Path) -> None:
    """Seen failing for ever: prompts and comparisons of the second round have the parent ``previous`` too."""
    sessions = Sessions(tmp_path)
    project = sessions.project
    sessions.write()
    assert project.run("sft") == 0
    sessions.collect()
    sessions.inputs["previous"] = project.latest("preferences").ref
    sessions.write(temperature=1.5)
    sessions.collect()
    assert project.run("reward") == 0
    forgotten_after_two_rounds(sessions, ["mini-reward/versions/v000001/manifest.json"])


@pytest.mark.slow
def test_after_two_rounds_of_all_stages_nothing_is_left(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    project = sessions.project
    sessions.write()
    assert project.run("sft") == 0
    sessions.collect()
    for stage in ("reward", "ppo", "evaluate", "report"):
        assert project.run(stage) == 0
    sessions.inputs = {"policy": project.latest("policy").ref, "previous": project.latest("preferences").ref}
    sessions.write()
    sessions.collect()
    for stage in ("reward", "ppo", "evaluate", "report"):
        assert project.run(stage) == 0
    reports = [f"mini-report/versions/v00000{n}/report.html" for n in (1, 2)]
    rewards = [f"mini-reward/versions/v00000{n}/manifest.json" for n in (1, 2)]
    forgotten_after_two_rounds(sessions, reports + rewards)
    for stage in ("reward", "ppo", "evaluate", "report"):
        assert project.run(stage) == 0
    assert not any(search(sessions).values())
