"""One turn over HTTP in OpenEnv's protocol, against a server on this machine that keeps to it, and does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.base.errors import ConfigError, DataError, ModelError, PipelineError
from pipeline.tasks import Simulated, http_environment, load_task
from pipeline.tasks.http_environment import LARGEST_REPLY, Task
from tests.helpers.openenv_double import Answer, Sums, served


@pytest.fixture(scope="module")
def server() -> Iterator[Sums]:
    with served(Sums()) as sums:
        yield sums


@pytest.fixture
def sums(server: Sums, monkeypatch: pytest.MonkeyPatch) -> Sums:
    server.keeps, server.change, server.episode = True, None, None
    server.asked.clear()
    server.headers.clear()
    monkeypatch.setattr(http_environment.time, "sleep", lambda _: None)
    return server


def task_of(sums: Sums, **more: Any) -> Task:
    args = {"prompt": "task.question", "action": "answer", "train_seeds": 3, "test_seeds": 2, "attempts": 2}
    return Task(**({"url": sums.url} | args | more))


def test_the_environment_s_reward_is_the_score(sums: Sums) -> None:
    task = task_of(sums)
    assert isinstance(task, Simulated)
    assert sorted(task.prompts("train", None, 0)) == [f"What is {i} + 1?" for i in range(3)]
    assert set(task.prompts("test", None, 0)) == {"What is 1000000 + 1?", "What is 1000001 + 1?"}
    prompts = ["What is 2 + 1?", "What is 0 + 1?", "What is 2 + 1?"]
    # Not in the order of the seeds. Catches: stepping the episode that was begun last, and " 3" as it is
    assert task.rewards(prompts, [" 3", " 3", " 4"]) == [1.0, 0.0, 0.0]
    steps = [body for path, body in sums.asked if path == "/step"]
    assert steps[0] == {"action": {"answer": "3"}, "seed": 2, "episode_id": "2"}
    assert task.gold_scores(prompts, [" 3", " 3", " 4"]) == [1.0, 0.0, 0.0]
    assert len([path for path, _ in sums.asked if path == "/step"]) == 3, "an answer is asked for once"


def test_a_server_that_forgets_is_refused_and_echo_is_for_it(sums: Sums) -> None:
    # OpenEnv's server makes an environment for each request. Catches: judging all by the question of no seed.
    sums.keeps = False
    with pytest.raises(ModelError, match=r"/state does not know the episode.*task_args\.echo"):
        task_of(sums).prompts("train", 1, 0)
    task = task_of(sums, echo=["item"], action_args={"unit": "m"})
    assert task.rewards(["What is 2 + 1?", "What is 1 + 1?"], ["3", "3"]) == [1.0, 0.0]
    assert sums.asked[-1][1]["action"] == {"unit": "m", "item": 1, "answer": "3"}
    with pytest.raises(ModelError, match='has no "id" to echo; it has task, item'):
        task_of(sums, echo=["id"]).prompts("train", 1, 0)


def test_a_server_without_state_can_be_believed(sums: Sums) -> None:
    sums.change = lambda path, _, right: (404, {}) if path == "/state" else right
    with pytest.raises(ModelError, match="does not know the episode"):
        task_of(sums).prompts("train", 1, 0)
    assert task_of(sums, episode="kept").rewards(["What is 1 + 1?"], ["2"]) == [1.0]


def test_a_refused_answer_has_the_score_that_is_named(sums: Sums) -> None:
    with pytest.raises(ModelError, match=r"refuses the answer ' .n'.*Set task_args\.refused_score"):
        task_of(sums).rewards(["What is 1 + 1?"], [" \n"])
    task = task_of(sums, refused_score=-1.0)
    assert task.rewards(["What is 1 + 1?"] * 2, ["", " 2"]) == [-1.0, 1.0]
    assert task.events(["What is 1 + 1?"] * 2, ["", " 2"]) == {"refused": [True, False]}


def step(**change: Any) -> Any:
    return lambda path, _, right: (right[0], right[1] | change) if path == "/step" else right


def fails(status: int, content: Any = b"", path: str = "/step") -> Any:
    return lambda asked, _, right: (status, content) if asked == path else right


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (step(done=False), "not over after one step.*environments of one turn"),
        (step(reward=None), '"reward" is None, not a finite number'),
        (step(reward="1"), "\"reward\" is '1', not a finite number"),
        (step(reward=float("nan")), '"reward" is nan'),
        (step(observation=[]), 'no object "observation"'),
        (fails(500), "no answer in 2 attempts: /step: HTTP 500"),
        (fails(200, b"<html>"), "the answer is no JSON"),
        (fails(200, [1]), "the answer is no JSON object"),
        (fails(200, b" " * (LARGEST_REPLY + 1)), "answered more than 4 MB"),
        (fails(307), "HTTP 307.*final address"),
        (fails(403, {"detail": "no\nentry"}), 'HTTP 403. {"detail": "no.nentry"} Check task_args.url'),
        (fails(422, {}, "/reset"), "/reset: HTTP 422"),
        (fails(200, {"observation": {"a": 1}}, "/reset"), 'has no "task.question"; there is: a'),
        (fails(200, {"observation": {"task": {"question": 3}}}, "/reset"), "is 3, not a text"),
        (fails(200, {"observation": {"task": {"question": "Same?"}}}, "/reset"), "every prompt of the test split"),
    ],
)
def test_a_server_that_misbehaves_is_named(sums: Sums, change: Any, words: str) -> None:
    sums.change = change
    task = task_of(sums)
    with pytest.raises(PipelineError, match=words) as caught:
        task.rewards([p for p in task.prompts("train", None, 0) if "2" in p], ["3"])
    assert sums.url in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_failure_that_passes_begins_the_episode_again(sums: Sums) -> None:
    # Catches: a second /step of the same episode, which the first may have ended.
    task, failed = task_of(sums), list[str]()
    task.prompts("train", None, 0)

    def once(path: str, _: Any, right: Answer) -> Answer:
        failed.append(path)
        return (503, b"") if path == "/step" and failed.count("/step") == 1 else right

    sums.change = once
    assert task.rewards(["What is 1 + 1?"], ["2"]) == [1.0]
    assert failed == ["/reset", "/step", "/reset", "/step"]


def test_a_question_that_changes_is_no_question(sums: Sums) -> None:
    task = task_of(sums)
    task.prompts("train", None, 0)
    changed = {"observation": {"task": {"question": "What else?"}}}
    sums.change = fails(200, changed, "/reset")
    with pytest.raises(ModelError, match="asks something else for seed 1 a second time"):
        task.rewards(["What is 1 + 1?"], ["2"])
    with pytest.raises(DataError, match="a question of none of its seeds"):
        task.rewards(["What else?"], ["2"])


def test_no_server(sums: Sums) -> None:
    with pytest.raises(ModelError, match=r"http://127.0.0.1:9: no answer in 2 attempts"):
        task_of(sums, url="http://127.0.0.1:9").prompts("train", 1, 0)


def test_a_token_comes_from_the_environment_alone(sums: Sums, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUMS_TOKEN", "one two")
    task_of(sums, token_env="SUMS_TOKEN").prompts("train", 1, 0)
    assert {headers["Authorization"] for headers in sums.headers} == {"Bearer one two"}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"url": "127.0.0.1:8000"}, "not an address such as"),
        ({"url": "http://me:pass@127.0.0.1"}, "a token belongs into the variable"),
        ({"timeout": 0}, r"timeout = 0.* should be above 0"),
        ({"action_args": {"answer": "x"}}, "'answer' is the answer's own field"),
    ],
)
def test_options_that_cannot_be(args: dict[str, Any], words: str) -> None:
    full = {"url": "http://127.0.0.1:1", "prompt": "question", "action": "answer", **args}
    with pytest.raises(ConfigError, match=words):
        load_task("http_environment", full, "configs/x.yaml")
