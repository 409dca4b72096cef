"""Random walks: scores and shortest ways counted by hand, and 1 as the optimum from every prompt."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from pipeline.base.errors import ConfigError, DataError
from pipeline.modeling.scratch import train_tokenizer
from pipeline.scoring.named_functions import load_function
from pipeline.scoring.reward_functions import FunctionScorer
from pipeline.tasks import load_task, random_walks
from pipeline.tasks.random_walks import Task, optimality, random_graph, steps_to_goal

# b -> a is the only way in; c - d - b - c is a cycle. Steps to a, counted by hand: b 1, d 2, e 2, c 3.
HAND = {"a": [], "b": ["a", "c"], "c": ["d"], "d": ["b", "c"], "e": ["b", "d"]}


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Task:
    monkeypatch.setattr(random_walks, "random_graph", lambda *_: HAND)
    return Task(nodes=5, prompt_nodes=1)


def test_shortest_ways_by_hand() -> None:
    # Catches: searching along the edges instead of against them; e leads to d and b, and nothing leads to e.
    assert steps_to_goal(HAND) == {"a": 0, "b": 1, "d": 2, "e": 2, "c": 3}
    assert steps_to_goal({**HAND, "f": ["g"], "g": ["f"]}) == steps_to_goal(HAND), "no way is no distance"


def test_shortest_ways_by_walking_forward() -> None:
    # Independent of the search backward: all nodes that k steps can lead to, until the goal is among them.
    task = Task()
    for node in task.edges:
        there, k = {node}, 0
        while "a" not in there:
            there, k = {step for n in there for step in task.edges[n]}, k + 1
        assert task.shortest[node] == k


@pytest.mark.parametrize(
    ("prompt", "completion", "score"),
    [
        ("b", " a", 1.0),
        ("e", " b a", 1.0),
        ("e", " d b a", 2 / 3),
        ("e", " b c d b a", 2 / 5),  # once round the cycle. Catches: counting nodes, 3 / 6
        ("c d", " b a", 1.0),  # from d. Catches: from where the prompt begins, or with the prompt's steps
        ("c", "d b a", 1.0),  # blanks do not matter
        ("b", " c d", 0.0),  # does not arrive
        ("e", " a", 0.0),  # no such edge
        ("e", " b d b a", 0.0),  # b -> d is none, though it arrives. Catches: looking at the last edge only
        ("b", " a b a", 0.0),  # goes on behind the goal. Catches: reading up to the first a
        ("b", " a a", 0.0),
        ("b", " a.", 0.0),
        ("c", " dba", 0.0),
        ("b", " z a", 0.0),
        ("b", "", 0.0),
        ("b", " \n", 0.0),
    ],
)
def test_scores_by_hand(task: Task, prompt: str, completion: str, score: float) -> None:
    assert task.gold_scores([prompt], [completion]) == [pytest.approx(score)]


@pytest.mark.parametrize("prompt", ["", "z", "e a", "a", "b d", "e b a"])
def test_a_prompt_that_leads_nowhere_is_an_error(task: Task, prompt: str) -> None:
    with pytest.raises(DataError, match="is not a walk on the graph of nodes 5"):
        task.gold_scores([prompt], [" a"])


@pytest.mark.parametrize("seed", range(4))
def test_the_optimum_is_one_from_every_prompt(seed: int) -> None:
    task = Task(graph_seed=seed, prompt_nodes=2, test_share=0.3)
    prompts = task.prompts("train", None, 0) + task.prompts("test", None, 0)
    best: list[str] = []
    for prompt in prompts:
        walk = [prompt.split()[-1]]
        while walk[-1] != "a":
            walk.append(min(task.edges[walk[-1]], key=task.shortest.__getitem__))
        best.append(" ".join(walk[1:]))
    assert set(task.gold_scores(prompts, best)) == {1.0}
    assert max(len(walk.split()) for walk in best) < task.completion_tokens, "no room for the token that ends it"


def test_a_completion_has_room_for_the_token_that_ends_it() -> None:
    # Catches: leaving out the 1. Of 12 nodes the prompt has 4, and the longest way takes the other 8.
    assert Task(walk_nodes=12).completion_tokens == 8 + 1


def test_corpus_is_of_random_walks_none_of_which_begins_with_a_test_prompt() -> None:
    task = Task()
    held_out = task.prompts("test", None, 0)
    corpus = task.corpus(0)
    assert len(corpus) == task.corpus_size
    for walk in corpus:
        nodes = walk.split()
        assert all(b in task.edges[a] for a, b in itertools.pairwise(nodes))
        assert nodes[-1] == "a" or len(nodes) == task.walk_nodes
    assert not [walk for walk in corpus for prompt in held_out if f"{walk} ".startswith(f"{prompt} ")]
    scores = task.gold_scores([walk[0] for walk in corpus], [walk[1:] for walk in corpus])
    assert sum(scores) / len(scores) < 0.5, "nothing left to learn"
    assert sum(score == 1 for score in scores) / len(scores) > 0.1, "the shortest walks are never seen"


def test_the_seed_changes_the_walks_and_not_the_graph() -> None:
    assert Task().corpus(0) == Task().corpus(0) != Task().corpus(1)
    assert sorted(Task().prompts("test", None, 0)) == sorted(Task().prompts("test", None, 1))
    assert Task().edges == Task().edges != Task(graph_seed=1).edges
    # The graph that configs/random_walks.yaml tells figures of.
    assert Task().edges["m"] == ["a", "d", "i", "l", "n"]
    assert Task().shortest["l"] == max(Task().shortest.values()) == 8


def test_every_node_that_ends_a_test_prompt_ends_a_train_prompt() -> None:
    task = Task()
    ends = {split: {prompt[-1] for prompt in task.prompts(split, None, 0)} for split in ("train", "test")}  # type: ignore[arg-type]
    assert ends["test"] <= ends["train"]


def test_a_node_is_a_token() -> None:
    task = Task()
    corpus = task.corpus(0)
    tokenizer = train_tokenizer(corpus, 300)
    for text in corpus[:200] + [walk[1:] for walk in corpus[:200]]:
        assert len(tokenizer(text)["input_ids"]) == len(text.split())


def test_the_reward_function_is_the_gold_score_of_the_default_graph() -> None:
    task = Task()
    prompts = task.prompts("train", 30, 0)
    completions = [" " + " ".join(task.edges[prompt[-1]][:1]) for prompt in prompts]
    name = "pipeline.tasks.random_walks:optimality"
    function = load_function(name, "ppo.reward")
    assert FunctionScorer(function, name).function is optimality
    assert function(prompts=prompts, completions=completions) == task.gold_scores(prompts, completions)
    with pytest.raises(DataError, match=r"see pipeline\.tasks\.random_walks:optimality"):
        optimality(Task(graph_seed=3).prompts("train", 30, 0), completions)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"walk_nodes": 11}, "walk_nodes = 11 should be 12 or more, to reach the goal"),
        ({"edge_share": 0.01}, "edge_share = 0.01 is too low: no graph leads from every node to the goal"),
        ({"completion_tokens": 9}, "completion_tokens"),  # follows from the others
    ],
)
def test_options_that_make_no_sense(args: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_task("random_walks", args, "configs/x.yaml")
    assert said in str(caught.value)


def test_a_graph_of_the_least_and_the_most_nodes() -> None:
    assert set(random_graph(3, 0.5, 0)) == set("abc")
    assert len(steps_to_goal(random_graph(26, 0.2, 0))) == 26
