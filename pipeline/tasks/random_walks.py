"""Shortest walks on a random graph: a task whose best score is known, so that PPO's result can be held against it.

The game of ``examples/randomwalks`` in CarperAI's trlX: a model that has learnt to write random walks is to write
the shortest one to the goal. Here a prompt is the beginning of a walk, and the score of a completion is the fewest
steps that lead from there to the goal over the steps it takes: 1 is the optimum, from every prompt. (trlX's
"optimality" is ``(max - length) / (max - shortest)``; both are 1 for a shortest walk and 0 for one that does not
arrive.) A node is a letter, one token with the blank before it. It leaves out preferences: the score is all there
is to learn.
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
"""Where a step from each node can lead; nowhere from the goal."""


@dataclass
class Task:
    """The beginning of a random walk, to be continued to the goal in as few steps as can be.

    Twenty start nodes would not make two splits that mean something: nothing tells the way from a node that was
    never asked for. So a prompt is a walk of ``prompt_nodes`` nodes that has not met the goal. No prompt is in
    both splits, and no text of the corpus begins with a test prompt, but the same nodes end prompts of both: what
    is tested is whether the way is known from where a walk stands, however it came there.

    Args:
        nodes: how many, called a to z; a is the goal.
        edge_share: chance that a step leads from one node to another.
        graph_seed: of the graph, which the experiment's ``seed`` does not change. A reward function knows no
            ``task_args``: :func:`optimality` is for the defaults of these three.
        corpus_size: random walks to train a base on. They end at the goal, or lost after ``walk_nodes``.
        walk_nodes: most nodes of a walk, with those of its prompt.
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
        """Fewest steps to the goal, from each node."""
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

    def prompts(self, split: Split, n: int | None, seed: int) -> list[str]:
        return self._pool.draw(split, n, seed)

    def gold_scores(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        """Fewest steps over steps taken, where they follow the graph's edges and end in the goal; else 0.

        Raises:
            DataError: a prompt is no walk on this graph, so that a score would mean nothing.
        """
        return [self._score(p.split(), c.split()) for p, c in zip(prompts, completions, strict=True)]

    def _score(self, prompt: list[str], steps: list[str]) -> float:
        if not prompt or prompt[-1] == GOAL or not self._legal(prompt):
            graph = f"nodes {self.nodes}, edge_share {self.edge_share}, graph_seed {self.graph_seed}"
            raise DataError(
                f'task random_walks, prompt "{" ".join(prompt)}"',
                f"leads nowhere on the graph of {graph}.",
                "A reward function is for one graph: see pipeline.tasks.random_walks:optimality",
            )
        # Nothing leads away from the goal, so a walk that goes on behind it is not legal.
        arrives = steps[-1:] == [GOAL] and self._legal([prompt[-1], *steps])
        return self.shortest[prompt[-1]] / len(steps) if arrives else 0.0

    def _legal(self, walk: list[str]) -> bool:
        return walk[0] in self.edges and all(step in self.edges[node] for node, step in itertools.pairwise(walk))


def optimality(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
    """The score as a reward function, on the graph of the default options.

    For another graph, a module of your own needs one line, ``optimality = Task(graph_seed=3).gold_scores``; a
    prompt that is no walk on the function's graph is an error, never a low score.
    """
    return _default_task().gold_scores(prompts, completions)


@functools.cache
def _default_task() -> Task:
    return Task()


def random_graph(nodes: int, edge_share: float, seed: int) -> dict[str, list[str]]:
    """A directed graph in which the goal, which nothing leads away from, can be reached from every node.

    Every edge is there with the same chance; graphs that do not fit are drawn again.

    Raises:
        ValueError: no graph fits.
    """
    rng = random.Random(f"graph {seed}")
    names = string.ascii_lowercase[:nodes]
    for _ in range(TRIES):
        edges = {a: [b for b in names if a not in (GOAL, b) and rng.random() < edge_share] for a in names}
        if len(steps_to_goal(edges)) == nodes:
            return edges
    raise ValueError(f"edge_share = {edge_share} is too low: no graph leads from every node to the goal.")


def steps_to_goal(edges: Edges) -> dict[str, int]:
    """Fewest steps to the goal by breadth-first search; without the nodes that it cannot be reached from."""
    steps: dict[str, int] = {}
    layer = [GOAL]
    while layer:
        steps |= dict.fromkeys(layer, 1 + max(steps.values(), default=-1))
        layer = [a for a in edges if a not in steps and any(b in layer for b in edges[a])]
    return steps
