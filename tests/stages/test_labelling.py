"""From comparisons to a reward model through people: stages serve the page, clients answer over HTTP."""

from __future__ import annotations

import _thread
import json
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import PipelineError
from pipeline.labelling.log.log import Log
from pipeline.labelling.web import server
from pipeline.labelling.web.request_checks import Rate
from pipeline.stages import ask_people, label
from tests.helpers.free_port import free_port
from tests.helpers.label_client import Client
from tests.stages.conftest import Project


def longer(item: dict[str, Any]) -> dict[str, Any]:
    """A taste that can be checked afterwards, on the page's own terms."""
    a, b = item["completions"]
    return {"type": "vote", "choice": "tie" if len(a) == len(b) else "a" if len(a) > len(b) else "b"}


class People:
    """What the stage serves, while it runs in a thread of its own."""

    def __init__(self, project: Project, number: int) -> None:
        self.project, self.number = project, number

    def log(self) -> Log:
        return Log(self.project.root / "data" / "mini-labels")

    def client(self, name: str) -> Client:
        """Joins as soon as the page is there."""
        until = time.monotonic() + 60
        while True:
            try:
                log = self.log()
                tokens = {"operator": log.people.operator_token} | {p.name: p.token for p in log.people.all()}
                return Client(f"http://127.0.0.1:{self.number}/join/{tokens[name]}")
            except (KeyError, OSError, PipelineError):
                assert time.monotonic() < until
                time.sleep(0.05)


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """Ctrl-C works, also where the tests were started in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits: clients may answer faster than people, and the page looks often whether it is done."""
    monkeypatch.setattr(server, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(server, "LINGER_SECONDS", 0.02)
    monkeypatch.setattr(ask_people, "FEED_SECONDS", 0.2)
    monkeypatch.setattr(Rate, "check", lambda *_: None)


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A project that has a base and nothing else."""
    shutil.copytree(finished.root / "data" / "mini-base", tmp_path / "data" / "mini-base")
    made = Project(tmp_path)
    made.write()
    return made


@pytest.fixture
def people(project: Project) -> People:
    number = free_port()
    project.write(
        collect={"annotator": "human", "annotator_args": {}, "comparisons": 40, "test_share": 0.3},
        label={"annotators": ["p1", "p2"], "port": number},
    )
    return People(project, number)


def beside(stage: Callable[[], Any], visit: Callable[[], Any]) -> None:
    """Run ``visit`` in a thread while ``stage`` serves; what either raises is raised."""
    raised: list[BaseException] = []

    def come() -> None:
        try:
            visit()
        except BaseException as err:
            raised.append(err)
            _thread.interrupt_main()  # as Ctrl-C would end the page

    thread = threading.Thread(target=come, daemon=True)
    thread.start()
    try:
        stage()
    finally:
        if raised:
            raise raised[0]
    thread.join(20)


def test_from_the_page_to_a_reward_model(people: People) -> None:
    project = people.project
    beside(lambda: project.run("collect"), lambda: people.client("p1").label(longer))
    made = project.latest("preferences")
    rows = [row for split in ("train", "test") for row in made.iter_rows(split)]
    assert rows
    assert all(len(row["chosen"]) > len(row["rejected"]) for row in rows)
    person = next(p.id for p in people.log().people.all() if p.name == "p1")
    assert {row["annotator"] for row in rows} == {person}
    votes = [v for split in ("train", "test") for v in made.iter_rows(split, "votes")]
    assert len(votes) == made.manifest.stats["items"] == len(rows) + made.manifest.stats["ties"]
    assert all(v["consent"] for v in votes)
    assert [p.name for p in made.manifest.parents] == ["mini-base", "mini-comparisons"]
    # No name of a person is in what is published, or pushed.
    assert not any(b'"p1"' in f.read_bytes() for f in made.path.rglob("*") if f.is_file())
    project.run("reward")
    assert project.latest("reward").manifest.stats["pairs"] > 0
    assert project.run("collect", "--check") == 0


def test_people_label_while_completions_are_sampled(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.modeling.comparisons import Sampling

    project, voted = people.project, threading.Event()
    whole = Sampling.__iter__

    def slow(self: Sampling) -> Any:
        for n, pair in enumerate(whole(self)):
            if n == 20:
                time.sleep(0.4)  # longer than items wait for each other
            if n == 30:
                assert voted.wait(30)
            yield pair

    monkeypatch.setattr(Sampling, "__iter__", slow)

    def visit() -> None:
        client = people.client("p1")
        client.agree()
        while (found := client.get("next"))["item"] is None:
            assert found["why"] == "waiting"
            time.sleep(0.05)
        client.post(item=found["item"]["id"], ms=2000, **longer(found["item"]))
        voted.set()
        while people.log().batches.whole is False:
            time.sleep(0.05)
        client.label(longer)

    beside(lambda: project.run("collect", "collect.batch_size=2"), visit)
    assert (
        project.latest("preferences").manifest.stats["done"]
        == project.latest("comparisons").splits["train"] + (project.latest("comparisons").splits["test"])
    )


@pytest.mark.thorough
def test_days_apart_with_another_rule_in_between(people: People, capsys: pytest.CaptureFixture[str]) -> None:
    project = people.project
    project.run("collect", "collect.serve=false")
    assert "make label" in capsys.readouterr().out
    sampled = project.latest("comparisons")
    beside(lambda: label.main(["--config", str(project.config)]), lambda: people.client("p1").label(longer))
    first = project.latest("preferences")
    # Two votes each: nothing is sampled anew, and nobody is asked twice.
    twice = "label.votes=2"
    beside(lambda: project.run("collect", twice), lambda: people.client("p2").label(longer))
    second = project.latest("preferences")
    assert project.latest("comparisons").id == sampled.id
    assert second.manifest.stats["votes"] == 2 * first.manifest.stats["votes"]
    assert {r["annotator"] for r in second.iter_rows("train")} == {"majority:2"}
    assert project.run("collect", "--check", twice) == 0
    assert project.run("collect", "--check") == 0


@pytest.mark.thorough
def test_the_operator_publishes_early_and_more_follows(people: People) -> None:
    project = people.project

    def visit() -> None:
        people.client("p1").label(longer, most=25)
        assert people.client("operator").form("publish") == 303
        assert people.client("p1").label(longer, most=2) == 2  # the page is still there
        people.client("p1").label(longer)

    project.run("collect", "collect.serve=false")
    beside(lambda: label.main(["--config", str(project.config)]), visit)
    versions = project.store.versions("mini-preferences")
    assert [v.manifest.stats["done"] for v in versions] == [25, versions[-1].manifest.stats["items"]]
    assert len({v.manifest.key for v in versions}) == 1
    # The newest is what the next stage reads.
    project.run("reward")
    assert versions[-1].ref in {p.ref for p in project.latest("reward").manifest.parents}
    label.main(["--config", str(project.config), "--publish"])
    assert len(project.store.versions("mini-preferences")) == 2


def test_too_few_answers_publish_nothing_and_say_why(people: People) -> None:
    project = people.project
    project.run("collect", "collect.serve=false")
    with pytest.raises(PipelineError, match=r"would have no training row .*Label more"):
        label.main(["--config", str(project.config), "--publish"])
    assert "mini-preferences" not in project.store.names()


def test_what_is_flagged_as_personal_data_is_not_published(people: People) -> None:
    project, flagged = people.project, []

    def visit() -> None:
        client = people.client("p1")
        client.agree()
        while (found := client.get("next"))["item"] is None:
            time.sleep(0.05)
        item = found["item"]
        client.post("flag", item=item["id"], on=True, reason="personal data", note="")
        flagged.append(item)
        client.label(longer)

    beside(lambda: project.run("collect"), visit)
    made = project.latest("preferences")
    assert made.manifest.stats["personal_data"] == 1
    for config in ("default", "items", "votes", "outcomes"):
        rows = [json.dumps(r) for split in ("train", "test") for r in made.iter_rows(split, config)]
        assert rows
        assert not any(flagged[0]["id"] in row for row in rows)


def test_nothing_to_label_yet(people: People) -> None:
    assert label.main(["--config", str(people.project.config), "--check"]) == 3
    with pytest.raises(PipelineError, match="Run: make collect"):
        label.main(["--config", str(people.project.config)])


@pytest.mark.thorough
def test_comparisons_that_an_oracle_judged_are_judged_by_people_too(project: Project) -> None:
    number = free_port()
    project.write(label={"annotators": ["p1"], "port": number})
    project.run("collect")
    oracle = project.latest("preferences")
    someone = People(project, number)
    beside(lambda: label.main(["--config", str(project.config)]), lambda: someone.client("p1").label(longer))
    made = project.latest("preferences")
    assert made.number == oracle.number + 1
    assert made.manifest.stage == "label"
    assert [p.ref for p in made.manifest.parents] == [project.latest("comparisons").ref]
    # The experiment's own preferences are still the oracle's.
    assert project.run("collect", "--check") == 0
    project.run("reward", f"reward.inputs={{preferences: {made.ref}}}")
    assert made.ref in {p.ref for p in project.latest("reward").manifest.parents}


@pytest.mark.thorough
def test_what_the_reward_model_is_least_sure_of_comes_first(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipeline.stages.label_order import priorities
    from pipeline.workflow.config import load_config
    from pipeline.workflow.stage import Planner

    number = free_port()
    project.write(label={"annotators": ["p1"], "port": number, "order": "active"})
    project.run("collect")
    someone, asked = People(project, number), []

    def visit() -> None:
        client = someone.client("p1")
        client.agree()
        while not asked or len(asked) < 10:
            item = client.get("next")["item"]
            asked.append(item["id"])
            client.post(item=item["id"], ms=2000, **longer(item))
        _thread.interrupt_main()

    beside(lambda: label.main(["--config", str(project.config)]), visit)
    assert "there is no mini-reward yet: the order is random" in capsys.readouterr().out
    random_order, asked[:] = asked[:], []

    project.run("reward")
    log = someone.log()
    run = Planner(load_config(project.config), project.store).run_of("collect")
    found = priorities(run, list(log.batches.items()), "mini-reward")
    assert -0.7 < min(found.values()) < 0  # entropies, at most ln 2: the least sure has the lowest number
    expected = [i for i in sorted(found, key=lambda i: found[i]) if i not in random_order][:10]

    def visit_again() -> None:
        while next(log.batches.items()).id != min(found, key=lambda i: found[i]):
            time.sleep(0.05)
        visit()

    beside(lambda: label.main(["--config", str(project.config)]), visit_again)
    # The first one was given out before the reward model was loaded.
    assert set(asked[1:]) <= set(expected) | {asked[0]}
    assert asked[1:] == [i for i in expected if i != asked[0]][:9]


# The rows of each mode: tests/unit/labelling/test_votes_to_rows.py. This is the way through the stages.
@pytest.mark.thorough
@pytest.mark.parametrize(
    "mode",
    [
        "pairwise",
        pytest.param("ranking", marks=pytest.mark.slow),
        pytest.param("thumbs", marks=pytest.mark.slow),
        pytest.param("rating", marks=pytest.mark.slow),
    ],
)
def test_own_completions_in_each_mode(project: Project, mode: str, tmp_path: Path) -> None:
    words = ["good", "fine and good", "bad", "awful"]
    rows = [{"prompt": f"Item {i} is", "completions": [f" {w} {i}" for w in words]} for i in range(12)]
    own = tmp_path / "own.jsonl"
    own.write_text("".join(json.dumps(r) + "\n" for r in rows))
    number = free_port()
    project.write(
        collect={"annotator": "human", "annotator_args": {}, "test_share": 0.4},
        label={"annotators": ["p1"], "port": number, "mode": mode, "dataset": str(own)},
    )

    def worth(text: str) -> int:
        return next(i for i, w in enumerate(reversed(words)) if text.startswith(f" {w} "))

    def choose(item: dict[str, Any]) -> dict[str, Any]:
        worths = [worth(text) for text in item["completions"]]
        order = sorted(range(len(worths)), key=lambda i: -worths[i])
        choice = {
            "pairwise": lambda: "ab"[order[0]],
            "ranking": lambda: ">".join(map(str, order)),
            "thumbs": lambda: "like" if worths[0] > 1 else "dislike",
            "rating": lambda: str(1 + worths[0]),
        }[mode]()
        return {"type": "vote", "choice": choice}

    someone = People(project, number)
    beside(lambda: project.run("collect"), lambda: someone.client("p1").label(choose))
    made = project.latest("preferences")
    pairs = [r for split in ("train", "test") for r in made.iter_rows(split)]
    # Of four completions: six pairs; liked against disliked: four.
    assert len(pairs) == 12 * (4 if mode == "thumbs" else 6)
    assert all(worth(r["chosen"]) > worth(r["rejected"]) for r in pairs)
    if mode in ("thumbs", "rating"):
        single = [r for split in ("train", "test") for r in made.iter_rows(split, "unpaired")]
        assert all(r["label"] == (worth(r["completion"]) > 1) for r in single)
    project.run("reward")
