"""Plans of actions as completions: what every task that acts in an environment shares.

A prompt is the first state of an episode in words, and belongs to one seed of the environment. A completion is the
plan, one word for each step, carried out without looking again (open loop). Its outcome is simulated, once for
each seed and plan. Held-out prompts are held-out seeds.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from pipeline.base.errors import DataError
from pipeline.tasks import Split
from pipeline.tasks._pool import PromptPool, pool_by_name

Plan = tuple[int, ...]
"""The number of the action of each step."""

FIRST_TEST_SEED = 1_000_000
STICKY = 0.7
"""How likely the second kind of random driver repeats its last action."""

TRIED = 40
"""Seeds on which the best constant action is chosen, the first of those to learn on."""

BEST_OF_EACH = "best constant action of each prompt"


@dataclass(frozen=True)
class Outcome:
    """What a plan led to.

    Attributes:
        score: higher is better.
        events: what happened, of the simulation's ``events``.
    """

    score: float
    events: frozenset[str] = frozenset()


class Simulation(Protocol):
    """An environment that begins in the same state for the same seed, and does the same for the same plan."""

    @property
    def events(self) -> Sequence[str]:
        """What may happen in an episode, such as ``crash``."""
        ...

    def first_state(self, seed: int) -> str:
        """The state of an episode before its first step, in words."""
        ...

    def run(self, seed: int, plan: Plan) -> Outcome:
        """What the plan leads to, from the first state of ``seed``."""
        ...


class PlanTask:
    """The methods of a task of plans; a subclass has its options, and makes the simulation."""

    actions: list[str]
    horizon: int
    train_seeds: int
    test_seeds: int
    corpus_size: int

    def simulation(self) -> Simulation:
        """The environment; called once, when it is first needed.

        Raises:
            ConfigError: it is not installed, or cannot be made.
        """
        raise NotImplementedError

    def prompts(self, split: Split, n: int | None, seed: int) -> Sequence[str]:
        """See :class:`pipeline.tasks.Task`."""
        return self._pool.draw(split, n, seed)

    def corpus(self, seed: int) -> list[str]:
        """First states with the plans of drivers that look at nothing: half of them draw every action anew, half
        mostly repeat the last one."""
        rng = random.Random(f"corpus {seed}")
        states = self._pool.train
        return [self._demonstration(rng.choice(states), rng) for _ in range(self.corpus_size)]

    def gold_scores(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        """The score of each outcome, less that of the best constant action on the same seed.

        Raises:
            DataError: a prompt is no first state of this task's seeds.
        """
        outcomes = self._outcomes(prompts, completions)
        return [
            outcome.score - self._outcome(self._seed_of(prompt), self._best_constant).score
            for outcome, prompt in zip(outcomes, prompts, strict=True)
        ]

    def rewards(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        """The score of each outcome, for ``ppo.reward: task``. Raises as :meth:`gold_scores`."""
        return [outcome.score for outcome in self._outcomes(prompts, completions)]

    def events(self, prompts: Sequence[str], completions: Sequence[str]) -> dict[str, list[bool]]:
        """What happened, for each completion. Raises as :meth:`gold_scores`."""
        outcomes = self._outcomes(prompts, completions)
        return {event: [event in o.events for o in outcomes] for event in (*self._simulation.events, "no plan")}

    def references(self, prompts: Sequence[str]) -> dict[str, list[str]]:
        """The plans of who learns nothing, by name: every constant action, the best of them, and a random plan.

        The last is the best constant action of each prompt, chosen after all were tried, which nobody could do.
        """
        seeds = [self._seed_of(prompt) for prompt in prompts]
        constants = [(number,) * self.horizon for number in range(len(self.actions))]
        plans = {f"always {self.actions[plan[0]]}": [self._words(plan)] * len(seeds) for plan in constants}
        plans["random"] = [self._words(self._random(random.Random(f"random driver {seed}"))) for seed in seeds]
        best = [max(constants, key=lambda plan, seed=seed: self._outcome(seed, plan).score) for seed in seeds]
        return {**plans, BEST_OF_EACH: [self._words(plan) for plan in best]}

    def _demonstration(self, prompt: str, rng: random.Random) -> str:
        """A text of the corpus."""
        return prompt + self._words(self._random(rng, rng.choice((0.0, STICKY))))

    def _random(self, rng: random.Random, sticky: float = 0.0) -> Plan:
        plan = [rng.randrange(len(self.actions))]
        while len(plan) < self.horizon:
            plan.append(plan[-1] if rng.random() < sticky else rng.randrange(len(self.actions)))
        return tuple(plan)

    def _words(self, plan: Plan) -> str:
        return "".join(f" {self.actions[number]}" for number in plan)

    def _plan(self, completion: str) -> Plan | None:
        """The plan; None where the text is not ``horizon`` words that are all actions."""
        words = completion.split()
        readable = len(words) == self.horizon and all(word in self._numbers for word in words)
        return tuple(self._numbers[word] for word in words) if readable else None

    def _outcomes(self, prompts: Sequence[str], completions: Sequence[str]) -> list[Outcome]:
        return [
            self._outcome(self._seed_of(prompt), self._plan(completion))
            for prompt, completion in zip(prompts, completions, strict=True)
        ]

    def _outcome(self, seed: int, plan: Plan | None) -> Outcome:
        if plan is None:
            return Outcome(self._unreadable_score(seed), frozenset(["no plan"]))
        if (seed, plan) not in self._known:
            self._known[seed, plan] = self._simulation.run(seed, plan)
        return self._known[seed, plan]

    def _unreadable_score(self, seed: int) -> float:
        """Of a text that is no plan: 1 less than the worst constant action, so that silence never pays."""
        return min(self._constant_scores(seed)) - 1

    def _constant_scores(self, seed: int) -> list[float]:
        return [self._outcome(seed, (number,) * self.horizon).score for number in range(len(self.actions))]

    @cached_property
    def _best_constant(self) -> Plan:
        """The constant plan with the highest mean over the first training seeds; the first of equals."""
        scores = [self._constant_scores(seed) for seed in range(min(TRIED, self.train_seeds))]
        means = [sum(column) for column in zip(*scores, strict=True)]
        return (means.index(max(means)),) * self.horizon

    def _seed_of(self, prompt: str) -> int:
        if prompt not in self._seeds:
            shown = prompt if len(prompt) <= 60 else f"{prompt[:60]}..."
            what = f'the prompt "{shown}" is the first state of none of its seeds.'
            raise DataError(
                self._name, what, "Its prompts were made with other task_args: run  make collect  again."
            )
        return self._seeds[prompt]

    @property
    def _name(self) -> str:
        return f"task {type(self).__module__.removeprefix('pipeline.tasks.')}"

    @cached_property
    def _numbers(self) -> Mapping[str, int]:
        return {word: number for number, word in enumerate(self.actions)}

    @cached_property
    def _simulation(self) -> Simulation:
        return self.simulation()

    @cached_property
    def _known(self) -> dict[tuple[int, Plan], Outcome]:
        return {}

    @cached_property
    def _states(self) -> dict[int, str]:
        seeds = [*range(self.train_seeds), *range(FIRST_TEST_SEED, FIRST_TEST_SEED + self.test_seeds)]
        return {seed: self._simulation.first_state(seed) for seed in seeds}

    @cached_property
    def _seeds(self) -> dict[str, int]:
        """The seed of each first state; of equal states the first, which is then the episode of all of them."""
        return {state: seed for seed, state in reversed(self._states.items())}

    @cached_property
    def _pool(self) -> PromptPool:
        sides: dict[bool, list[str]] = {False: [], True: []}
        for seed, state in self._states.items():
            sides[seed >= FIRST_TEST_SEED].append(state)
        return pool_by_name(sides[False], sides[True], self._name)
