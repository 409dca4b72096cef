"""Shortest walks on a random graph: a task with a known optimum, against which PPO's result can be measured.

The game of ``examples/randomwalks`` in CarperAI's trlX: a model trained on random walks learns to write the
shortest one to the goal. Here a prompt is the start of a walk, and the score of a completion is the minimal number
of steps from there to the goal, divided by the steps taken: the optimum is 1 for every prompt. (trlX's
"optimality" is ``(max - length) / (max - shortest)``; both are 1 for a shortest walk and 0 for one that does not
arrive.) A node is a letter, one token together with the space before it.
"""

from __future__ import annotations

import functools
import itertools
import random
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from pipeline.base.errors import DataError
from pipeline.tasks import Split
from pipeline.tasks._pool import PromptPool, pool_by_hash

GOAL = "a"
TRIES = 1000

Edges = Mapping[str, Sequence[str]]
"""The successors of each node; the goal has none."""


@dataclass
class Task:
    """Continue the start of a random walk to the goal in as few steps as possible.

    A single start node would be a poor prompt: the way from a node that is only in the test split cannot be
    learnt. So a prompt is a walk of ``prompt_nodes`` nodes without the goal. No prompt is in both splits, and no
    text of the corpus starts with a test prompt, but prompts of both splits end in the same nodes: the test
    measures whether the model knows the way from the current node, however the walk came there.

    Args:
        nodes: number of nodes, called a to z; a is the goal.
        edge_share: probability of an edge from one node to another.
        graph_seed: seed of the graph, independent of the experiment's ``seed``. A reward function gets no
            ``task_args``: :func:`optimality` is for the defaults of these three.
        corpus_size: random walks to train a base on. They end at the goal or after ``walk_nodes``.
        walk_nodes: most nodes of a walk, including its prompt.
        prompt_nodes: nodes of a prompt.
        test_share: share of the prompts that are test prompts.
    """

    nodes: int = 21
    edge_share: float = 0.1
    graph_seed: int = 8
    corpus_size: int = 6000
    walk_nodes: int = 16
    prompt_nodes: int = 4
    test_share: float = 0.5
    completion_tokens: int = field(init=False)
    gold_name: str | None = field(init=False, default="share of the optimum (0..1)")

    def __post_init__(self) -> None:
        longest = self.prompt_nodes + max(self.shortest.values())
        if self.walk_nodes < longest:
            raise ValueError(f"walk_nodes = {self.walk_nodes} should be {longest} or more, to reach the goal.")
        self.completion_tokens = self.walk_nodes - self.prompt_nodes + 1  # and the token that ends it

    @cached_property
    def edges(self) -> Edges:
        """The graph."""
        return random_graph(self.nodes, self.edge_share, self.graph_seed)

    @cached_property
    def shortest(self) -> dict[str, int]:
        """Minimal number of steps to the goal, by node."""
        return steps_to_goal(self.edges)

    @cached_property
    def _pool(self) -> PromptPool:
        walks = [[node] for node in self.edges if node != GOAL]
        for _ in range(self.prompt_nodes - 1):
            walks = [[*walk, step] for walk in walks for step in self.edges[walk[-1]] if step != GOAL]
        return pool_by_hash((" ".join(walk) for walk in walks), self.test_share, "task random_walks")

    def corpus(self, seed: int) -> list[str]:
        rng = random.Random(f"corpus {seed}")
        starts = [node for node in self.edges if node != GOAL]
        held_out = set(self._pool.test)
        walks: list[str] = []
        while len(walks) < self.corpus_size:
            walk = [rng.choice(starts)]
            while walk[-1] != GOAL and len(walk) < self.walk_nodes:
                walk.append(rng.choice(self.edges[walk[-1]]))
            if " ".join(walk[: self.prompt_nodes]) not in held_out:
                walks.append(" ".join(walk))
        return walks

    def prompts(self, split: Split, n: int | None, seed: int) -> Sequence[str]:
        return self._pool.draw(split, n, seed)

    def gold_scores(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        """Minimal steps over steps taken, where they follow the graph's edges and end in the goal; else 0.

        Raises:
            DataError: a prompt is not a walk on this graph.
        """
        return [self._score(p.split(), c.split()) for p, c in zip(prompts, completions, strict=True)]

    def _score(self, prompt: list[str], steps: list[str]) -> float:
        if not prompt or prompt[-1] == GOAL or not self._legal(prompt):
            graph = f"nodes {self.nodes}, edge_share {self.edge_share}, graph_seed {self.graph_seed}"
            where = f'task random_walks, prompt "{" ".join(prompt)}"'
            remedy = "A reward function is for one graph: see pipeline.tasks.random_walks:optimality"
            raise DataError(where, f"is not a walk on the graph of {graph}.", remedy)
        # The goal has no successor, so a walk that continues after it is not legal.
        arrives = steps[-1:] == [GOAL] and self._legal([prompt[-1], *steps])
        return self.shortest[prompt[-1]] / len(steps) if arrives else 0.0

    def _legal(self, walk: list[str]) -> bool:
        return walk[0] in self.edges and all(step in self.edges[node] for node, step in itertools.pairwise(walk))


def optimality(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
    """The score as a reward function, on the graph of the default options.

    For another graph write a module with one line, ``optimality = Task(graph_seed=3).gold_scores``. A prompt that
    is not a walk on the function's graph is an error, never a low score.
    """
    return _default_task().gold_scores(prompts, completions)


@functools.cache
def _default_task() -> Task:
    return Task()


def random_graph(nodes: int, edge_share: float, seed: int) -> dict[str, list[str]]:
    """A random directed graph in which every node has a path to the goal, and the goal has no successor.

    Edges have equal probability; graphs that violate this are rejected.

    Raises:
        ValueError: no such graph after :data:`TRIES`.
    """
    rng = random.Random(f"graph {seed}")
    names = string.ascii_lowercase[:nodes]
    for _ in range(TRIES):
        edges = {a: [b for b in names if a not in (GOAL, b) and rng.random() < edge_share] for a in names}
        if len(steps_to_goal(edges)) == nodes:
            return edges
    raise ValueError(f"edge_share = {edge_share} is too low: no graph leads from every node to the goal.")


def steps_to_goal(edges: Edges) -> dict[str, int]:
    """Minimal steps to the goal by breadth-first search, for the nodes that have a path to it."""
    steps: dict[str, int] = {}
    layer = [GOAL]
    while layer:
        steps |= dict.fromkeys(layer, 1 + max(steps.values(), default=-1))
        layer = [a for a in edges if a not in steps and any(b in layer for b in edges[a])]
    return steps
